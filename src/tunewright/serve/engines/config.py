"""The engines that `serve.engine` may name, with their options."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from tunewright.core.config import expand_secret
from tunewright.core.registry import Entry, PluginOptions, Registry

_HERE = "tunewright.serve.engines"
ENGINES = Registry(
    "engines",
    {
        "auto": Entry(f"{_HERE}.auto:Auto", f"{_HERE}.config:AutoOptions", "serve"),
        "transformers": Entry(f"{_HERE}.in_process:Transformers", f"{_HERE}.config:TransformersOptions", "serve"),
        "llamacpp": Entry(f"{_HERE}.llama_cpp:LlamaCpp", f"{_HERE}.config:LlamaCppOptions", "serve"),
        "vllm": Entry(f"{_HERE}.vllm:Vllm", f"{_HERE}.config:VllmOptions", "serve"),
        "remote": Entry(f"{_HERE}.remote:Remote", f"{_HERE}.config:RemoteOptions", "serve"),
    },
)


class AutoOptions(PluginOptions):
    """vLLM on CUDA where it is installed, llama.cpp for a GGUF variant, else transformers; what and why is said."""

    name: Literal["auto"] = "auto"
    python: str = ""
    """The Python that has vLLM (`/path/to/venv/bin/python`); by default our own, where vLLM is installed beside us."""


class TransformersOptions(PluginOptions):
    """Our own engine, in process: any model that transformers opens, on laptops too."""

    name: Literal["transformers"] = "transformers"


class LlamaCppOptions(PluginOptions):
    """llama.cpp for a GGUF variant: `llama-server` on PATH, else the xllamacpp wheel, in a process of its own."""

    name: Literal["llamacpp"] = "llamacpp"
    context: int = Field(default=4096, ge=128)
    """Most tokens of one prompt and its answer; memory for `batch_size` times as many is taken at the start. Lowered to
    what the model was made for."""
    threads: int = Field(default=0, ge=0)
    """0 for all cores that may be used."""
    start_timeout_s: float = Field(default=600, gt=0)
    """Seconds until it must be ready."""


class VllmOptions(PluginOptions):
    """vLLM in a process of its own: 16-bit and compressed-tensors weights, and LoRA adapters on one base."""

    name: Literal["vllm"] = "vllm"
    python: str = ""
    """The Python that has vLLM (`/path/to/venv/bin/python`); by default our own."""
    context: int | None = Field(default=None, ge=128)
    """Most tokens of one prompt and its answer; by default what the model was made for."""
    gpu_memory: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory that vLLM takes."""
    gpus: int = Field(default=1, ge=1)
    """GPUs that share the model (tensor parallel)."""
    adapters: int = Field(default=4, ge=1)
    """LoRA adapters of one base in use at the same time."""
    adapter_rank: int = Field(default=64, ge=1)
    """Room for adapters up to this rank; one of a higher rank gets a vLLM of its own."""
    start_timeout_s: float = Field(default=1800, gt=0)
    """Seconds until it must be ready."""


class RemoteOptions(PluginOptions):
    """Any server that speaks OpenAI's chat completions: ours, vLLM, llama-server, a provider."""

    name: Literal["remote"] = "remote"
    url: str
    """Up to and with `/v1`, such as http://gpu-box:8000/v1."""
    model: str = ""
    """Its name there; by default the first that it lists."""
    api_key: SecretStr | None = None
    """Key that the other server asks for; `${NAME}` reads it from the environment."""
    honours: tuple[Literal["seed", "tools", "logprobs", "response_format"], ...] = ()
    """What the other server is known to obey. Requests with anything else of these are refused: many servers ignore
    them without a word."""
    connect_timeout_s: float = Field(default=10, gt=0)
    """Seconds until a connection must stand."""

    @field_validator("url")
    @classmethod
    def _of_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")) or "@" in value or "?" in value:
            raise ValueError("write an address such as http://gpu-box:8000/v1, without a key in it")
        return value.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def _from_environment(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(expand_secret(value.get_secret_value())) if value else None


def as_choice(value: Any) -> Any:
    """A plain word means the engine of this name with its defaults."""
    return {"name": value} if isinstance(value, str) else value
