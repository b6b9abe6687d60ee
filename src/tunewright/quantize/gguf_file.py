"""GGUF files of Llama models: names, the q/k permutation, block quantization, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from numpy.typing import NDArray

from tunewright.core import files
from tunewright.quantize import ggml
from tunewright.quantize.gguf_reader import StoredTensor, read_tensors
from tunewright.quantize.gguf_tokenizer import GgufTokenizer, add_tokenizer
from tunewright.quantize.gguf_types import Layout, tensor_type
from tunewright.quantize.scheme import QuantizeError

ARCHITECTURE = "llama"
FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
    "Q4_K_M": gguf.LlamaFileType.MOSTLY_Q4_K_M,
}
UNROUNDED = "F32"
"""The mixture of the file that llama-quantize reads: nothing is rounded."""
BLOCK = 32
"""Weights that share one scale in the smallest blocks; the width of every matrix must be a multiple."""
QUANTIZATION_VERSION = 2


class _Writer(GGUFWriter):
    """gguf 0.19 refuses empty arrays, which the format allows: a tokenizer of single bytes has no merges."""

    def _pack_val(self, val: Any, vtype: Any, add_vtype: bool, sub_type: Any = None) -> bytes:
        if vtype == GGUFValueType.ARRAY and len(val) == 0:
            start = self._pack("I", vtype) if add_vtype else b""
            return bytes(start + self._pack("I", GGUFValueType.STRING) + self._pack("Q", 0))
        return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))


def check_architecture(config: Any) -> None:
    """Raises QuantizeError for a model that is not a plain Llama."""
    rope = dict(getattr(config, "rope_parameters", None) or {})
    faults = [
        (config.model_type != "llama", f"the architecture is {config.model_type}"),
        (getattr(config, "hidden_act", "silu") != "silu", f"the activation is {getattr(config, 'hidden_act', '')}"),
        (rope.get("rope_type", "default") not in ("default", "linear"), f"rope is {rope.get('rope_type')}"),
        (config.hidden_size % BLOCK != 0, f"hidden_size {config.hidden_size} is no multiple of {BLOCK}"),
        (config.intermediate_size % BLOCK != 0, f"intermediate_size {config.intermediate_size} is none of {BLOCK}"),
    ]
    for wrong, reason in faults:
        if wrong:
            raise QuantizeError(
                f"only Llama models with default or linear rope are written as GGUF: {reason}",
                where=str(getattr(config, "_name_or_path", "")),
                fix="leave the gguf variants out of quantize.variants, or use llama.cpp's convert_hf_to_gguf.py",
            )


def permuted(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """q or k rows from transformers' order (rotated halves) to ggml's (rotated neighbours). weight: [rows, ...].

    The same as `LlamaModel.permute` of llama.cpp's converter.
    """
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weight.shape))


def unpermuted(weight: NDArray[Any], heads: int) -> NDArray[Any]:
    """The inverse of `permuted`."""
    split = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weight.shape))


def permuted_heads(name: str, config: Any) -> int:
    """Number of heads whose rows are permuted in the tensor `name`; 0 where none are."""
    if "attn_q." in name:
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if "attn_k." in name else 0


def gguf_tensors(model: Any) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """(name in the file, float32 weight) of every parameter; tied weights once."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    for key, parameter in model.named_parameters():
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise QuantizeError(f"llama.cpp has no place for the weight {key}", where=key)
        array = parameter.detach().float().cpu().numpy()
        heads = permuted_heads(name, model.config)
        yield name, permuted(array, heads) if heads else array


def write_gguf(model: Any, tokenizer: GgufTokenizer, folder: Path, target: Path, *, layout: Layout, name: str) -> None:
    """Writes `model` to the file `target`; a failure leaves nothing. Without ggml's quantizers in this process a
    Q4_K_M file is made by llama-quantize from an unrounded one beside it."""
    temporary, whole = (target.with_name(f".{target.name}.{kind}") for kind in ("tmp", "f32"))
    by_program = layout.mixture == "Q4_K_M" and not ggml.has_native()
    first = Layout(UNROUNDED, layout.layers, layout.tied) if by_program else layout
    try:
        with files.disk_errors(target):
            _write(model, tokenizer, folder, whole if by_program else temporary, layout=first, name=name)
            if by_program:
                ggml.by_program(whole, temporary, layout.mixture)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)


def _write(model: Any, tokenizer: GgufTokenizer, folder: Path, target: Path, *, layout: Layout, name: str) -> None:
    writer = _Writer(target, ARCHITECTURE)
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[layout.mixture])
    writer.add_quantization_version(QUANTIZATION_VERSION)
    _add_architecture(writer, model.config)
    add_tokenizer(writer, tokenizer, folder)
    for tensor, weight in gguf_tensors(model):
        stored = tensor_type(tensor, weight.shape, layout)
        writer.add_tensor(tensor, ggml.quantized(weight, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_architecture(writer: GGUFWriter, config: Any) -> None:
    rope = dict(config.rope_parameters or {})
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_rope_dimension_count(_head_width(config))
    writer.add_key_length(_head_width(config))
    writer.add_value_length(_head_width(config))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def stored_tensors(path: Path, config: Any) -> dict[str, NDArray[np.float32]]:
    """Name in the file -> the weight that the stored integers stand for, in transformers' row order."""
    found = {}
    for tensor in read_tensors(path):
        weight = _dequantized(tensor)
        heads = permuted_heads(tensor.name, config)
        found[tensor.name] = unpermuted(weight, heads) if heads else weight
    return found


def _dequantized(tensor: StoredTensor) -> NDArray[np.float32]:
    """gguf.quants.dequantize in one piece: the package's own loop over 16 rows at a time takes ten times as long."""
    if tensor.kind == GGMLQuantizationType.F32:
        return tensor.data.view(np.float32).reshape(tensor.shape).copy()
    _, size = gguf.GGML_QUANT_SIZES[tensor.kind]
    blocks = getattr(gguf.quants, tensor.kind.name).dequantize_blocks(tensor.data.reshape(-1, size))
    weight: NDArray[np.float32] = blocks.reshape(tensor.shape)
    return weight


def fill_from(path: Path, model: Any) -> Any:
    """`model` with the weights that the file `path` stores, put into it in place. Its tied weights stay tied."""
    stored = stored_tensors(path, model.config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            weight = stored.pop(names.get_name(key, try_suffixes=(".weight", ".bias")))
            parameter.copy_(torch.from_numpy(weight))
    return model.eval()
