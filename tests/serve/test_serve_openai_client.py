"""The official client against the real server over HTTP; answers are compared with `models.generate`."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import httpx
import openai
import pydantic
import pytest
import serving_kit as kit

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling, generate


@pytest.fixture(scope="module")
def loaded():
    return kit.tiny()


@pytest.fixture(scope="module")
def url(loaded):
    with kit.serving(loaded) as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)


def expected(loaded, text: str, **sampling) -> str:
    ids = loaded.tokenizer.prompt_ids([Message(role="user", content=text)])
    return generate(loaded.model, loaded.tokenizer, [ids], Sampling(**sampling))[0].text


def asked(client, text: str, **options):
    return client.chat.completions.create(model=kit.MODEL, messages=[{"role": "user", "content": text}], **options)


def test_greedy_answer_is_what_generate_says(client, loaded):
    answer = asked(client, "Where is my card?", max_tokens=24, temperature=0)
    assert answer.choices[0].message.content == expected(loaded, "Where is my card?", max_new_tokens=24)
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.object == "chat.completion" and answer.model == kit.MODEL and answer.id.startswith("chatcmpl-")


def test_usage_counts_the_rendered_prompt_and_the_new_tokens(client, loaded):
    prompt = loaded.tokenizer.prompt_ids([Message(role="user", content="中文?")])
    usage = asked(client, "中文?", max_tokens=9, temperature=0).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (len(prompt), 9, len(prompt) + 9)


def test_seeded_sampling_repeats_and_is_generates(client, loaded):
    first, second = (
        asked(client, "Hi", max_tokens=20, temperature=1.3, top_p=0.9, seed=11).choices[0].message.content
        for _ in range(2)
    )
    assert first == second == expected(loaded, "Hi", max_new_tokens=20, temperature=1.3, top_p=0.9, seed=11)
    assert first != asked(client, "Hi", max_tokens=20, temperature=1.3, top_p=0.9, seed=12).choices[0].message.content


def test_a_tiny_temperature_is_greedy_and_breaks_nothing(client, loaded):
    answer = asked(client, "Hi", max_tokens=8, temperature=1e-300)
    assert answer.choices[0].message.content == expected(loaded, "Hi", max_new_tokens=8)


def test_streamed_pieces_are_the_whole_answer(client, loaded):
    chunks = list(asked(client, "Tell me", max_tokens=30, temperature=0, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == expected(loaded, "Tell me", max_new_tokens=30)
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["length"]
    assert len(chunks) > 10, "a stream that comes in one piece is no stream"
    assert len({c.id for c in chunks}) == 1 and all(c.usage is None for c in chunks)


def test_stream_ends_with_usage_only_when_asked(client, url, loaded):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(asked(client, "Tell me", max_tokens=5, temperature=0, **options))
    prompt = len(loaded.tokenizer.prompt_ids([Message(role="user", content="Tell me")]))
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (prompt, 5)
    body = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 3, **options}
    lines = httpx.post(f"{url}/v1/chat/completions", json=body).text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    assert all('"usage":null' in line for line in lines[:-2]) and '"choices":[]' in lines[-2]


def test_concurrent_answers_equal_their_single_answers(client, loaded):
    questions = [f"Question {index} about {'x' * (7 * index)}" for index in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda q: asked(client, q, max_tokens=40, temperature=0), questions))
    texts = [answer.choices[0].message.content for answer in answers]
    assert texts == [expected(loaded, question, max_new_tokens=40) for question in questions]
    assert len(set(texts)) == len(texts)


def test_a_stop_string_over_several_tokens_never_shows(client, loaded):
    whole = expected(loaded, "Stop?", max_new_tokens=40)
    stop = whole[12:16]  # byte tokens: four characters are at least four tokens
    cut = whole[: whole.index(stop)]
    assert cut
    answer = asked(client, "Stop?", max_tokens=40, temperature=0, stop=stop)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (cut, "stop")
    chunks = list(asked(client, "Stop?", max_tokens=40, temperature=0, stop=["\0never", stop], stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == cut
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_text_parts_are_joined_and_a_system_turn_counts(client, loaded):
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}]
    answer = client.chat.completions.create(model=kit.MODEL, messages=messages, max_tokens=10, temperature=0)
    turns = [Message(role="system", content="Be brief."), Message(role="user", content="Hello")]
    ids = loaded.tokenizer.prompt_ids(turns)
    wanted = generate(loaded.model, loaded.tokenizer, [ids], Sampling(max_new_tokens=10))[0].text
    assert answer.choices[0].message.content == wanted and answer.usage.prompt_tokens == len(ids)


def test_an_earlier_answer_can_be_sent_back_as_it_came(client):
    first = asked(client, "Hi", max_tokens=4, temperature=0).choices[0].message
    messages = [*kit.HELLO, first.model_dump(), *kit.HELLO]
    answer = client.chat.completions.create(model=kit.MODEL, messages=messages, max_completion_tokens=4)
    assert answer.usage.completion_tokens == 4


def test_log_probabilities_choices_and_a_schema_by_the_official_client(client, loaded):
    """One call with all three; whole and streamed say the same, and the client reads them as its own types."""
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"城市": {"enum": ["上海", "北京"]}}, "required": ["城市"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    options = {"logprobs": True, "top_logprobs": 2, "n": 3, "seed": 5, "max_tokens": 60, "response_format": form}
    answer = asked(client, "Where? JSON", **options)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert json.loads(choice.message.content)["城市"] in ("上海", "北京")
        entries = choice.logprobs.content
        assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
        assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in entries)
    said = {0: "", 1: "", 2: ""}
    for chunk in asked(client, "Where? JSON", stream=True, **options):
        said[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(said.values()) == [choice.message.content for choice in answer.choices]


def test_an_answer_is_parsed_into_the_clients_own_model(client):
    """`parse` makes the schema from a pydantic model and reads the answer back."""
    pytest.importorskip("llguidance")

    class Order(pydantic.BaseModel):
        kind: Literal["card", "fee"]
        count: Literal[1, 2, 3]

    messages = [{"role": "user", "content": "Order?"}]
    done = client.chat.completions.parse(
        model=kit.MODEL, messages=messages, response_format=Order, max_tokens=200, seed=1
    )
    found = done.choices[0].message.parsed
    assert isinstance(found, Order) and found.model_dump_json()


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == [kit.MODEL]
    assert client.models.retrieve(kit.MODEL).object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other/name")
    assert caught.value.code == "model_not_found"


def test_neutral_values_of_unsupported_fields_pass(client):
    neutral = {"n": 1, "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0, "tools": None}
    neutral |= {"response_format": {"type": "text"}, "user": "u1", "logit_bias": {}}
    assert asked(client, "Hi", max_tokens=2, **neutral).usage.completion_tokens == 2


def test_an_end_token_ends_the_answer_and_does_not_leak():
    loaded = kit.tiny(ends=True)
    free = kit.tiny()
    ids = free.tokenizer.prompt_ids([Message(role="user", content="Hi")])
    output = generate(free.model, free.tokenizer, [ids], Sampling(max_new_tokens=12))[0].output_ids
    end = output[6]  # a token that the model chooses becomes the end token
    loaded.tokenizer.end_ids = frozenset([end])
    cut = output[: output.index(end)]
    with kit.serving(loaded) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
        answer = asked(client, "Hi", max_tokens=12, temperature=0)
        assert answer.choices[0].message.content == loaded.tokenizer.decode(cut)
        assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens == len(cut)
