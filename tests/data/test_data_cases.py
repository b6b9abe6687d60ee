"""The collected cases of broken input (outside this repository) end as their page says, with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the collection of cases is not beside this checkout")

# case: one entry a row: (action, code, part of the reason); a clean row has no code.
EXPECTED = {
    "01-odd-turns-last-user": [("repaired", "DANGLING_USER", "last user turn without an answer")],
    "02-first-turn-assistant": [("kept", "FIRST_ASSISTANT", "not trained")],
    "03-empty-assistant": [("quarantined", "EMPTY_TARGET", "turn 2 is empty")],
    "05-null-content": [("quarantined", "NULL_CONTENT", "turn 2 is null")],
    "06-consecutive-same-role": [("repaired", "SAME_ROLE", "user turn 2 merged")],
    "07-tool-calls-null-content": [("kept", "", "")],
    "10-bom": [("repaired", "BOM", "byte order mark")],
    "12-crlf": [("kept", "", ""), ("quarantined", "DUPLICATE", "input.jsonl:1")],
    "14-gb18030": [("repaired", "ENCODING", "read as GB18030")],
    "15-invalid-utf8-one-row": [
        ("kept", "", ""),
        ("quarantined", "BAD_UTF8", "byte 0xe9 at offset 197"),
        ("quarantined", "DUPLICATE", "input.jsonl:1"),
    ],
    "16-lone-surrogate": [("repaired", "SURROGATE", "1 lone surrogate")],
    "19-huge-line": [("quarantined", "TOO_LONG", "1100107 characters, limit 1000000")],
    "20-json-array": [("repaired", "ARRAY", "element of a JSON array"), ("quarantined", "DUPLICATE", "input.jsonl#1")],
    "22-trailing-comma": [("repaired", "JSON_SYNTAX", "comma after the object")],
    "23-truncated-last-line": [("kept", "", ""), ("quarantined", "JSON_SYNTAX", "line 2, column 36")],
    "25-number-content": [("kept", "", ""), ("repaired", "TYPE", "number of turn 1")],
    "26-content-parts-list": [("kept", "", ""), ("quarantined", "PARTS", "type 'image'")],
    "27-nan": [("repaired", "NON_FINITE", "became null")],
    "29-zero-width": [("repaired", "ZERO_WIDTH", "3 zero-width")],
    "30-fullwidth": [("kept", "FULLWIDTH", "stay as they are")],
    "32-system-role-no-template-support": [("kept", "", "")],
    "34-template-has-bos": [("kept", "", "")],
    "35-eos-in-labels": [("kept", "", "")],
    "36-no-generation-tag": [("kept", "", "")],
    "38-missing-conversation-key": [
        ("kept", "", ""),
        ("quarantined", "MISSING", "found: foo"),
        ("quarantined", "MISSING", "no turns"),
    ],
    "39-blank-lines-and-comments": [
        ("kept", "", ""),
        ("quarantined", "JSON_SYNTAX", "line 4 is a comment"),
        ("quarantined", "DUPLICATE", "input.jsonl:2"),
    ],
}
TEXTS = {
    "06-consecutive-same-role": ["在吗\n我想查一下账单", "好的\n请稍等"],
    "16-lone-surrogate": ["hi  there", "ok"],
    "29-zero-width": ["余额查询 👨‍👩‍👧", "好"],
    "30-fullwidth": ["卡号６２２２０２１２３４５６７８９０，密码ＡＢＣ", "请勿发送密码。"],
}


def _bytes(name):
    return (CASES / name / "input.jsonl").read_bytes()


@pytest.mark.parametrize("name", EXPECTED)
def test_case_ends_as_its_page_says(gate, found, name):
    outcomes = gate.outcomes(_bytes(name))
    assert [outcome.action for outcome in outcomes] == [action for action, _, _ in EXPECTED[name]]
    for outcome, (action, code, reason) in zip(outcomes, EXPECTED[name], strict=True):
        codes = found(outcome)
        if not code:
            assert codes == {}
            continue
        assert codes[code][0] == action
        assert reason in codes[code][1]


@pytest.mark.parametrize("name", TEXTS)
def test_case_text(gate, name):
    (outcome,) = gate.outcomes(_bytes(name))
    assert [message.content for message in outcome.usable.conversation.messages] == TEXTS[name]


def test_number_keeps_the_spelling_of_the_source(gate):
    outcome = gate.outcomes(_bytes("25-number-content"))[1]
    assert [message.content for message in outcome.usable.conversation.messages] == ["1001", "3.50"]


def test_nan_is_null_in_metadata(gate):
    (outcome,) = gate.outcomes(_bytes("27-nan"))
    assert outcome.usable.conversation.metadata == {"score": None}


def test_tool_call_arguments_become_an_object(gate):
    (outcome,) = gate.outcomes(_bytes("07-tool-calls-null-content"))
    call = outcome.usable.conversation.messages[1]
    assert call.content is None
    assert call.tool_calls[0]["function"] == {"name": "weather", "arguments": {"city": "上海"}}


def test_special_tokens_of_the_model_are_kept_and_never_become_control_ids(proven_gate, found):
    (outcome,) = proven_gate.outcomes(_bytes("31-special-token-injection"))
    assert outcome.action == "kept"
    assert found(outcome)["SPECIAL_TOKEN"][0] == "kept"
    assert outcome.usable.tokens.control_texts == 3
    assert outcome.usable.tokens.breaches == ()
    ids = proven_gate.tokenizer.messages_ids(outcome.usable.conversation.messages)
    end = proven_gate.tokenizer.encode("<|im_end|>")[0]
    assert ids.count(end) == 2  # one a turn; the page counts five for a plain tokenizer


def test_long_prompt_is_cut_and_the_answer_stays(proven_gate):
    text = json.loads(_bytes("09-long-prompt-labels-all-masked"))["conversation"]
    text[0]["content"] = text[0]["content"][:4000]
    (row,) = proven_gate.outcomes(json.dumps({"conversation": text}).encode(), max_length=1024)
    assert row.usable.tokens.cut > 0
    assert row.usable.tokens.longest == 1024
    assert row.usable.tokens.trained == len((text[1]["content"]).encode()) + 1
