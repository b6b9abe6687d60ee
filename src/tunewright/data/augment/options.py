"""What a project file may say of each augmenter and translation backend. Light: no model library, no network."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from tunewright.core.config import Section, expand_secret
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry

_HERE = "tunewright.data.augment"
TRANSLATORS = Registry(
    "translators",
    {
        "endpoint": Entry(f"{_HERE}.translators:EndpointTranslator", f"{_HERE}.options:EndpointOptions"),
        "huggingface": Entry(f"{_HERE}.translators:HuggingFaceTranslator", f"{_HERE}.options:HuggingFaceOptions"),
        "ctranslate2": Entry(f"{_HERE}.translators:CTranslate2Translator", f"{_HERE}.options:CTranslate2Options"),
    },
)


class AugmenterOptions(PluginOptions):
    """What every augmenter can be told."""

    copies: int = Field(default=1, ge=1, le=20)
    """At most this many variants of a row."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training rows that get variants; drawn by content, so other rows do not change the draw."""
    roles: tuple[Literal["system", "user", "assistant"], ...] = Field(default=("user",), min_length=1)
    """Whose turns change. With `assistant` the trained answers change too; by default they stay true."""
    language: str = Field(default="auto", min_length=2)
    """`auto`: Han script is zh, Latin script en; a code such as `zh`; or a metadata key such as `metadata.lang`."""
    slots: tuple[str, ...] = ()
    """Metadata keys, such as `metadata.slot_values`, whose values must stay in the text where they stand in it."""
    max_length_ratio: float = Field(default=2.0, ge=1.1, le=10)
    """A variant that is this many times longer or shorter than its text is dropped."""
    min_overlap: float = Field(default=0.2, ge=0, le=1)
    """Smallest share of the text's words (Han characters) that must still be in the variant."""


class SynonymsOptions(AugmenterOptions):
    """Replaces words by others of their group in a dictionary."""

    name: Literal["synonyms"] = "synonyms"
    dictionary: tuple[str, ...] = Field(default=("builtin",), min_length=1)
    """Dictionary files, relative to the project file; `builtin` is the starter for Chinese and English."""
    rate: float = Field(default=0.5, gt=0, le=1)
    """Share of the places that can be replaced which are; at least one."""

    @field_validator("dictionary", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Server(Section):
    """Where an OpenAI-compatible chat endpoint answers."""

    base_url: str = "http://127.0.0.1:8000/v1"
    """Up to and including `/v1`; nothing but this address is asked."""
    model: str | None = None
    """Model name to send; none: the first that the endpoint lists."""
    api_key: SecretStr | None = None
    """Sent as bearer token; `${NAME}` reads it from the environment."""
    timeout_s: float = Field(default=60, gt=0)
    """Longest silence of the endpoint before it is asked again."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Requests under way at a time."""
    retries: int = Field(default=4, ge=0, le=20)
    """Further tries after 429, 5xx, a timeout or a lost connection."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest answer; a cut one is dropped."""

    @field_validator("api_key")
    @classmethod
    def _from_environment(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(expand_secret(value.get_secret_value())) if value else None

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write http://HOST:PORT/v1 or https://HOST/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("only scheme, host, port and path belong here; a key goes into api_key")
        return value.rstrip("/")


class EndpointOptions(PluginOptions):
    """Translates through an OpenAI-compatible chat endpoint, the served model too."""

    name: Literal["endpoint"] = "endpoint"
    server: Server = Server()


class HuggingFaceOptions(PluginOptions):
    """Translates with local Hugging Face models (Marian, M2M100, NLLB, mBART, T5); safetensors only."""

    name: Literal["huggingface"] = "huggingface"
    models: dict[str, str] = {}
    """Model folder a direction, `{zh-en: DIR, en-zh: DIR}`, or `{any: DIR}` for a model of many languages."""
    codes: dict[str, str] = {}
    """The model's own language codes where they are not found by themselves, `{zh: zho_Hans}`."""
    prefixes: dict[str, str] = {}
    """Text that a model wants in front, by direction, `{zh-en: "translate Chinese to English: "}` (T5)."""
    batch_size: int = Field(default=16, ge=1)
    """Texts translated together."""
    beams: int = Field(default=1, ge=1, le=16)
    """Beams of the first copy; further copies are sampled."""
    max_new_tokens: int = Field(default=256, ge=1)
    """A translation that does not end within it is dropped."""


class CTranslate2Options(PluginOptions):
    """Translates with local CTranslate2 models; needs the library ctranslate2."""

    name: Literal["ctranslate2"] = "ctranslate2"
    models: dict[str, str] = {}
    """Model folder a direction, `{zh-en: DIR, en-zh: DIR}`, or `{any: DIR}`; a folder also holds tokenizer.json, or
    source.spm and target.spm."""
    codes: dict[str, str] = {}
    """The model's own language codes where they are not found by themselves, `{zh: zho_Hans}`."""
    batch_size: int = Field(default=32, ge=1)
    """Texts translated together."""
    beams: int = Field(default=1, ge=1, le=16)
    """Beams of the first copy; further copies are sampled."""
    max_new_tokens: int = Field(default=256, ge=1)
    """A translation that does not end within it is dropped."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute_type: str = "default"
    """CTranslate2's name of the arithmetic, such as `int8`."""


class BackTranslationOptions(AugmenterOptions):
    """Translates a text to another language and back."""

    name: Literal["back_translation"] = "back_translation"
    backend: Annotated[PluginOptions, Chosen(TRANSLATORS)] = EndpointOptions()
    """Who translates."""
    pivot: str = Field(default="auto", min_length=2)
    """Language between; `auto`: en, and zh for English texts. Texts of this language itself get no variants."""


class ParaphraseOptions(AugmenterOptions):
    """Asks an OpenAI-compatible chat endpoint to say it in other words."""

    name: Literal["paraphrase"] = "paraphrase"
    server: Server = Server()
    temperature: float = Field(default=0.8, ge=0, le=2)
    """0: always the most probable wording, so only one copy can differ."""
