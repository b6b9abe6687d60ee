"""Bytes of tokens against the tokenizers' own decoding."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import vocabularies
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tunewright.models.token_bytes import BytesUnknown, joined, token_bytes


@pytest.mark.parametrize("kind", [kind for kind in vocabularies.KINDS if kind != "sentence_piece"])
def test_random_tokens_are_their_bytes(kind: str, tmp_path: Path) -> None:
    """Half characters, control tokens and blanks in any order: the bytes joined are what decode shows."""
    tokenizer = vocabularies.named(kind, tmp_path)
    found = tokenizer.token_bytes
    drawn = random.Random(3)
    for _ in range(300):
        ids = [drawn.randrange(len(found.pieces)) for _ in range(12)]
        assert joined(found, ids).decode(errors="replace") == tokenizer.decode(ids)


def test_with_byte_fallback_they_are_every_text_s(tmp_path: Path) -> None:
    """What is no UTF-8 is shown by this decoder as one U+FFFD a byte, also for letters beside it; no text is so."""
    tokenizer = vocabularies.named("sentence_piece", tmp_path)
    drawn, letters = random.Random(3), '{}[]":,aeno中国药é😀 \n'
    for _ in range(300):
        text = "".join(drawn.choice(letters) for _ in range(12))
        ids = tokenizer.encode(text)
        assert joined(tokenizer.token_bytes, ids).decode() == f" {text}" and tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", vocabularies.KINDS)
def test_control_tokens_are_hidden_and_the_end_token_is_one(kind: str, tmp_path: Path) -> None:
    tokenizer = vocabularies.named(kind, tmp_path)
    assert tokenizer.end_ids and tokenizer.end_ids <= tokenizer.token_bytes.hidden
    assert tokenizer.token_bytes.of(10**9) == b"" == tokenizer.token_bytes.of(-1)


def test_parts_of_a_character_are_single_bytes(tmp_path: Path) -> None:
    tokenizer = vocabularies.named("byte_level", tmp_path)
    pieces = [tokenizer.token_bytes.of(token) for token in tokenizer.encode("药a")]
    assert pieces == [b"\xe8", b"\x8d", b"\xaf", b"a"]  # UTF-8 of U+836F
    piece = vocabularies.named("sentence_piece", tmp_path)
    spelled = [piece.token_bytes.of(token) for token in piece.encode("中药 no")]
    assert spelled == [b" ", "中".encode(), b"\xe8", b"\x8d", b"\xaf", b" no"]


def test_a_tokenizer_that_hides_its_bytes_is_refused() -> None:
    """WordPiece puts blanks between words that no token holds."""
    letters = ["[UNK]", *"abcdefghijklmnopqrstuvwxyzHA,.", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    made = Tokenizer(models.WordPiece({text: index for index, text in enumerate(letters)}, unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    with pytest.raises(BytesUnknown, match="bytes of this tokenizer's tokens are not known"):
        token_bytes(made)
