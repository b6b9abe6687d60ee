"""Loading weights and tokenizers: where trust begins. Nothing is loaded that was not proven."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from tunewright.core.errors import ArtifactError, ResourceError
from tunewright.core.machine import has_fast_bfloat16
from tunewright.models.config import Dtype
from tunewright.models.packed_linear import can_pack, pack_linears
from tunewright.models.tokens import ChatTokenizer, token_text

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

_ADDED_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")


def device() -> torch.device:
    """The first CUDA device, else the CPU (torch takes all its cores, or OMP_NUM_THREADS)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(wanted: Dtype) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it (GPU, AVX512-BF16, AMX), else float32."""
    if wanted != "auto":
        chosen = getattr(torch, wanted)
        assert isinstance(chosen, torch.dtype)
        return chosen
    fast = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else has_fast_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def load_model(folder: Path, *, dtype: torch.dtype, trust_remote_code: bool = False, attention: str = "sdpa") -> Any:
    """The causal language model in `folder`, in evaluation mode on `device()`, without a second copy in memory.

    Raises ArtifactError for unreadable weights, ResourceError when memory does not suffice.
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            attn_implementation=attention,
        )
        return model.to(device()).eval()
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise ResourceError("the model does not fit into memory", where=str(folder)) from None
    except Exception as error:  # safetensors, config and code faults all come as their own classes
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtifactError(f"the model cannot be loaded: {line}", where=str(folder), fix="fetch it again") from error


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerFast:
    """A transformers tokenizer from a folder that holds tokenizer.json and tokenizer_config.json.

    Built from tokenizer.json as it is: AutoTokenizer of transformers 5.3 to at least 5.17 rebuilds some tokenizers
    as sentencepiece ones and destroys their text. Proven against `tokenizers` before it is returned.
    """
    folder = Path(path)
    plain = ChatTokenizer.load(folder)
    settings = plain.settings
    names = {role: token_text(settings[role]) for role in _ADDED_ROLES if settings.get(role)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        model_max_length=plain.max_length,
        chat_template=plain.template.source,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        **names,
    )
    for text in ("Hello world, 如何 治疗 感冒? ", "x  =  1\n"):
        if tokenizer.encode(text, add_special_tokens=False) != plain.encode(text):
            raise ArtifactError("transformers reads this tokenizer differently from tokenizer.json", where=str(folder))
    return tokenizer


def for_inference(model: Any, *, pack: bool = True) -> Any:
    """`model` made ready to generate: on CPU its linear layers are prepacked (irreversible; do not train it after)."""
    if pack and model.device.type == "cpu" and can_pack(model.dtype):
        pack_linears(model)
    return model.eval()


def model_config(folder: Path) -> dict[str, Any]:
    """config.json as a dict."""
    return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
