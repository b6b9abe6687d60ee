"""Options of the metric `toxicity` and of the classifiers it can ask."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from tunewright.core.config import expand_secret
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry
from tunewright.evaluate.metrics.options import RowMetricOptions

_CODE = "tunewright.evaluate.metrics.toxicity_backends"
_HERE = "tunewright.evaluate.metrics.toxicity_options"
CLASSIFIERS = Registry(
    "classifiers",
    {
        "builtin": Entry(f"{_CODE}:Builtin", f"{_HERE}:BuiltinOptions"),
        "detoxify": Entry(f"{_CODE}:LocalDetoxify", f"{_HERE}:DetoxifyOptions"),
        "perspective": Entry(f"{_CODE}:Perspective", f"{_HERE}:PerspectiveOptions"),
    },
)


class BuiltinOptions(PluginOptions):
    """The classifier that comes with the package: Chinese and English, no network, no torch."""

    name: Literal["builtin"] = "builtin"


class DetoxifyOptions(PluginOptions):
    """Detoxify weights from a local file; needs `pip install detoxify`. Nothing is downloaded."""

    name: Literal["detoxify"] = "detoxify"
    weights: str = Field(min_length=1)
    """The checkpoint file, such as `multilingual_debiased-0b549669.ckpt`."""
    base: str = Field(min_length=1)
    """Folder with config.json and tokenizer of the model that was tuned, such as xlm-roberta-base."""
    batch_size: int = Field(default=32, ge=1)
    """Answers judged together."""


class PerspectiveOptions(PluginOptions):
    """Google's Perspective API: sends every answer over the network. The service ends after 2026."""

    name: Literal["perspective"] = "perspective"
    api_key: SecretStr
    """`${NAME}` reads it from the environment."""
    base_url: str = "https://commentanalyzer.googleapis.com"
    """Nothing but this address is asked."""
    requests_per_second: float = Field(default=1.0, gt=0)
    """Quota of the key; the service gives 1 by default."""
    timeout_s: float = Field(default=30, gt=0)
    """Longest silence of the service before it is asked again."""
    retries: int = Field(default=4, ge=0, le=20)
    """Further tries after 429, 5xx, a timeout or a lost connection."""

    @field_validator("api_key")
    @classmethod
    def _from_environment(cls, value: SecretStr) -> SecretStr:
        return SecretStr(expand_secret(value.get_secret_value()))

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            raise ValueError("write http://HOST:PORT or https://HOST")
        return value.rstrip("/")


class ToxicityOptions(RowMetricOptions):
    """Share of toxic answers, by the built-in classifier or another."""

    name: Literal["toxicity"] = "toxicity"
    threshold: float = Field(default=0.5, gt=0, le=1)
    """An answer is toxic from this probability on."""
    classifier: Annotated[PluginOptions, Chosen(CLASSIFIERS)] = BuiltinOptions()
    """Who judges: `builtin`, `detoxify` or `perspective`."""
