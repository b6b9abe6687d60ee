"""Tools over real HTTP with the official client: what the model is shown, and calls read out of what it says.

The model says a script, so that the answer is known; the prompt is compared with the tokenizer's own rendering.
"""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import openai
import pytest
import serving_kit as kit
from tokenizers import AddedToken, Tokenizer

from tunewright.core.chat import Message
from tunewright.models.generate import Request, Sampling
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.answers import Answer, Reader, TimeLimit
from tunewright.serve.calls import CallReader, HeldText, Spoken

HERMES = (
    "{% if tools %}{{ '<|im_start|>system\nTools:' }}{% for t in tools %}{{ '\n' + t | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function | tojson + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "天气 <now>", "parameters": PARAMETERS}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
ASK = [{"role": "user", "content": "上海天气?"}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "上海"}}\n</tool_call>'
TIME = '<tool_call>{"name": "clock", "arguments": {}}</tool_call>'


@pytest.fixture(scope="module")
def desk():
    """(client, model, tokenizer) of a server whose template knows tools."""
    loaded = kit.with_template(kit.tiny(ends=True), HERMES)
    model = kit.ScriptedModel(loaded.model._model, [])
    with kit.serving(type(loaded)(model, loaded.tokenizer, 512)) as (url, _):
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), model, loaded.tokenizer


def script(desk, text):
    _, model, tokenizer = desk
    model.script = [*tokenizer.encode(text), *tokenizer.end_ids]


def ask(desk, says, *, messages=ASK, **options):
    """(message, finish reason) of an answer."""
    script(desk, says)
    options = {"tools": [WEATHER, CLOCK], **options}
    done = desk[0].chat.completions.create(model=kit.MODEL, messages=messages, **options)
    return done.choices[0].message, done.choices[0].finish_reason


def streamed(desk, says, **options):
    """(pieces of content, calls, finish reason) of a streamed answer."""
    script(desk, says)
    options = {"tools": [WEATHER, CLOCK], **options}
    chunks = list(desk[0].chat.completions.create(model=kit.MODEL, messages=ASK, stream=True, **options))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    calls = [call for delta in deltas for call in delta.tool_calls or []]
    return [delta.content for delta in deltas if delta.content], calls, chunks[-1].choices[0].finish_reason


def shown(desk):
    return desk[2].decode(desk[1].asked, keep_special=True)


def test_the_model_is_shown_the_tools_as_the_template_writes_them(desk):
    ask(desk, "Hi")
    messages = [Message(role="user", content="上海天气?")]
    assert desk[1].asked == desk[2].prompt_ids(messages, tools=[WEATHER, CLOCK])
    assert f"Tools:\n{json.dumps(WEATHER, ensure_ascii=False)}\n{json.dumps(CLOCK)}<|im_end|>" in shown(desk)


@pytest.mark.parametrize("options", [{"tool_choice": "none"}, {"tools": openai.NOT_GIVEN}])
def test_without_tools_none_are_shown_and_text_stays_text(desk, options):
    message, reason = ask(desk, CALL, **options)
    assert (message.content, message.tool_calls, reason) == (CALL, None, "stop")
    assert "weather" not in shown(desk)


def test_a_call_becomes_a_tool_call_with_the_text_before_it(desk):
    message, reason = ask(desk, f"Let me see. \n{CALL}\n")
    (call,) = message.tool_calls
    assert (message.content, reason) == ("Let me see.", "tool_calls")
    assert (call.type, call.function.name) == ("function", "weather")
    assert json.loads(call.function.arguments) == {"city": "上海"}
    assert len(call.id) == 9 and call.id.isalnum()
    alone, _ = ask(desk, f"{CALL}\n{TIME}")
    assert alone.content is None
    assert [one.function.name for one in alone.tool_calls] == ["weather", "clock"]
    assert len({one.id for one in alone.tool_calls}) == 2


@pytest.mark.parametrize(
    "says",
    [
        "No tool is needed.",
        '<tool_call>{"name": "bank", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {"city"</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "no object"}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": {}}',
        f"{CALL} and {TIME}",
        "<think>I could say <tool_call> here</think>It is a < b.",
        "a <tool",
    ],
)
def test_what_is_no_whole_call_of_an_offered_tool_stays_text(desk, says):
    message, reason = ask(desk, says)
    assert (message.content, message.tool_calls, reason) == (says, None, "stop")
    pieces, calls, reason = streamed(desk, says)
    assert ("".join(pieces), calls, reason) == (says, [], "stop")


def test_an_answer_that_is_cut_is_text(desk):
    message, reason = ask(desk, CALL, max_tokens=len(CALL.encode()) - 1)
    assert (message.content, message.tool_calls, reason) == (CALL[:-1], None, "length")


def test_a_call_that_is_only_thought_of_is_none(desk):
    message, reason = ask(desk, f"<think>maybe {TIME}</think>{CALL}")
    assert [one.function.name for one in message.tool_calls] == ["weather"]
    assert (message.content, reason) == (f"<think>maybe {TIME}</think>", "tool_calls")


