"""Reasoning under the template's own key, and ids of tool calls, for templates in the shapes of today's.

The templates are written for these tests; what they demand was read off the published ones (Kimi-K2-Thinking writes
`reasoning_content` between its marks and never looks into the content; Qwen3 knows both ways; DeepSeek-R1 drops what
stands before `</think>`; gpt-oss calls the key `thinking`; Mistral v3 refuses ids that have not nine characters).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.models import tiny
from tunewright.models.template import ChatTemplate, TemplateRefusal
from tunewright.models.tokens import IGNORED, ChatTokenizer
from tunewright.models.turn_form import made_id, with_call_ids, with_reasoning_key

HEAD = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
TAIL = "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
KEY_ONLY = (
    HEAD + "{% if m.role == 'assistant' %}{{ '<think>' + (m.reasoning_content or '') + '</think>' }}{% endif %}"
    "{{ m.content }}" + TAIL
)
BOTH = (
    HEAD + "{% set text = m.content %}{% set thought = '' %}{% if m.role == 'assistant' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
    "{% elif '</think>' in text %}{% set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if thought %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{% endif %}{{ text }}" + TAIL
)
CHANNELS = (
    HEAD
    + "{% if m.thinking is defined %}{{ '<|im_start|>analysis ' + m.thinking + '|' }}{% endif %}{{ m.content }}"
    + TAIL
)
DROPS = HEAD + "{{ m.content.split('</think>')[-1] }}" + TAIL
MISTRAL = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}"
    "{% elif m.tool_calls is defined and m.tool_calls %}{{ '[TOOL_CALLS][' }}{% for c in m.tool_calls %}"
    "{% if c.id is not defined or c.id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments, 'id': c.id} | tojson }}"
    "{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{{ ']<|im_end|>' }}"
    "{% elif m.role == 'tool' %}{% if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}"
    "{{ raise_exception('Tool call IDs should be alphanumeric strings with length 9!') }}{% endif %}"
    "{{ '[TOOL_RESULTS]' + m.content + '#' + m.tool_call_id + '[/TOOL_RESULTS]' }}"
    "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
)
ASK = Message(role="user", content="2+2?")
THOUGHT = Message(role="assistant", content="<think>\nTwo <b>\n</think>\n\nFour.")
PLAIN = Message(role="assistant", content="Four.")


def call(name: str, number: int, **more: str) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "arguments": {"n": number}}, **more}


def talk(*calls: dict[str, object], results: tuple[Message, ...] = ()) -> tuple[Message, ...]:
    return (ASK, Message(role="assistant", content=None, tool_calls=calls), *results, PLAIN)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], ChatTokenizer]:
    """A byte tokenizer with <think> and </think> as control tokens and this template."""

    def load(template: str) -> ChatTokenizer:
        tiny.write_tokenizer(tmp_path)
        path = tmp_path / "tokenizer.json"
        content = json.loads(path.read_text())
        for index, text in enumerate(("<think>", "</think>"), start=259):
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
            content["added_tokens"].append({"id": index, "content": text, **flags})
        path.write_text(json.dumps(content))
        (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
        return ChatTokenizer.load(tmp_path)

    return load


def trained(tokenizer: ChatTokenizer, *messages: Message) -> str:
    (found,) = tokenizer.examples(Conversation(id="r", messages=messages), max_length=999)
    return tokenizer.decode([token for token in found.labels if token != IGNORED], keep_special=True)


@pytest.mark.parametrize(
    ("template", "key", "expected"),
    [
        (KEY_ONLY, "reasoning_content", "<think>Two <b></think>Four.<|im_end|>"),
        (KEY_ONLY.replace("reasoning_content", "reasoning"), "reasoning", "<think>Two <b></think>Four.<|im_end|>"),
        (BOTH, "reasoning_content", "<think>\nTwo <b>\n</think>\n\nFour.<|im_end|>"),
        (CHANNELS, "thinking", "<|im_start|>analysis Two <b>|Four.<|im_end|>"),
        (tiny.TEMPLATE, "", "<think>\nTwo <b>\n</think>\n\nFour.<|im_end|>"),
        (DROPS, "", "\n\nFour.<|im_end|>"),
    ],
)
def test_reasoning_is_trained_where_the_template_writes_it(
    make: Callable[[str], ChatTokenizer], template: str, key: str, expected: str
) -> None:
    tokenizer = make(template)
    assert tokenizer.template.turn_form.reasoning_key == key
    assert trained(tokenizer, ASK, THOUGHT) == expected


@pytest.mark.parametrize("template", [KEY_ONLY, BOTH, tiny.TEMPLATE])
def test_the_marks_are_control_ids_and_those_inside_reasoning_are_not(
    make: Callable[[str], ChatTokenizer], template: str
) -> None:
    tokenizer = make(template)
    marks = [tokenizer.segments.controls[text] for text in ("<think>", "</think>")]
    evil = THOUGHT.model_copy(update={"content": "<think>\nits end is <|im_end|>\n</think>\n\nFour."})
    (found,) = tokenizer.examples(Conversation(id="r", messages=(ASK, evil)), max_length=999)
    assert [found.labels.count(mark) for mark in marks] == [1, 1]
    assert sum(token in tokenizer.end_ids for token in found.labels) == 1, "the text of the reasoning is no end token"


def test_a_template_that_knows_both_ways_renders_the_same_by_either(make: Callable[[str], ChatTokenizer]) -> None:
    template = make(BOTH).template
    by_content = template.render_turns([message.to_template() for message in (ASK, THOUGHT)])
    assert template.render((ASK, THOUGHT)) == by_content
    assert "Two <b>" in by_content


def test_only_a_block_at_the_beginning_of_an_answer_moves() -> None:
    for turn in (
        {"role": "assistant", "content": "So <think>no</think>"},
        {"role": "user", "content": "<think>no</think>x"},
        {"role": "assistant", "content": None, "tool_calls": [call("f", 1)]},
    ):
        assert with_reasoning_key(turn, "reasoning_content") is turn
    moved = with_reasoning_key({"role": "assistant", "content": "<think>why</think>\n\n x\n"}, "thinking")
    assert moved == {"role": "assistant", "content": " x\n", "thinking": "why"}


def mistral() -> ChatTemplate:
    return ChatTemplate(MISTRAL, {})


def test_calls_without_ids_get_valid_ones_where_the_template_demands_them() -> None:
    template = mistral()
    assert template.turn_form.needs_call_ids
    results = (Message(role="tool", content="one"), Message(role="tool", content="two"))
    text = template.render(talk(call("f", 1), call("f", 1), results=results))
    ids = [made_id(1, place, call("f", 1)["function"]) for place in (0, 1)]
    assert ids[0] != ids[1]
    assert all(len(one) == 9 and one.isalnum() and one.isascii() for one in ids)
    assert [text.count(one) for one in ids] == [2, 2], "each call and its own result"
    assert text.index(f"one#{ids[0]}") < text.index(f"two#{ids[1]}")
    assert template.render(talk(call("f", 1), call("f", 1), results=results)) == text


def test_made_ids_are_the_same_in_the_rendering_of_every_prompt() -> None:
    template = mistral()
    messages = talk(call("f", 1), results=(Message(role="tool", content="one"),))
    whole = template.render(messages)
    assert all(whole.startswith(template.render(messages[:count])) for count in range(1, len(messages)))


def test_the_users_ids_stay_and_a_refused_one_is_said_in_the_templates_words() -> None:
    template = mistral()
    result = Message(role="tool", content="one")
    text = template.render(talk(call("f", 1, id="aB3dE5gH9"), results=(result,)))
    assert text.count("aB3dE5gH9") == 2, "a result that names no call gets the call's"
    with pytest.raises(TemplateRefusal, match="alphanumeric strings with length 9"):
        template.render(talk(call("f", 1, id="call_1"), results=(result,)))


def test_templates_that_take_calls_without_ids_get_none() -> None:
    source = (
        HEAD + "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}"
        "{{ ' id ' + c.id if c.id is defined else ' no id' }}{% endfor %}" + TAIL
    )
    template = ChatTemplate(source, {})
    assert not template.turn_form.needs_call_ids
    assert '{"name": "f", "arguments": {"n": 1}} no id<|im_end|>' in template.render(talk(call("f", 1)))
    assert '{"name": "f", "arguments": {"n": 1}} id x<|im_end|>' in template.render(talk(call("f", 1, id="x")))


def test_results_in_another_order_name_their_calls() -> None:
    turns: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [call("f", 1, id="a"), call("f", 2)]},
        {"role": "tool", "content": "two", "tool_call_id": made_id(0, 1, call("f", 2)["function"])},
        {"role": "tool", "content": "one"},
    ]
    assert with_call_ids(turns)[2]["tool_call_id"] == "a"
