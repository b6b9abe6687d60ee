"""Texts as vectors: mean-pooled last hidden states of a local model, an encoder or a decoder.

Light at import. Weights are safetensors only, no code of the model's own is run, and the network is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import ArtifactError, ResourceError
from tunewright.core.events import Progress


def check_folder(folder: Path, *, where: str) -> None:
    """Raises ArtifactError when the folder is no model of this form, before anything is loaded."""
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).exists():
            raise ArtifactError(
                f"the folder of the embedding model has no {name}", where=f"{where}: {folder}", fix="check its path"
            )
    if not any(folder.glob("*.safetensors")):
        raise ArtifactError(
            "the folder of the embedding model has no safetensors weights",
            where=f"{where}: {folder}",
            fix="fetch the model in that format",
        )


class EmbeddingModel:
    """A loaded model. Vectors are float32 [n, hidden size] and do not depend on the other texts of a batch."""

    def __init__(self, folder: Path, *, batch_size: int) -> None:
        """Raises ArtifactError for unreadable or incomplete weights, ResourceError when memory does not suffice."""
        from tokenizers import Tokenizer

        self._model = _load(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._batch_size = batch_size
        self._longest = _longest(self._model.config)

    def vectors(self, texts: Sequence[str], *, label: str = "") -> NDArray[np.float32]:
        """One vector a text, in order; a text longer than the model reads counts by its beginning. label: shown with
        progress."""
        import torch

        ids = [self._ids(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda place: len(ids[place]))
        found = np.zeros((len(texts), int(self._model.config.hidden_size)), np.float32)
        with torch.inference_mode(), Progress(label or "embedding", len(texts)) as progress:
            for start in range(0, len(order), self._batch_size):
                places = order[start : start + self._batch_size]
                found[places] = self._batch([ids[place] for place in places])
                progress.advance(len(places))
        return found

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids[: self._longest]
        return ids or [0]

    def _batch(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        """Right-padded, so that positions of encoders and decoders are right; padding is left out of the mean."""
        import torch

        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long, device=self._model.device)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(rows):
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        means = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors: NDArray[np.float32] = means.cpu().numpy()
        return vectors


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModel

    from tunewright.models.load import device
    from tunewright.models.quiet import quiet

    try:
        with quiet():
            model, loading = AutoModel.from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise ResourceError("the embedding model does not fit into memory", where=str(folder)) from None
    except Exception as error:  # safetensors, config and code faults all come as their own classes
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ArtifactError(f"the embedding model cannot be loaded: {line}", where=str(folder)) from error
    missing = [name for name in loading["missing_keys"] if "pooler" not in name]
    if missing:
        raise ArtifactError(f"the embedding model lacks the weight {sorted(missing)[0]}", where=str(folder))
    return model.to(device()).eval()


def _longest(config: Any) -> int:
    """Positions that the model knows; RoBERTa and its kin lose the first ones to their padding index."""
    known = int(getattr(config, "max_position_embeddings", 0) or 512)
    is_offset = str(getattr(config, "model_type", "")).endswith("roberta")
    return known - (int(config.pad_token_id) + 1 if is_offset else 0)
