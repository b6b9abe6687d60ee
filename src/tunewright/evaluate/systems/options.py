"""What a project file may say of an HTTP endpoint. Light: no network, no torch."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from tunewright.core.config import Section

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


class Address(Section):
    """Where an OpenAI-compatible chat endpoint answers, and how patiently it is asked."""

    base_url: str
    """Up to and including `/v1`; nothing but this address is asked."""
    model: str
    """Model name to send."""
    api_key_env: str = ""
    """NAME of the environment variable that holds the key; the key itself never stands in the project file."""
    timeout_s: float = Field(default=60, gt=0)
    """Longest silence of the endpoint before it is asked again."""
    retries: int = Field(default=4, ge=0, le=20)
    """Further tries after 429, 5xx, a timeout or a lost connection, with growing waits."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Requests under way at a time."""
    limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the longest answer."""
    sends_temperature: bool = True
    """Whether `temperature: 0` is sent; a few models refuse the key."""

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write http://HOST:PORT/v1 or https://HOST/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("only scheme, host, port and path belong here; a key goes into the environment")
        return value.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value and not _VARIABLE.fullmatch(value):
            raise ValueError("give the NAME of an environment variable in capitals, such as MY_API_KEY, not the key")
        return value
