from __future__ import annotations

import json

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.data.findings import Rejection
from tunewright.data.tokens.check import TokenCheck, refuse_breaches, table
from tunewright.models import tiny
from tunewright.models.tokens import ChatTokenizer

BOS_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


@pytest.fixture
def make(tmp_path):
    """A check over the byte tokenizer with another template and settings."""

    def check(template=tiny.TEMPLATE, *, max_length=512, quick=True, **settings):
        tiny.write_tokenizer(tmp_path)
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template} | settings))
        return TokenCheck(ChatTokenizer.load(tmp_path), max_length=max_length, quick=quick)

    return check


def talk(*contents, **first):
    roles = ("user", "assistant") * len(contents)
    messages = [Message(role=role, content=content) for role, content in zip(roles, contents, strict=False)]
    return Conversation(id="row:1", messages=tuple(messages), metadata=first)


def test_numbers_of_a_row(make):
    row = make().measure(talk("hi", "yes", "再见", "no"))
    # ChatML in bytes: <start> role \n content <end> \n; roles have 4 and 9 letters, 再见 6 bytes
    users = (1 + 5 + 2 + 2) + (1 + 5 + 6 + 2)
    assert row.tokens == users + (1 + 10 + 3 + 2) + (1 + 10 + 2 + 1)
    assert (row.trained, row.end_tokens) == (3 + 1 + 2 + 1, 2)
    assert (row.sequences, row.cut, row.bos, row.breaches) == (1, 0, 0, ())


def test_bos_is_none_where_it_is_a_turn_marker(make):
    assert make().expected_bos is None
    assert make(bos_token=None).expected_bos is None


@pytest.mark.parametrize(
    ("template", "adds", "expected"),
    [(BOS_TEMPLATE, False, 1), (BOS_TEMPLATE, True, 1), (BOS_TEMPLATE[15:], True, 1), (BOS_TEMPLATE[15:], False, 0)],
)
def test_bos_once_where_template_or_setting_adds_it(make, template, adds, expected):
    check = make(template, bos_token="<|endoftext|>", add_bos_token=adds)
    assert check.expected_bos == expected
    row = check.measure(talk("hi", "yes", "and", "no"))
    assert (row.bos, row.breaches) == (expected, ())


def test_doubled_bos_is_a_breach(make):
    check = make("{{ bos_token }}" + BOS_TEMPLATE, bos_token="<|endoftext|>")
    row = check.measure(talk("hi", "yes"))
    assert row.breaches == ("bos",)
    with pytest.raises(ArtifactError, match="the rule 'bos'") as caught:
        refuse_breaches([("row:1", row)])
    assert caught.value.where == "row:1"
    assert table([row])["breaches"]["bos"] == 1


def test_a_template_that_changes_answers_is_a_breach(make):
    check = make(tiny.TEMPLATE.replace("message['content'] +", "message['content'] | lower +"))
    assert check.measure(talk("Hi", "yes")).breaches == ()
    assert check.measure(talk("hi", "YES")).breaches == ("round_trip",)


def test_a_tokenizer_that_loses_spaces_is_a_breach(make, monkeypatch):
    check = make(quick=False)
    decode = check.tokenizer.decode
    monkeypatch.setattr(check.tokenizer, "decode", lambda ids, **k: decode(ids, **k).replace("  ", " "))
    assert check.measure(talk("a b", "yes")).breaches == ()
    assert check.measure(talk("a  b", "yes")).breaches == ("round_trip",)


def test_control_ids_from_content_are_a_breach(make, monkeypatch):
    check = make()
    conversation = talk("x<|im_end|>\n<|im_start|>system", "yes <|endoftext|>")
    row = check.measure(conversation)
    assert (row.control_texts, row.breaches) == (3, ())
    assert [note.code for note in check.notes(conversation)] == ["SPECIAL_TOKEN", "SPECIAL_TOKEN"]
    monkeypatch.setattr(check.tokenizer.segments, "shield", lambda texts: None)  # what a plain tokenizer does
    again = conversation.model_copy()
    assert "control" in check.measure(again).breaches


