"""The `serve:` section of the project file."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from tunewright.core.config import Section, expand_secret
from tunewright.core.listen import LOOPBACK
from tunewright.core.registry import Chosen, PluginOptions
from tunewright.core.text.pii import Kind
from tunewright.serve.engines.config import ENGINES, AutoOptions, as_choice

_REDIS = re.compile(r"(redis|rediss|unix)://\S+|\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
_TENANT = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def _word_or_address(*words: str) -> AfterValidator:
    def check(value: str) -> str:
        if value in words or _REDIS.fullmatch(value):
            return value
        raise ValueError(f"must be {', '.join(words)}, or the address redis://HOST:PORT/NUMBER or ${{NAME}} of it")

    return AfterValidator(check)


class SemanticConfig(Section):
    """Kept answers for questions that mean the same, in English and Chinese. Only the last user message may differ;
    numbers, dates, units, names, negation and what is asked for must agree."""

    embedder: str = Field(min_length=1)
    """A multilingual embedding model on this machine: its folder, or `builtin:smollm2-135m` to try it out."""
    threshold: float = Field(default=0.97, gt=0, le=1)
    """The least cosine of the two vectors. It is raised, and said so, where the embedder finds unrelated questions too
    much alike."""
    capacity: int = Field(default=5000, ge=1)
    """Questions that are compared; the one not asked for longest goes first."""
    max_chars: int = Field(default=300, ge=1, le=1000)
    """A longer message is not compared: one vector does not hold all its details."""


class CacheConfig(Section):
    """Answers that are kept. Only requests that would get the same answer again use it."""

    store: Annotated[str, _word_or_address("off", "memory", "disk")] = "disk"
    """`off`, `memory`, `disk` (and memory), or a shared Redis or Valkey: `redis://...` or `${NAME}` of its address."""
    capacity: int = Field(default=10_000, ge=1)
    """Answers kept in memory; the one not used for longest goes first."""
    ttl_s: float = Field(default=86_400, gt=0)
    """Seconds that an answer is kept."""
    max_mb: int = Field(default=256, ge=1)
    """Megabytes on disk; a shared Redis has its own limit."""
    sampled: bool = False
    """Keep also answers drawn at a temperature without a seed: everyone who asks the same gets the same draw."""
    semantic: SemanticConfig | None = None
    """Off by itself. Give a kept answer also to a question that is worded differently: `{embedder: FOLDER}`."""

    @model_validator(mode="after")
    def _semantic_needs_answers(self) -> CacheConfig:
        if self.semantic is not None and self.store == "off":
            raise ValueError("semantic compares with kept answers, and store is off; set store: disk or memory")
        return self

    def url(self) -> str:
        """The address of a shared store."""
        return expand_secret(self.store)


class JobsConfig(Section):
    """Long answers that are fetched later."""

    broker: Annotated[str, _word_or_address("off", "embedded")] = "off"
    """`off`, `embedded` (a Valkey of its own for one machine), or `redis://...` or `${NAME}` of its address."""
    longer_than_tokens: int = Field(default=1024, ge=1)
    """A chat request over this many tokens (prompt and max_tokens) is long."""
    long_requests: Literal["serve", "refuse"] = "serve"
    """What a long chat request gets that did not ask to become a job (`Prefer: respond-async`)."""
    workers: int = Field(default=1, ge=0)
    """Worker processes that `tunewright serve` runs; 0 leaves that to `tunewright serve worker`."""
    concurrency: int = Field(default=4, ge=1)
    """Jobs that one worker has in work at once."""
    retries: int = Field(default=5, ge=0)
    """How often a job is tried again after the server failed on it; a busy server is waited for."""
    timeout_s: float = Field(default=3600, gt=0)
    """Seconds that one try of a job may take."""
    lease_s: float = Field(default=15, ge=0.5)
    """A job whose worker was silent for so long is given to another one."""
    result_ttl_s: float = Field(default=86_400, gt=0)
    """Seconds that a finished job can be fetched."""
    capacity: int = Field(default=10_000, ge=1)
    """Unfinished jobs; a further one is answered 429."""
    webhooks: tuple[str, ...] = ()
    """Hosts (`name` or `name:port`) that may be told of finished jobs; any other is refused."""

    @field_validator("webhooks")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(f"'{host}' is no host; write the name alone, such as hooks.example.com")
        return tuple(host.lower() for host in value)

    def url(self) -> str:
        """The address of a broker that is not ours."""
        return expand_secret(self.broker)


class CanaryConfig(Section):
    """A share of the requests under the project's name goes to another model."""

    name: str
    """The registered model; it must be served: `serve.models` loads it at the start."""
    percent: float = Field(default=5, ge=0, le=100)
    """Of the keys: the header X-Canary-Key, else the request's `user`, else its whole conversation so far."""


