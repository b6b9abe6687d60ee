"""The `serve:` section of the project file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from tunewright.core.config import Section, expand_secret

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ServeConfig(Section):
    """The OpenAI-compatible server."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs an api_key."""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes any free port."""
    api_key: SecretStr | None = None
    """Key that requests must carry; `${NAME}` reads it from the environment."""
    engine: Literal["auto", "transformers"] = "auto"
    batch_size: int = Field(default=8, ge=1)
    """Requests generated together."""
    queue: int = Field(default=64, ge=0)
    """Requests that may wait; a further one is answered 429."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Upper bound of max_tokens, and its default."""
    max_body_bytes: int = Field(default=1_000_000, ge=1000)
    """A larger request is answered 413."""
    shutdown_timeout_s: float = Field(default=30, ge=0)
    """After SIGTERM running answers may finish for this long."""

    @field_validator("api_key")
    @classmethod
    def _from_environment(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(expand_secret(value.get_secret_value())) if value else None

    @model_validator(mode="after")
    def _key_off_loopback(self) -> ServeConfig:
        if self.host not in LOOPBACK and self.api_key is None:
            raise ValueError(f"host {self.host} can be reached by others; set serve.api_key, or keep 127.0.0.1")
        return self
