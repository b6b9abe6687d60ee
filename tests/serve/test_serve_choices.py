"""Several choices over real HTTP: each is the answer to the same question with its own seed."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import openai
import pytest
import serving_kit as kit

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling, generate
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import open_cache
from tunewright.serve.config import CacheConfig
from tunewright.serve.question import _as_seed

ASK = "Tell me something"


@pytest.fixture(scope="module")
def loaded():
    return kit.tiny()


@pytest.fixture(scope="module")
def served(loaded):
    with kit.serving(loaded, batch_size=4, queue=6) as (url, engine):
        yield url, engine


def asked(url: str, **change: Any) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": [{"role": "user", "content": ASK}], "max_tokens": 16, "temperature": 1}
    return httpx.post(f"{url}/v1/chat/completions", json=body | change, timeout=kit.DEADLINE_S)


def texts(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    choices = response.json()["choices"]
    assert [one["index"] for one in choices] == list(range(len(choices)))
    return [one["message"]["content"] for one in choices]


def expected(loaded: Any, seed: int) -> str:
    ids = loaded.tokenizer.prompt_ids([Message(role="user", content=ASK)])
    sampling = Sampling(max_new_tokens=16, temperature=1.0, seed=seed)
    return generate(loaded.model, loaded.tokenizer, [ids], sampling)[0].text


def test_choice_i_is_drawn_with_seed_plus_i(served, loaded):
    """More choices than rows of the batch: the rest joins later."""
    found = texts(asked(served[0], n=6, seed=7))
    assert found == [expected(loaded, 7 + index) for index in range(6)]
    assert found == texts(asked(served[0], n=6, seed=7)) and len(set(found)) == 6


def test_without_a_seed_they_differ(served):
    assert len(set(texts(asked(served[0], n=4)))) == 4


def test_usage_counts_all_choices_and_the_prompt_once(served, loaded):
    usage = asked(served[0], n=3, seed=1).json()["usage"]
    prompt = len(loaded.tokenizer.prompt_ids([Message(role="user", content=ASK)]))
    assert usage == {"prompt_tokens": prompt, "completion_tokens": 48, "total_tokens": prompt + 48}


class Watched(kit.HeldModel):
    """Remembers the shapes of what it computes."""

    shapes: list[tuple[int, ...]] = []

    def __call__(self, **inputs: Any) -> Any:
        self.shapes.append(tuple(inputs["input_ids"].shape))
        return super().__call__(**inputs)


def test_the_prompt_is_computed_once(loaded):
    model = Watched(loaded.model._model)
    with kit.serving(type(loaded)(model, loaded.tokenizer, 512), batch_size=4) as (url, _):
        assert len(set(texts(asked(url, n=4, seed=2)))) == 4
    prompt = len(loaded.tokenizer.prompt_ids([Message(role="user", content=ASK)]))
    assert model.shapes == [(1, prompt), *[(4, 1)] * 15]


def test_streamed_choices_come_side_by_side_with_their_index(served, loaded):
    client = openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0)
    chunks = list(
        client.chat.completions.create(
            model=kit.MODEL,
            messages=[{"role": "user", "content": ASK}],
            max_tokens=16,
            temperature=1,
            seed=3,
            n=3,
            logprobs=True,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = {index: "" for index in range(3)}
    order, finished, entries = [], [], {index: 0 for index in range(3)}
    for chunk in chunks[:-1]:
        (one,) = chunk.choices
        said[one.index] += one.delta.content or ""
        entries[one.index] += len(one.logprobs.content or ()) if one.logprobs else 0
        order += [one.index] if one.delta.content else []
        finished += [one.index] if one.finish_reason else []
    assert list(said.values()) == [expected(loaded, 3 + index) for index in range(3)]
    assert sorted(finished) == [0, 1, 2] and entries == {0: 16, 1: 16, 2: 16}
    assert order != sorted(order), "they are sent as they come"
    assert chunks[-1].usage.completion_tokens == 48


def test_more_choices_than_places_are_refused(loaded):
    with kit.serving(loaded, batch_size=2, queue=2) as (url, _):
        error = asked(url, n=5).json()["error"]
        assert error["param"] == "n" and "at most 4 choices" in error["message"]
        assert len(texts(asked(url, n=4))) == 4


def test_all_or_none_are_accepted(served, loaded):
    """Places for two more: three choices get none of them."""
    url, engine = served
    loaded.model.gate.clear()
    with httpx.Client() as client:
        body = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 4, "n": 8, "stream": True}
        try:
            waiting = client.build_request("POST", f"{url}/v1/chat/completions", json=body)
            sender = threading.Thread(target=lambda: client.send(waiting), daemon=True)
            sender.start()
            kit.until(lambda: engine.outstanding == 8, "eight places are taken")
            refused = asked(url, n=3)
            assert refused.status_code == 429 and engine.outstanding == 8
        finally:
            loaded.model.gate.set()
        sender.join(kit.DEADLINE_S)
    kit.until(lambda: engine.outstanding == 0, "all are answered")


def test_a_client_that_leaves_frees_all_places(served, loaded):
    url, engine = served
    body = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 300, "n": 4, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        next(response.iter_lines())
        kit.until(lambda: engine.running == 4, "all run")
    kit.until(lambda: engine.outstanding == 0, "all have left")


def test_a_fault_of_the_model_is_the_requests(served, loaded):
    url, engine = served
    loaded.model.fault = RuntimeError("broken")
    assert asked(url, n=3).status_code == 500
    kit.until(lambda: engine.outstanding == 0, "none is left behind")
    lines = asked(url, n=2, stream=True).text.strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"


def test_choices_are_neither_kept_nor_taken_from_kept_answers(loaded, tmp_path):
    """With `sampled` a plain question without a seed is kept; three choices of it would all be that one."""
    parts = kit.named(identity=Identity("one"), cache=open_cache(CacheConfig(store="disk", sampled=True), tmp_path))
    with kit.serving(loaded, parts) as (url, _):
        first = asked(url)
        again = asked(url)
        assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "hit")
        several = [asked(url, n=3) for _ in range(2)]
        assert [one.headers["x-cache"] for one in several] == ["skip", "skip"]
        assert len({text for one in several for text in texts(one)} | set(texts(first))) == 7
        assert 'tunewright_cache_lookups_total{result="skip"} 2.0' in httpx.get(f"{url}/metrics").text


def test_seeds_go_round_at_the_end():
    assert [_as_seed(number) for number in (5, 2**63 - 1, 2**63, -(2**63))] == [5, 2**63 - 1, -(2**63), -(2**63)]


def test_a_stream_of_choices_is_whole_json(served):
    lines = asked(served[0], n=2, seed=1, stream=True).text.strip().split("\n\n")
    found = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    opened = [one["choices"][0] for one in found if one["choices"][0]["delta"].get("role")]
    assert [one["index"] for one in opened] == [0, 1] and len({one["id"] for one in found}) == 1
