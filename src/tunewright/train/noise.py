"""NEFTune: noise on the embeddings while training (Jain et al. 2023, arXiv 2310.05914).

transformers' own hook scales the noise by the length of the whole input. A packed input holds many rows, so the noise
would shrink with the micro-batch. Here each token's noise is scaled by the length of its own row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def embedding_noise(model: Any, alpha: float) -> Iterator[None]:
    """Inside, `model` in training mode adds uniform noise in +-alpha / sqrt(L d) to its embeddings: L tokens of the
    row, d the embedding's width. alpha 0: nothing is added. Rows of a packed input must not share a prefix.
    """
    if not alpha:
        yield
        return
    lengths: list[Tensor] = []

    def note_lengths(module: Any, _: Any, inputs: Mapping[str, Any]) -> None:
        if module.training:
            lengths[:] = [row_lengths(inputs)]

    def add_noise(module: Any, _: Any, output: Tensor) -> Tensor:
        if not module.training or not lengths:
            return output
        scale = alpha * (lengths[0].to(output.device) * output.shape[-1]).rsqrt()
        noise = torch.empty_like(output).uniform_(-1, 1)
        return output + noise * scale[..., None].to(output.dtype)

    hooks = [
        model.register_forward_pre_hook(note_lengths, with_kwargs=True),
        model.get_input_embeddings().register_forward_hook(add_noise),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def row_lengths(inputs: Mapping[str, Any]) -> Tensor:
    """Length of the row that each token belongs to, from a model's keyword inputs: [1, T] of a packed input with
    `segments`, [B, T] of a padded one with `attention_mask`. float32."""
    segments = inputs.get("segments")
    if segments:
        assert not any(segment.prefix_end for segment in segments), "rows with noise do not share a prefix"
        sizes = torch.tensor([segment.end - segment.start for segment in segments])
        return sizes.repeat_interleave(sizes)[None].float()
    mask: Tensor = inputs["attention_mask"]
    return mask.sum(1, keepdim=True).expand(mask.shape).float()
