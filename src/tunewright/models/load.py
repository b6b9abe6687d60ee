"""Loading weights and tokenizers: where trust begins. Nothing is loaded that was not proven."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from tunewright.core.errors import ArtifactError, ResourceError, TunewrightError
from tunewright.core.machine import has_fast_bfloat16
from tunewright.models import proof
from tunewright.models.config import Dtype
from tunewright.models.forward import make_fast
from tunewright.models.packed_linear import can_pack, pack_linears
from tunewright.models.packing import PLAIN
from tunewright.models.prefix import split
from tunewright.models.source import weight_files
from tunewright.models.tokens import ChatTokenizer, token_text
from tunewright.models.weights import read_weights

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

_LOADING = threading.Lock()
"""transformers changes global state while it loads (default dtype, initialization): two threads that load at the same
time lose each other's tied weights."""
_ADDED_ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")


def device() -> torch.device:
    """The first CUDA device, else the CPU (torch takes all its cores, or OMP_NUM_THREADS)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose_dtype(wanted: Dtype) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it (GPU, AVX512-BF16, AMX), float16 on older GPUs with tensor
    cores, else float32."""
    return explain_dtype(wanted)[0]


def explain_dtype(wanted: Dtype) -> tuple[torch.dtype, str]:
    """The number format of `choose_dtype` and why it was chosen, in words."""
    if wanted != "auto":
        chosen = getattr(torch, wanted)
        assert isinstance(chosen, torch.dtype)
        return chosen, "as model.dtype says"
    if torch.cuda.is_available():
        return _auto_on_gpu(torch.cuda.get_device_capability())
    if has_fast_bfloat16():
        return torch.bfloat16, "auto: this CPU multiplies bfloat16 in hardware"
    return torch.float32, "auto: this CPU has no bfloat16 in hardware"


def _auto_on_gpu(capability: tuple[int, int]) -> tuple[torch.dtype, str]:
    """By CUDA compute capability: 8.0 (Ampere) brought bfloat16, 7.0 (Volta) fast float16."""
    if capability >= (8, 0):
        return torch.bfloat16, "auto: this GPU multiplies bfloat16 in hardware"
    if capability >= (7, 0):
        return torch.float16, "auto: this GPU has no bfloat16 in hardware, but fast float16"
    return torch.float32, "auto: this GPU has neither bfloat16 nor fast float16"


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    trust_remote_code: bool = False,
    direct: bool = True,
) -> Any:
    """The causal language model in `folder`, in evaluation mode on `device()`, proven (models/proof.py).

    direct: weights go from the file into `dtype` a few megabytes at a time, without a second copy in memory; off:
    transformers' own reading, which quantized folders and models with code of their own always take.
    Raises ArtifactError for unreadable, incomplete or unusable weights and for a tokenizer that does not fit them,
    ResourceError when memory does not suffice.
    """
    with _LOADING:
        return _loaded(folder, dtype, trust_remote_code=trust_remote_code, direct=direct)


def _loaded(folder: Path, dtype: torch.dtype, *, trust_remote_code: bool, direct: bool) -> Any:
    how = {"dtype": dtype, "attn_implementation": PLAIN, "ignore_mismatched_sizes": True}
    try:
        config: Any = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=trust_remote_code
        )
        kind = _plain_class(config, dtype) if direct else None
        if kind is None:
            model, loading = _by_transformers(folder, how, trust_remote_code=trust_remote_code)
        else:
            model, loading = _directly(folder, kind, config, how)
        proof.prove_files(model, loading, folder)
        model = model.to(device()).eval()
        proof.prove_finite(model, str(folder))
        return model
    except TunewrightError:
        raise
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise ResourceError("the model does not fit into memory", where=str(folder)) from None
    except Exception as error:  # safetensors, config and code faults all come as their own classes
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtifactError(f"the model cannot be loaded: {line}", where=str(folder), fix="fetch it again") from error


def _plain_class(config: Any, dtype: torch.dtype) -> Any:
    """The class of a model whose weights are stored as they are computed with; None where transformers must read them:
    quantized weights, code of the model's own, and models that keep some layers in fp32."""
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None or getattr(config, "quantization_config", None) is not None:
        return None
    keeps = (getattr(kind, name, None) for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"))
    return None if any(keeps) and dtype in (torch.float16, torch.bfloat16) else kind


def _directly(folder: Path, kind: Any, config: Any, how: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(model, what transformers says of the loading): its state is read by us, placed and tied by transformers."""
    state = read_weights(weight_files(folder), dtype=how["dtype"])
    model, loading = kind.from_pretrained(None, config=config, state_dict=state, output_loading_info=True, **how)
    model.config.name_or_path = model.name_or_path = str(folder)
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    return model, loading


def _by_transformers(folder: Path, how: dict[str, Any], *, trust_remote_code: bool) -> tuple[Any, dict[str, Any]]:
    model, loading = AutoModelForCausalLM.from_pretrained(
        str(folder),
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
        **how,
    )
    return model, loading


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
    for text in ("Hello world, 如何 治疗 感冒? ", "x  =  1\n", "👨‍👩‍👧 emoji 😀 37.5%"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        if ids != plain.encode(text) or tokenizer.decode(ids) != plain.decode(ids):
            raise ArtifactError("transformers reads this tokenizer differently from tokenizer.json", where=str(folder))
    return tokenizer


def for_inference(model: Any, *, pack: bool = True, fast: bool = True) -> Any:
    """`model` made ready to generate: on CPU its linear layers are prepacked, and a model of a known structure gets our
    own forward pass (irreversible; do not train it after). pack, fast: the switches of the two."""
    model.eval()
    if pack and model.device.type == "cpu" and can_pack(model.dtype):
        pack_linears(model)
    if fast:
        make_fast(split(model)[0])
    return model
