"""A frozen base in 4 or 8 bits, for training an adapter on it with less memory.

4 bits: nf4 with double quantization (Dettmers et al. 2023, arXiv 2305.14314); 8 bits: LLM.int8 (Dettmers et al. 2022,
arXiv 2208.07339). Both are bitsandbytes', on CUDA and on the CPU. Embedding, norms and head keep their format. What
such a training writes is a plain adapter, which is used with the base in its own format.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tunewright.core.errors import ArtifactError, MissingExtraError, ResourceError
from tunewright.models import proof
from tunewright.models.load import device
from tunewright.models.packing import PLAIN

Bits = Literal[4, 8]
_OTHER_LAYOUT = "support_avx512bf16_for_cpu"


def load_base(folder: Path, *, bits: Bits, dtype: torch.dtype, trust_remote_code: bool = False) -> Any:
    """The causal language model in `folder` with linear layers in `bits`, all else in `dtype`, on `device()`, proven.

    Raises MissingExtraError without bitsandbytes, ArtifactError for unreadable, incomplete or unusable weights,
    ResourceError when memory does not suffice.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            f"train.method.base_bits={bits} needs the library 'bitsandbytes', which is not installed",
            fix="pip install 'tunewright[bits]', or train.method.base_bits=null",
        )
    try:
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(folder),
            quantization_config=_settings(bits, dtype),
            dtype=dtype,
            device_map={"": device()},
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            attn_implementation=PLAIN,
            output_loading_info=True,
        )
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise ResourceError("the model does not fit into memory", where=str(folder)) from None
    except Exception as error:  # bitsandbytes, safetensors and config faults come as their own classes
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtifactError(f"the model cannot be loaded in {bits} bits: {line}", where=str(folder)) from error
    _keep_layout(model)
    proof.prove_files(model, loading, folder)
    proof.prove_finite(model.eval(), str(folder))
    return model


def _keep_layout(model: Any) -> None:
    """On a CPU with AVX512-BF16, bitsandbytes 0.50 lays 4-bit weights out anew at the first evaluation; from then on no
    gradient passes through them, and after the first validation only the last layers would learn, without a word."""
    for module in model.modules():
        if hasattr(module, _OTHER_LAYOUT):
            setattr(module, _OTHER_LAYOUT, False)


def _settings(bits: Bits, dtype: torch.dtype) -> Any:
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