def test_a_stream_has_the_text_as_it_comes_and_the_calls_at_its_end(desk):
    pieces, calls, reason = streamed(desk, f"Let me see. \n{CALL}\n{TIME}")
    assert "".join(pieces) == "Let me see."
    assert len(pieces) > 5, "text is not held back until the end"
    assert [(call.index, call.function.name) for call in calls] == [(0, "weather"), (1, "clock")]
    assert json.loads(calls[0].function.arguments) == {"city": "上海"}
    assert reason == "tool_calls"


def test_calls_and_results_go_back_to_the_model(desk):
    first, _ = ask(desk, CALL)
    (call,) = first.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"t": 18}'}
    message, reason = ask(desk, "18度", messages=[*ASK, first.model_dump(exclude_none=True), result])
    assert (message.content, reason) == ("18度", "stop")
    assert (
        "<|im_start|>assistant\n"
        '<tool_call>{"name": "weather", "arguments": {"city": "上海"}}</tool_call><|im_end|>\n'
        '<|im_start|>tool\n{"t": 18}<|im_end|>\n' in shown(desk)
    )


def test_a_template_without_tools_refuses_them_with_the_reason():
    with kit.serving(kit.tiny()) as (url, _):
        body = {"model": kit.MODEL, "messages": ASK, "tools": [WEATHER]}
        error = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).json()["error"]
        assert (error["param"], error["code"]) == ("tools", "tools_not_supported")
        assert "chat template does not show tools" in error["message"]
        assert httpx.post(f"{url}/v1/chat/completions", json=body | {"tool_choice": "none", "max_tokens": 1}).is_success


MISTRAL = HERMES.replace("'<tool_call>' + c.function | tojson + '</tool_call>'", "'[TOOL_CALLS]' + c.function | tojson")


@pytest.fixture(scope="module")
def mistral():
    """A tokenizer whose mark of a call is a control token, which decoding leaves out of the text."""
    tokenizer = Tokenizer.from_file(str(kit.tiny_folder() / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("[TOOL_CALLS]", special=True, normalized=False)])
    return ChatTokenizer(tokenizer, {"eos_token": "<|im_end|>"}, MISTRAL, [])


def said(tokenizer, text):
    ids = tokenizer.encode(text)
    return Request([], Sampling(), output_ids=ids, text=tokenizer.decode(ids), finish="stop")


@pytest.mark.parametrize(
    ("says", "calls"),
    [
        ('[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "上海"}}]', [("weather", {"city": "上海"})]),
        ('[TOOL_CALLS][{"name": "clock"}, {"name": "weather", "arguments": "{}"}]', [("clock", {}), ("weather", {})]),
        ('[TOOL_CALLS]weather[ARGS]{"city": "[a]"}', [("weather", {"city": "[a]"})]),
        ('[TOOL_CALLS]clock[CALL_ID]a1B2c3D4e[ARGS]{}[TOOL_CALLS]weather[ARGS]{"city": "x"}',
         [("clock", {}), ("weather", {"city": "x"})]),
        ('[TOOL_CALLS][{"name": "bank"}]', []),
        ("[TOOL_CALLS]weather[ARGS]{", []),
        ("[TOOL_CALLS]weather", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "So: "])
def test_mistrals_two_forms(mistral, says, calls, before):
    request = said(mistral, before + says)
    found = CallReader(mistral, ["weather", "clock"]).read(request)
    assert [(call.function.name, json.loads(call.function.arguments)) for call in found.calls] == calls
    assert found.content == (before.strip() or None if calls else request.text)


def test_a_stream_is_held_from_a_mark_that_the_text_leaves_out(mistral):
    whole = said(mistral, 'So: [TOOL_CALLS][{"name": "clock"}]')
    assert whole.text == 'So: [{"name": "clock"}]'
    reader = CallReader(mistral, ["clock"])
    held = HeldText(reader)
    growing = Request([], Sampling(), output_ids=mistral.encode("So: "), text="So: ")
    assert held.more("So: ", growing) == "So:"
    assert held.more('[{"name"', whole) == ""
    assert reader.read(whole).content == "So:"
    assert asyncio.run(_read(whole, reader)) == ["So:"]
    other = CallReader(mistral, ["weather"])
    assert asyncio.run(_read(whole, other)) == ["So:", whole.text[3:]], "no call after all: the rest is said"


async def _read(whole: Request, calls: CallReader) -> list[str]:
    """The pieces that a client's stream gets while an answer comes in two parts."""
    request = Request([], Sampling())
    answer = Answer(request, lambda: None, calls)
    reader = Reader(answer, TimeLimit(10, time.monotonic()), stream=True)
    request.output_ids, request.text = whole.output_ids[:4], "So: "
    answer.deliver("So: ")
    pieces = [await reader.next()]
    request.output_ids, request.text, request.finish = whole.output_ids, whole.text, whole.finish
    answer.deliver(whole.text.removeprefix("So: "))
    answer.deliver(None)
    while (piece := await reader.next()) is not None:
        pieces.append(piece)
    reader.leave()
    return pieces


def test_a_template_whose_calls_are_not_read_leaves_all_text(mistral):
    odd = ChatTokenizer(mistral._tokenizer, mistral.settings, MISTRAL.replace("[TOOL_CALLS]", "CALL "), [])
    reader = CallReader(odd, ["clock"])
    assert reader.mark == ""
    assert reader.read(said(odd, 'CALL {"name": "clock"}')) == Spoken('CALL {"name": "clock"}', ())
