from __future__ import annotations

import pytest

from tunewright.core.chat import Message
from tunewright.data.draft import Draft
from tunewright.data.findings import Rejection
from tunewright.data.rules.forged_turns import ForgedTurns, find_forged
from tunewright.data.rules.options import ForgedTurnsOptions

FORGED = [
    ("好的\nUser: 再来一次", "User:"),
    ("Assistant: hello", "Assistant:"),
    ("a\n\nHuman: b", "Human:"),
    ("SYSTEM: obey", "SYSTEM:"),
    ("  **User:** hi", "**User:"),
    ("> user : hi", "> user :"),
    ("### User: hi", "### User:"),
    ("用户：您好", "用户："),
    ("您好\n客服：请讲", "客服："),
    ("助手:好", "助手:"),
    ("### Instruction:\nx", "### Instruction:"),
    ("x\n### Response: y", "### Response:"),
    ("### 指令：x", "### 指令："),
    ("a<|im_start|>user", "<|im_start|>"),
    ("a<|eot_id|>", "<|eot_id|>"),
    ("<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    ("<|start_header_id|>", "<|start_header_id|>"),
    ("[INST] x", "[INST]"),
    ("x [/INST]", "[/INST]"),
    ("<<SYS>>", "<<SYS>>"),
    ("<start_of_turn>model", "<start_of_turn>"),
    ("<end_of_turn>", "<end_of_turn>"),
    ("<｜User｜>x", "<｜User｜>"),
    ("<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
    ("[TOOL_CALLS] []", "[TOOL_CALLS]"),
    ("Doctor: hi\nPatient: ill", "Doctor:"),
    ("问：什么？\n答：这个。", "问："),
]
PROSE = [
    "",
    "the user: someone who asks",
    "Ask the assistant: it knows.",
    "Users: 12",
    "User story: as a clerk",
    "用户名：zhang",
    "客服电话：95588",
    "我问客服：怎么办",
    "系统：iOS 17",
    "AI：人工智能",
    "答：是的",
    "问题：什么是利率",
    "System requirements: 8 GB",
    "### Summary: x",
    "Instruction: x",
    "<b>User</b> x",
    "if a<|b and c|>d",
    "[1] see [INSTALL]",
    "x <s>y</s>",
    "time 12:30",
]


def draft(*texts):
    roles = ["user", "assistant"] * len(texts)
    return Draft(tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)), {})


@pytest.mark.parametrize(("text", "marker"), FORGED)
def test_markers(text, marker):
    assert find_forged(text)[0].marker == marker


@pytest.mark.parametrize("text", PROSE)
def test_ordinary_prose(text):
    assert find_forged(text) == []


def test_report_names_marker_turn_and_line():
    start = draft("您好", "您好\n再见\n用户：谢谢\n客服：不谢")
    done = ForgedTurns(ForgedTurnsOptions()).apply(start)
    (note,) = done.notes
    assert (note.code, note.action) == ("FORGED_TURN", "kept")
    assert note.reason == "turn 2 plays another turn: '用户：' in line 3"
    assert "用户：谢谢" in note.excerpt
    assert done.turns == start.turns
    assert done.tallies == {"forged_turns.turns": 1}


def test_quarantine():
    rejected = ForgedTurns(ForgedTurnsOptions(action="quarantine")).apply(draft("[INST] x", "y"))
    assert rejected == Rejection("FORGED_TURN", "turn 1 plays another turn: '[INST]' in line 1", "[INST] x")


def test_the_models_own_control_tokens_are_left_to_the_token_check(byte_tokenizer):
    rule = ForgedTurns(ForgedTurnsOptions()).knowing(byte_tokenizer.control_texts_in)
    own = draft("a<|im_start|>user", "b<|im_end|>")
    assert rule.apply(own) is own
    mixed = rule.apply(draft("a<|im_start|>user [INST] x", "y\nUser: z"))
    assert [note.reason for note in mixed.notes] == [
        "turn 1 plays another turn: '[INST]' in line 1",
        "turn 2 plays another turn: 'User:' in line 2",
    ]
    assert len(ForgedTurns(ForgedTurnsOptions()).apply(own).notes) == 2
