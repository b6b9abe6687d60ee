"""Texts as vectors: the mean of the last hidden states, whatever else is in the batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tunewright.core.errors import ArtifactError
from tunewright.models import tiny as tiny_model
from tunewright.models.embedding import EmbeddingModel, check_folder
from tunewright.models.load import load_model

TEXTS = ["My card is gone", "fee?", "卡丢了", "Why was I charged twice for one and the same transfer?", ""]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with the byte tokenizer, 40 positions."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    tiny_model.write_tokenizer(folder)
    config = BertConfig(
        vocab_size=259,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=40,
    )
    torch.manual_seed(3)
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_decoder_gives_the_mean_of_its_hidden_states(tiny: Path) -> None:
    found = EmbeddingModel(tiny, batch_size=3).vectors(TEXTS)
    model = load_model(tiny, dtype=torch.float32).model
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    for text, vector in zip(TEXTS[:4], found, strict=False):
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
        np.testing.assert_allclose(vector, hidden.mean(0).numpy(), atol=1e-5)
    assert found.shape == (5, 64) and found.dtype == np.float32
    assert not np.allclose(found[0], found[1], atol=1e-2)


def test_what_else_is_in_the_batch_changes_nothing(encoder: Path) -> None:
    together = EmbeddingModel(encoder, batch_size=5).vectors(TEXTS)
    apart = EmbeddingModel(encoder, batch_size=1).vectors(TEXTS)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert not np.allclose(together[0], together[2], atol=1e-3)


def test_a_long_text_counts_by_its_beginning(encoder: Path) -> None:
    model = EmbeddingModel(encoder, batch_size=2)
    whole, start = model.vectors(["x" * 100, "x" * 40])
    np.testing.assert_allclose(whole, start, atol=1e-6)


def test_folders_that_hold_no_such_model(encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"has no config\.json") as caught:
        check_folder(tmp_path, where="evaluate.rivals.0.path")
    assert caught.value.where.startswith("evaluate.rivals.0.path")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((encoder / name).read_bytes())
    with pytest.raises(ArtifactError, match="no safetensors weights"):
        check_folder(tmp_path, where="here")
    (tmp_path / "model.safetensors").write_bytes((encoder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        EmbeddingModel(tmp_path, batch_size=1)
    settings = json.loads((encoder / "config.json").read_text()) | {"num_hidden_layers": 3}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "model.safetensors").write_bytes((encoder / "model.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="lacks the weight"):
        EmbeddingModel(tmp_path, batch_size=1)