class ServeConfig(Section):
    """The OpenAI-compatible server."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs an api_key."""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes any free port."""
    api_key: SecretStr | None = None
    """Key that requests must carry; `${NAME}` reads it from the environment."""
    api_keys: dict[str, SecretStr] = {}
    """Keys by the tenant's name; tenants share neither cached answers nor jobs."""
    engine: Annotated[PluginOptions, Chosen(ENGINES), BeforeValidator(as_choice)] = AutoOptions()
    """What generates: `auto`, `transformers`, `llamacpp`, `vllm`, `remote`, or one of them with its options, such as
    `{name: remote, url: http://gpu-box:8000/v1}`."""
    batch_size: int = Field(default=8, ge=1)
    """Requests generated together."""
    queue: int = Field(default=64, ge=0)
    """Requests that may wait; a further one is answered 429."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Upper bound of max_tokens, and its default."""
    max_body_bytes: int = Field(default=1_000_000, ge=1000)
    """A larger request is answered 413."""
    max_header_bytes: int = Field(default=16_384, ge=1024)
    """A request whose headers are larger is refused."""
    request_timeout_s: float = Field(default=600, gt=0)
    """Seconds from arrival to the end of an answer; the header X-Timeout-S of a request may ask for less, from 1 on."""
    shutdown_timeout_s: float = Field(default=30, ge=0)
    """After SIGTERM running answers may finish for this long."""
    redact: tuple[Kind, ...] = ()
    """Personal data masked in requests as in rows of the data stage: phone, id_card, bank_card, email, ip."""
    log: Literal["text", "json"] = "text"
    """How a request's line is logged; never with the content of messages."""
    log_questions: bool = False
    """Keep questions, with personal data masked, for `tunewright serve top`."""
    models: tuple[str, ...] = ()
    """Registered models (`tunewright serve add`) served beside the current one from the start."""
    canary: CanaryConfig | None = None
    follow_promotion: bool = True
    """Take over what `promote` and its rollback point to, without a dropped request; not with `--from`."""
    admins: tuple[str, ...] = ("default",)
    """Tenants that may load and unload models; without keys everyone on this machine may."""
    cache: CacheConfig = CacheConfig()
    jobs: JobsConfig = JobsConfig()

    @field_validator("api_key")
    @classmethod
    def _from_environment(cls, value: SecretStr | None) -> SecretStr | None:
        return _expanded(value) if value else None

    @field_validator("api_keys")
    @classmethod
    def _all_from_environment(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in value:
            if not _TENANT.fullmatch(name):
                raise ValueError("a tenant's name has letters, digits, dash, underscore, dot")
        return {name: _expanded(key) for name, key in value.items()}

    @model_validator(mode="after")
    def _key_off_loopback(self) -> ServeConfig:
        if self.host not in LOOPBACK and not self.tenants:
            raise ValueError(f"host {self.host} can be reached by others; set serve.api_key, or keep 127.0.0.1")
        if self.api_key and "default" in self.api_keys:
            raise ValueError("api_key is the key of the tenant 'default', which stands in api_keys too")
        if self.engine.name == "remote" and (self.models or self.canary):
            raise ValueError("the engine remote serves no registered models; leave serve.models and serve.canary out")
        if len(set(self.tenants.values())) < len(self.tenants):
            raise ValueError("two tenants have the same key")
        return self

    @property
    def tenants(self) -> dict[str, str]:
        """Key of each tenant; `api_key` is that of the tenant `default`. Empty: no key is asked for."""
        keys = {"default": self.api_key} if self.api_key else {}
        return {name: key.get_secret_value() for name, key in {**keys, **self.api_keys}.items()}


def _expanded(value: SecretStr) -> SecretStr:
    expanded = expand_secret(value.get_secret_value())
    if not expanded:
        raise ValueError("the key is empty")
    return SecretStr(expanded)