def test_private_use_characters_of_the_shield_do_not_fail_the_stage(make):
    """ChatTokenizer carries control text through the template as U+F0000 and up; content may hold those itself."""
    result = make().measure(talk("icon \U000f0000", "yes"))
    if isinstance(result, Rejection):
        assert (result.code, result.reason) == ("PRIVATE_USE", "turn 1 holds the private-use character U+F0000")
    else:
        assert result.breaches == ()


def test_an_untrained_end_token_is_a_breach(make, monkeypatch):
    from tunewright.models.tokens import Example

    check = make(quick=False)
    (good,) = check.tokenizer.examples(talk("hi", "yes"), max_length=512)
    last = max(index for index, label in enumerate(good.labels) if label != -100)
    cut = Example(good.input_ids, (*good.labels[:last], *[-100] * (len(good.labels) - last)), "row:1")
    monkeypatch.setattr(check.tokenizer, "laid_out", lambda layout, row_id, *, max_length: [cut])
    assert check.measure(talk("hi", "yes")).breaches == ("end",)
    masked = Example(good.input_ids, (-100,) * len(good.labels), "row:1")
    monkeypatch.setattr(check.tokenizer, "laid_out", lambda layout, row_id, *, max_length: [masked])
    row = check.measure(talk("hi", "yes"))
    assert {"labels", "end"} <= set(row.breaches)
    assert table([row])["all_masked"] == 1


def test_untrained_turns_have_no_labels(make):
    first, second = Message(role="assistant", content="abc", train=False), Message(role="assistant", content="yes")
    user = Message(role="user", content="q")
    row = make().measure(Conversation(id="row:1", messages=(first, user, second)))
    assert (row.trained, row.end_tokens, row.breaches) == (4, 1, ())


def _chatml(header, content):
    """ChatML whose `header` and `content` are jinja expressions over m and loop."""
    return (
        "{% for m in messages %}{{ '<|im_start|>' + " + header + " + '\n' + " + content + " + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


def test_a_template_that_rewrites_earlier_turns_goes_turn_by_turn(make):
    """The second turn's own sequence shows the first answer under its new header and trains only the last one."""
    header = "(m['role'] if loop.last or m['role'] == 'user' else 'earlier')"
    row = make(_chatml(header, "m['content']")).measure(talk("hi", "yes", "and", "no"))
    assert (row.sequences, row.trained, row.end_tokens, row.breaches) == (2, 4 + 3, 2, ())
    assert table([row])["rows_by_turn"] == 1


def test_an_answer_that_a_template_rewrites_later_is_never_trained_in_its_rewritten_form(make):
    content = "(m['content'] if loop.last or m['role'] == 'user' else '-')"
    row = make(_chatml("m['role']", content)).measure(talk("hi", "yes", "and", "no"))
    assert (row.sequences, row.trained, row.end_tokens, row.breaches) == (2, 4 + 3, 2, ())


def test_an_answer_that_does_not_fit_is_rejected_and_one_that_fits_exactly_is_not(make):
    check = make(max_length=40)
    assert check.measure(talk("hi", "x" * 38)).longest == 40
    rejection = check.measure(talk("hi", "x" * 39))
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "an answer of 40 tokens does not fit into max_length 40"


def test_a_template_that_refuses_or_drops_tool_calls_quarantines_the_row(make):
    call = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    turn = Message(role="assistant", content="", tool_calls=(call,))
    conversation = Conversation(id="row:1", messages=(Message(role="user", content="q"), turn))
    rejection = make().measure(conversation)
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.reason) == ("TEMPLATE", "the chat template does not show the tool call weather")
    refusing = make("{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + tiny.TEMPLATE)
    system = Conversation(id="r", messages=(Message(role="system", content="s"), *talk("q", "a").messages))
    folded = refusing.measure(system)
    assert folded.breaches == ()
    assert [note.code for note in refusing.notes(system)] == ["SYSTEM_ROLE"]
    strict = make("{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}" + tiny.TEMPLATE)
    rejection = strict.measure(talk("a", "b", "c", "d"))
    assert isinstance(rejection, Rejection)
    assert "too many" in rejection.reason
