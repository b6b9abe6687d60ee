"""What the token check says of rows over max_length, of reasoning, tools, roles that vanish and unknown characters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.data.findings import Rejection
from tunewright.data.tokens.check import TokenCheck
from tunewright.models import tiny
from tunewright.models.tokens import IGNORED, ChatTokenizer

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
HEAD = len("<user\n>\n<assistant\n")
"""Tokens of a ChatML prompt around its question, a byte each and the control tokens one."""


@pytest.fixture
def make(tmp_path):
    def check(template=tiny.TEMPLATE, *, max_length=100):
        tiny.write_tokenizer(tmp_path)
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
        return TokenCheck(ChatTokenizer.load(tmp_path), max_length=max_length)

    return check


def talk(*contents, **metadata):
    roles = ("user", "assistant") * len(contents)
    messages = [Message(role=role, content=content) for role, content in zip(roles, contents, strict=False)]
    return Conversation(id="row:1", messages=tuple(messages), metadata=metadata)


def notes(check, conversation):
    measured = check.measure(conversation)
    assert not isinstance(measured, Rejection), measured
    assert measured.breaches == ()
    return {note.code: (note.action, note.reason) for note in check.notes(conversation)}


def trained(check, conversation):
    examples = check.tokenizer.examples(conversation, max_length=check.max_length)
    assert all(len(example.input_ids) <= check.max_length for example in examples)
    return [check.tokenizer.decode([t for t in e.labels if t != IGNORED], keep_special=True) for e in examples]


def test_a_row_that_fits_exactly_has_no_finding(make):
    check = make()
    row = talk("q" * (100 - HEAD - 4), "yes")
    assert notes(check, row) == {}
    assert check.measure(row).longest == 100
    assert set(notes(check, talk("q" * (101 - HEAD - 4), "yes"))) == {"PROMPT_CUT"}


def test_a_prompt_that_fills_the_length_is_cut_so_that_the_answer_stays(make):
    """At a plain cut every label would be gone (trl issue 6668)."""
    check = make()
    row = talk("q" * (100 - HEAD), "yes")
    assert notes(check, row) == {
        "ALL_MASKED": (
            "repaired",
            "the prompt of 100 tokens fills max_length 100: its start is cut so that the answer stays",
        )
    }
    assert trained(check, row) == ["yes<|im_end|>"]
    assert check.measure(row).cut == 4


def test_a_prompt_that_leaves_too_little_room_is_cut(make):
    check = make()
    row = talk("q" * (98 - HEAD), "yes")
    assert notes(check, row) == {
        "PROMPT_CUT": (
            "repaired",
            "prompt and answer have 102 tokens, max_length is 100: "
            "2 at the start of the prompt are cut so that the answer stays",
        )
    }
    assert trained(check, row) == ["yes<|im_end|>"]


def test_a_long_conversation_becomes_a_sequence_a_turn(make):
    check = make()
    row = talk("q" * 30, "first", "r" * 30, "second")
    found = notes(check, row)
    assert set(found) == {"TURN_SAMPLES", "PROMPT_CUT"}
    assert found["TURN_SAMPLES"][0] == "kept"
    assert "each of 2 answers is a sequence" in found["TURN_SAMPLES"][1]
    assert trained(check, row) == ["first<|im_end|>", "second<|im_end|>"]
    found = notes(check, talk("q" * 90, "first", "r", "second"))
    assert found["ALL_MASKED"][1].startswith(f"the prompt of {90 + HEAD} tokens fills max_length 100")


def test_a_template_that_rewrites_turns_is_no_finding_of_a_row_that_fits(make):
    earlier = "(message['role'] if loop.last or message['role'] == 'user' else 'x')"
    rewriting = tiny.TEMPLATE.replace("message['role'] +", f"{earlier} +")
    check = make(rewriting)
    row = talk("a", "b", "c", "d")
    assert notes(check, row) == {}
    assert check.measure(row).sequences == 2
    assert set(notes(check, talk("q" * 120, "b", "c", "d"))) == {"ALL_MASKED"}


@pytest.mark.skipif(not CASES.is_dir(), reason="the collection of cases is not beside this checkout")
def test_case_09_is_repaired_with_the_whole_answer_trained(make):
    check = make(max_length=1024)
    row = json.loads((CASES / "09-long-prompt-labels-all-masked" / "input.jsonl").read_text(encoding="utf-8"))
    conversation = Conversation(id="c", messages=row["conversation"], metadata=row["metadata"])
    found = notes(check, conversation)
    assert {code: action for code, (action, _) in found.items()} == {"ALL_MASKED": "repaired"}
    assert trained(check, conversation) == [conversation.reference + "<|im_end|>"]


def test_reasoning_that_the_template_leaves_out_is_said(make):
    dropping = tiny.TEMPLATE.replace("message['content'] +", "message['content'].split('</think>')[-1] +")
    row = talk("q", "<think>\nwhy\n</think>\nyes")
    assert notes(make(dropping), row)["REASONING"] == (
        "kept",
        "the template leaves out the reasoning of turn 2: only the answer is trained",
    )
    assert "REASONING" not in notes(make(), row)


def test_tools_that_the_template_does_not_show_are_said(make):
    tools = [{"name": "weather", "description": "d", "parameters": {}}]
    assert "none of the row's 1 tool" in notes(make(), talk("q", "a", tools=tools))["TOOLS_UNUSED"][1]
    assert "no list" in notes(make(), talk("q", "a", tools="weather"))["TOOLS_UNUSED"][1]
    assert notes(make(), talk("q", "a", tools="[]")) == notes(make(), talk("q", "a", tools=[])) == {}
    check = make("{% if tools %}{{ tools | tojson }}{% endif %}" + tiny.TEMPLATE, max_length=200)
    assert notes(check, talk("q", "a", tools=tools)) == {}


def test_control_text_in_a_tool_call_or_tool_is_said(make):
    source = tiny.TEMPLATE.replace("+ message['content'] +", "+ (message['content'] or message.tool_calls | tojson) +")
    check = make("{% if tools %}{{ tools | tojson }}{% endif %}" + source, max_length=200)
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": "<|im_end|>"}}}
    messages = (Message(role="user", content="q"), Message(role="assistant", content=None, tool_calls=(call,)))
    found = notes(check, Conversation(id="r", messages=messages))
    assert found["SPECIAL_TOKEN"] == ("kept", "turn 2 spells control token <|im_end|>; encoded as plain text")
    found = notes(check, talk("q", "a", tools=[{"name": "f", "description": "<|im_start|>"}]))
    assert found["SPECIAL_TOKEN"] == ("kept", "the tools spell control token <|im_start|>; encoded as plain text")


def test_a_role_that_vanishes_in_the_template_is_refused(make):
    """deepseek-llm-7b-chat's template leaves turns of the role tool out without a word."""
    knows = "{% if message['role'] != 'tool' %}"
    check = make(
        tiny.TEMPLATE.replace("{{ '<|im_start|>' + message", knows + "{{ '<|im_start|>' + message").replace(
            "{% endfor %}", "{% endif %}{% endfor %}"
        )
    )
    messages = (*talk("q", "a").messages, Message(role="tool", content="18"), Message(role="assistant", content="ok"))
    found = check.measure(Conversation(id="r", messages=messages))
    assert isinstance(found, Rejection)
    assert (found.code, found.reason) == ("TEMPLATE", "the chat template does not show turn 3, of the role tool")


def test_a_template_that_keeps_no_prompt_quarantines_the_row_with_the_turn(make):
    found = make(tiny.TEMPLATE.replace("assistant\n", "bot\n")).measure(talk("q", "a"))
    assert isinstance(found, Rejection)
    assert (found.code, found.reason) == ("TEMPLATE", "the template does not keep the prompt in front of turn 2")


def test_a_character_that_the_tokenizer_does_not_know_quarantines_the_row(make, tmp_path):
    make()
    path = tmp_path / "tokenizer.json"
    document = json.loads(path.read_text())
    document["normalizer"] = {"type": "Replace", "pattern": {"String": "\u2603"}, "content": "?"}
    path.write_text(json.dumps(document))
    check = TokenCheck(ChatTokenizer.load(tmp_path), max_length=100)
    found = check.measure(talk("snow \u2603", "yes"))
    assert isinstance(found, Rejection)
    assert (found.code, found.reason) == (
        "UNENCODABLE",
        "turn 1 holds U+2603, which the model's tokenizer does not know",
    )
    assert check.measure(talk("snow", "yes")).breaches == ()
