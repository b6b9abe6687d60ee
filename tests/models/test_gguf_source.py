"""A GGUF file becomes a folder with the same weights, in the format they are stored in, or bf16."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.core.errors import ArtifactError
from tunewright.models import gguf_source
from tunewright.models.load import load_model, load_tokenizer
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize import gguf_file
from tunewright.quantize.gguf_tokenizer import read_tokenizer
from tunewright.quantize.gguf_types import Layout

DROPPED = "blk.1.ffn_up.weight"


@pytest.fixture
def any_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our writer, with matrices and embedding in any format of the library."""
    from gguf import GGMLQuantizationType as Kind

    def chosen(name: str, shape: tuple[int, ...], layout: Layout) -> Kind:
        return Kind.F32 if len(shape) == 1 else Kind[layout.mixture]

    monkeypatch.setattr(gguf_file, "tensor_type", chosen)
    monkeypatch.setattr(gguf_file, "FILE_TYPES", defaultdict(int))


def written(model: Any, tiny: Path, target: Path, kind: str) -> Path:
    tokenizer = read_tokenizer(tiny, vocabulary=model.config.vocab_size)
    layout = Layout(kind, model.config.num_hidden_layers, tied=True)
    gguf_file.write_gguf(model, tokenizer, tiny, target, layout=layout, name="tiny")
    return target


@pytest.mark.usefixtures("any_format")
@pytest.mark.parametrize(
    ("kind", "dtype", "is_exact"),
    [
        ("F32", torch.float32, True),
        ("F16", torch.float16, True),
        ("BF16", torch.bfloat16, True),
        ("Q8_0", torch.bfloat16, False),
    ],
)
def test_matrices_keep_the_format_they_are_stored_in(
    tiny: Path, tmp_path: Path, kind: str, dtype: torch.dtype, is_exact: bool
) -> None:
    """Q8_0 has 127 steps up to the largest value of a block: an error of at most 1/254 of it, and bf16's 1/512."""
    model = load_model(tiny, dtype=dtype)  # what the file is to hold
    path = written(model, tiny, tmp_path / "model.gguf", kind)
    folder = gguf_source.converted(path, tmp_path / "cache")
    found = load_model(folder, dtype=torch.float32).state_dict()
    assert found.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        if is_exact:
            assert torch.equal(found[name], weight.float()), name
        else:
            assert torch.allclose(found[name], weight.float(), atol=float(weight.abs().max()) / 100), name
    assert ChatTokenizer.load(folder).encode("感冒 37.5") == ChatTokenizer.load(tiny).encode("感冒 37.5")
    assert load_tokenizer(folder).encode("a b", add_special_tokens=False) == ChatTokenizer.load(tiny).encode("a b")


@pytest.mark.usefixtures("any_format")
def test_a_file_without_one_of_its_tensors_is_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gguf_file.gguf_tensors
    monkeypatch.setattr(gguf_file, "gguf_tensors", lambda model: [t for t in whole(model) if t[0] != DROPPED])
    path = written(load_model(tiny, dtype=torch.float32), tiny, tmp_path / "model.gguf", "F32")
    words = r"model\.gguf: the checkpoint lacks 1 tensor \(model\.layers\.1\.mlp\.up_proj\.weight\)"
    with pytest.raises(ArtifactError, match=words):
        gguf_source.converted(path, tmp_path / "cache")
    assert not gguf_source.is_converted(gguf_source.place_of(path, tmp_path / "cache"))


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF but not really" * 10)
    with pytest.raises(ArtifactError, match="this GGUF file cannot be read"):
        gguf_source.converted(path, tmp_path / "cache")
