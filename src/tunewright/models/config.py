"""The `model:` section of the project file, and what an artifact says of the model inside it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tunewright.core.config import Section

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelConfig(Section):
    """Which chat model to start from."""

    path: str = "builtin:smollm2-135m"
    """A Hugging Face id, a local directory, a GGUF file, `builtin:smollm2-135m` or `builtin:tiny`."""
    revision: str = "main"
    """Branch, tag or commit of a Hugging Face id."""
    dtype: Dtype = "auto"
    """Number format of the weights; `auto` is bfloat16 where the hardware multiplies it, else float32."""
    max_length: int | None = Field(default=None, ge=16)
    """Longest sequence in tokens; by default what the model supports."""
    trust_remote_code: bool = False
    """Whether Python files inside the model's folder may run. Leave off unless you have read them."""


class ModelInfo(BaseModel):
    """What evaluate, quantize and serve need to open a trained model exactly as it was trained."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["full", "adapter", "merged", "quantized"]
    base: str
    base_revision: str
    base_sha256: str
    method: str
    dtype: str
    bits: float
    chat_template_sha256: str
    max_length: int
