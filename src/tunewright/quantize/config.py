"""The `quantize:` section of the project file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunewright.core.config import Section
from tunewright.core.registry import Chosen, Entry, PluginOptions, Registry

_HERE = "tunewright.quantize.config"
SCHEMES = Registry(
    "schemes",
    {
        "bf16": Entry("tunewright.quantize.schemes.sixteen:Sixteen", f"{_HERE}:Bf16Options", "quantize"),
        "fp16": Entry("tunewright.quantize.schemes.sixteen:Sixteen", f"{_HERE}:Fp16Options", "quantize"),
        "int8": Entry("tunewright.quantize.schemes.int8:Int8", f"{_HERE}:Int8Options", "quantize"),
        "int8-weight": Entry("tunewright.quantize.schemes.int8:Int8", f"{_HERE}:Int8WeightOptions", "quantize"),
        "awq": Entry("tunewright.quantize.schemes.awq:Awq", f"{_HERE}:AwqOptions", "quantize"),
        "gptq": Entry("tunewright.quantize.schemes.gptq:Gptq", f"{_HERE}:GptqOptions", "quantize"),
        "nf4": Entry("tunewright.quantize.schemes.nf4:Nf4", f"{_HERE}:Nf4Options", "bits"),
        "gguf-q8_0": Entry("tunewright.quantize.schemes.gguf:Gguf", f"{_HERE}:GgufQ8Options", "quantize"),
        "gguf-q4_0": Entry("tunewright.quantize.schemes.gguf:Gguf", f"{_HERE}:GgufQ4Options", "quantize"),
        "gguf-q4_k_m": Entry("tunewright.quantize.schemes.gguf:Gguf", f"{_HERE}:GgufQ4KMOptions", "quantize"),
    },
)


class VariantOptions(PluginOptions):
    """What every scheme has."""

    max_loss: float = Field(default=0.05, ge=0, le=1)
    """Largest loss of the primary metric against 16 bits (0.05: five points); above it the variant is refused."""


class Bf16Options(VariantOptions):
    """16-bit weights as bfloat16: the reference."""

    name: Literal["bf16"] = "bf16"


class Fp16Options(VariantOptions):
    """16-bit weights as float16: the reference."""

    name: Literal["fp16"] = "fp16"


class Int8Options(VariantOptions):
    """W8A8: int8 weights a channel, int8 activations a token, chosen at run time (compressed-tensors)."""

    name: Literal["int8"] = "int8"


class Int8WeightOptions(VariantOptions):
    """W8A16: int8 weights a channel, activations as they are (compressed-tensors)."""

    name: Literal["int8-weight"] = "int8-weight"


class GroupedOptions(VariantOptions):
    """INT4 weights in groups (compressed-tensors)."""

    bits: Literal[4] = 4
    group_size: int = Field(default=128, ge=16)
    """Weights that share a scale; the largest power of two up to this that divides all layer widths is used, and
    said."""
    symmetric: bool = False
    """Whether zero is the middle of the 16 levels; without it each group has its own zero point, a little better."""


class AwqOptions(GroupedOptions):
    """INT4 weights in groups, scaled by activations (Lin et al. 2023, arXiv 2306.00978; compressed-tensors)."""

    name: Literal["awq"] = "awq"
    grid: int = Field(default=20, ge=3)
    """Scales tried a layer: more is slower and a little better."""


class GptqOptions(GroupedOptions):
    """INT4 weights in groups, rounded column by column, each making up for the last.

    Frantar et al. 2022, arXiv 2210.17323; compressed-tensors."""

    name: Literal["gptq"] = "gptq"
    dampening: float = Field(default=0.01, gt=0, le=1)
    """Share of the mean diagonal that is added to the input statistics; more is steadier with few calibration rows."""


class Nf4Options(VariantOptions):
    """4-bit NormalFloat of bitsandbytes with double quantization (Dettmers et al. 2023, arXiv 2305.14314)."""

    name: Literal["nf4"] = "nf4"


class GgufQ8Options(VariantOptions):
    """llama.cpp's Q8_0: 8 bits, blocks of 32."""

    name: Literal["gguf-q8_0"] = "gguf-q8_0"


class GgufQ4Options(VariantOptions):
    """llama.cpp's Q4_0: 4 bits, blocks of 32."""

    name: Literal["gguf-q4_0"] = "gguf-q4_0"


class GgufQ4KMOptions(VariantOptions):
    """llama.cpp's Q4_K_M: 4 and 6 bits in blocks of 256; needs xllamacpp or llama-quantize."""

    name: Literal["gguf-q4_k_m"] = "gguf-q4_k_m"


class QuantizeConfig(Section):
    """Smaller variants of the tuned model, each measured against 16 bits."""

    variants: tuple[Annotated[PluginOptions, Chosen(SCHEMES)], ...] = (
        Bf16Options(),
        Int8Options(),
        AwqOptions(),
        GgufQ8Options(),
        GgufQ4Options(),
    )
    calibration_rows: int = Field(default=64, ge=1)
    """Rows of the training split that AWQ and GPTQ look at."""
    calibration_tokens: int = Field(default=256, ge=16)
    """Longest calibration row in tokens."""
    task_rows: int = Field(default=128, ge=8)
    """Test rows on which the task score and the agreement are measured."""
    perplexity_tokens: int = Field(default=4096, ge=128)
    """Tokens of rendered conversations of the test split on which the perplexity is measured, prompts included."""
    latency_tokens: int = Field(default=200, ge=1)
    """Generated tokens of one latency run, at batch 1 after a warm-up."""
    latency_repeats: int = Field(default=2, ge=1)
    """Latency runs a variant; the median is reported."""
    batch_tokens: int = Field(default=32, ge=2)
    """Generated tokens of each of the eight answers of the batch-8 run."""
