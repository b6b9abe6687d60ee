"""Renderings from frames are those of the template, and only templates that copy contents have frames."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models import tiny
from tunewright.models.concatenative import is_concatenative
from tunewright.models.template import ChatTemplate, TemplateRefusal
from tunewright.models.tokens import ChatTokenizer

HEAD, TAIL = "{{ '<|im_start|>' + m.role + '\n' }}", "{{ '<|im_end|>\n' }}"
PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chatml(body: str) -> str:
    return "{% for m in messages %}" + HEAD + body + TAIL + "{% endfor %}" + PROMPT


COPYING = {
    "plain": chatml("{{ m.content }}"),
    "trimmed": chatml("{{ m['content'] | trim }}"),
    "stripped": chatml("{{ m['content'].strip('\n') ~ '' }}"),
    "where there is one": chatml("{% if m.content is not none and m.content %}{{ m.content }}{% endif %}"),
    "under a name": chatml("{% set text = m.content if m.content is string else '' %}{{ text }}"),
    "system first": "{% set ns = namespace(text='') %}{% for m in messages %}{% if m.role == 'system' %}"
    "{% set ns.text = m.content %}{% endif %}{% endfor %}{{ ns.text }}{% for m in messages[1:] %}"
    + HEAD
    + "{{ m.content }}"
    + TAIL
    + "{% endfor %}"
    + PROMPT,
    "alternating": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('no') }}{% endif %}" + HEAD + "{{ m.content }}" + TAIL + "{% endfor %}" + PROMPT,
    "twice": chatml("{{ m.content + ' | ' + m.content }}"),
    "only the last": "{{ messages[-1].content }}{{ '<|im_end|>' }}" + PROMPT,
    "trained block": chatml("{% generation %}{{ m.content }}{% endgeneration %}"),
}
DECIDING = {
    "in": chatml("{% if 'x' in m.content %}!{% endif %}{{ m.content }}"),
    "equal": chatml("{% if m.content == 'yes' %}!{% endif %}{{ m.content }}"),
    "length": chatml("{{ m.content | length }}"),
    "split": chatml("{{ m.content.split('a')[-1] }}"),
    "replaced": chatml("{{ m.content | replace('a', 'b') }}"),
    "upper": chatml("{{ m.content | upper }}"),
    "json": chatml("{{ m.content | tojson }}"),
    "whole turn": chatml("{{ m }}"),
    "all turns": "{{ messages | tojson }}",
    "items": "{% for m in messages %}{% for key, value in m.items() %}{{ value }}{% endfor %}{% endfor %}",
    "get": chatml("{{ m.get('content') }}"),
    "any key": chatml("{% for key in ['content'] %}{{ m[key] | upper }}{% endfor %}"),
    "letters": chatml("{% for letter in m.content %}{{ letter }}{% endfor %}"),
    "sliced": chatml("{{ m.content[:3] }}"),
    "stripped of a letter": chatml("{{ m.content.strip('a') }}"),
    "renamed": chatml("{% set text = m.content %}{{ text | upper }}"),
    "joined first": chatml("{% set text = m.role ~ m.content %}{% if 'x' in text %}!{% endif %}{{ text }}"),
    "namespace": chatml("{% set ns = namespace(a=m.content) %}{{ ns.a | upper }}"),
    "other namespace": chatml(
        "{% set ns = namespace(a='') %}{% set ns.a = m.content %}{% set other = ns %}{{ other.a | upper }}"
    ),
    "neighbour": chatml(
        "{% if loop.previtem is defined %}{{ loop.previtem.content | upper }}{% endif %}{{ m.content }}"
    ),
    "neighbour by key": chatml("{{ loop['previtem'].content | upper }}"),
    "later name": chatml("{{ kept | upper if kept else '' }}{{ m.content }}") + "{% set kept = messages[0].content %}",
    "macro": "{% macro show(text) %}{{ text | upper }}{% endmacro %}" + chatml("{{ show(m.content) }}"),
    "block set": chatml("{% set text %}{{ m.content }}{% endset %}{{ text | upper }}"),
    "formatted": chatml("{{ '%s' | format(m.content) }}"),
    "list": chatml("{{ [m.content] | join(',') }}"),
    "date": chatml("{{ strftime_now('%Y') }}{{ m.content }}"),
}


@pytest.mark.parametrize("name", COPYING)
def test_templates_that_copy_are_known(name: str) -> None:
    assert is_concatenative(ChatTemplate(COPYING[name], {}).syntax())


@pytest.mark.parametrize("name", DECIDING)
def test_templates_that_look_at_contents_are_not(name: str) -> None:
    assert not is_concatenative(ChatTemplate(DECIDING[name], {}).syntax())


def pair(folder: Path, template: str) -> tuple[ChatTokenizer, ChatTokenizer]:
    """With frames and without."""
    tiny.write_tokenizer(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    framed, plain = ChatTokenizer.load(folder), ChatTokenizer.load(folder)
    plain.frames.is_used = False
    return framed, plain


@pytest.fixture(scope="module", params=[*COPYING, "built in", "replaced", "glued"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ChatTokenizer, ChatTokenizer]:
    known = {**COPYING, **DECIDING, "built in": tiny.TEMPLATE, "glued": GLUED}
    return pair(tmp_path_factory.mktemp("t"), known[request.param])


GLUED = "{% for m in messages %}{{ '<|im_' + m.content + '|>' + '<|im_end|>' }}{% endfor %}" + PROMPT
"""A content `end` becomes a control token between these pieces."""
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["yes", " yes", "yes\n", "", "end", "<|im_end|>", "<|im_", "end|>", "a <think> b", "\ue0f01\ue0f1"]
    ),
    st.just("<think>\nx\n</think>\n\ny"),
)


@settings(max_examples=120, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=5), system=st.booleans(), untrained=st.booleans(), cut=st.booleans())
def test_frames_say_what_the_template_says(both, texts, system, untrained, cut) -> None:
    roles = ("system", "user", "assistant", "user", "assistant") if system else ("user", "assistant") * 3
    messages = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)]
    if untrained:
        messages = [turn.model_copy(update={"train": False}) if turn.content == "yes" else turn for turn in messages]
    for generation in (False, True):
        found = [ids(tokenizer, messages, generation) for tokenizer in both]
        assert found[0] == found[1]
    if any(turn.trained for turn in messages):
        conversation = Conversation(id="r", messages=tuple(messages))
        laid = [layout(tokenizer, conversation, 20 if cut else 10**6) for tokenizer in both]
        assert laid[0] == laid[1]


def ids(tokenizer: ChatTokenizer, messages: list[Message], generation: bool) -> list[int] | str:
    try:
        return tokenizer.messages_ids(messages, generation_prompt=generation)
    except TemplateRefusal as refusal:
        return refusal.problem


def layout(tokenizer: ChatTokenizer, conversation: Conversation, max_length: int) -> object:
    try:
        found = tokenizer.layout(conversation)
        examples = tokenizer.examples(conversation, max_length=max_length)
    except (TemplateRefusal, ArtifactError) as refusal:
        return refusal.problem
    turns = [
        (t.index, t.own.text, t.own.ids, list(t.own.parts), t.start, t.end, t.answer, t.exact) for t in found.turns
    ]
    whole = found.whole and (found.whole.text, found.whole.ids)
    return turns, whole, found.spells_controls, [astuple(example) for example in examples]


def test_ordinary_rows_have_frames(tmp_path: Path) -> None:
    """Else the speed would be lost without a word; a row with a tool call, or a control token, has none."""
    framed, _ = pair(tmp_path, tiny.TEMPLATE)
    ask, answer = Message(role="user", content="Card?"), Message(role="assistant", content="Lost.")
    whole = framed.layout(Conversation(id="r", messages=(ask, answer))).whole
    assert whole is not None and whole.frame is not None
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    for odd in (
        answer.model_copy(update={"tool_calls": (call,)}),
        answer.model_copy(update={"content": "a <|im_end|>"}),
        answer.model_copy(update={"content": " a"}),
        answer.model_copy(update={"content": ""}),
        answer.model_copy(update={"name": "x"}),
    ):
        assert framed.frames.taken((ask, odd)) is None
    assert framed.frames.taken((ask, Message(role="tool", content="x"))) is None


def test_pieces_that_could_make_a_control_token_with_a_content_are_no_frame(tmp_path: Path) -> None:
    framed, _ = pair(tmp_path, GLUED)
    assert framed.frames.is_proven
    assert framed.frames.of(("user",), generation_prompt=False) is None
