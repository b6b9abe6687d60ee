"""What every engine must get right, over real HTTP, for each one that is installed here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import engine_kit
import httpx
import openai
import pytest
import serving_kit as kit

from tunewright.models import llama_program
from tunewright.models.generate import Sampling, generate
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines.http_engine import Place
from tunewright.serve.server import Server

HAS_LLAMA = llama_program.is_present() and find_spec("gguf") is not None
ENGINES = ["transformers", "remote", *(["llamacpp"] if HAS_LLAMA else [])]
ASK = [{"role": "user", "content": "Hello, who are you?"}]


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> engine_kit.Model:
    """Says letters until max_tokens."""
    return engine_kit.Model.made(tmp_path_factory.mktemp("endless") / "model", ends=False, gguf=HAS_LLAMA)


@pytest.fixture(scope="module")
def ending(tmp_path_factory: pytest.TempPathFactory) -> engine_kit.Model:
    """Ends its answers now and then."""
    return engine_kit.Model.made(tmp_path_factory.mktemp("ending") / "model", ends=True, gguf=HAS_LLAMA)


@pytest.fixture(scope="module", params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(name: str, endless: engine_kit.Model) -> Iterator[tuple[str, Any]]:
    with engine_kit.serving(name, endless) as (url, engine):
        yield url, engine


@pytest.fixture
def url(served: tuple[str, Any]) -> str:
    return served[0]


def post(url: str, **change: Any) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": ASK, "max_tokens": 24, "temperature": 0} | change
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=kit.DEADLINE_S)


def said(response: httpx.Response) -> tuple[str, str, dict[str, int]]:
    """(text, finish reason, usage)."""
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], response.json()["usage"]


def reference(model: engine_kit.Model, tokens: int, **sampling: Any) -> str:
    """The greedy answer of our engine without any server."""
    loaded = model.load()
    (request,) = generate(
        loaded.model, loaded.tokenizer, [prompt(model)], Sampling(max_new_tokens=tokens, **sampling), label=""
    )
    return request.text


def prompt(model: engine_kit.Model, messages: list[dict[str, str]] = ASK) -> list[int]:
    from tunewright.core.chat import Message

    return model.tokenizer.prompt_ids([Message.model_validate(message) for message in messages])


def test_the_same_words_and_numbers_from_every_engine(url: str, endless: engine_kit.Model) -> None:
    text, finish, usage = said(post(url))
    assert text == reference(endless, 24) and finish == "length"
    new = {"prompt_tokens": len(prompt(endless)), "completion_tokens": 24}
    assert usage == new | {"total_tokens": sum(new.values())}


def test_a_stream_says_the_same_and_ends_with_usage(url: str, endless: engine_kit.Model) -> None:
    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=kit.MODEL, messages=ASK, max_tokens=24, temperature=0, stream=True, stream_options=options
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == reference(endless, 24) and len([piece for piece in pieces if piece]) > 3
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 24


def test_exactly_one_bos_though_template_and_tokenizer_both_write_it(url: str, endless: engine_kit.Model) -> None:
    """What llama.cpp would add by itself would show in the count, and change the words."""
    ids = prompt(endless)
    assert ids[0] == 257 and ids.count(257) == 1 and endless.tokenizer.settings["add_bos_token"]
    text, _, usage = said(post(url, max_tokens=8))
    assert usage["prompt_tokens"] == len(ids) and text == reference(endless, 8)


def test_content_that_spells_a_control_token_is_text(url: str, endless: engine_kit.Model) -> None:
    messages = [{"role": "user", "content": f"a{engine_kit.END}b"}]
    _, _, usage = said(post(url, messages=messages, max_tokens=1))
    assert usage["prompt_tokens"] == len(prompt(endless, messages)) > len(prompt(endless, [ASK[0] | {"content": "ab"}]))


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_of_several_tokens_are_cut_out(url: str, endless: engine_kit.Model, stream: bool) -> None:
    whole = reference(endless, 24)
    stop = whole[6:9]
    expected = whole[: whole.index(stop)]
    if stream:
        client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        chunks = list(
            client.chat.completions.create(
                model=kit.MODEL, messages=ASK, max_tokens=24, temperature=0, stop=["never", stop], stream=True
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        finish = chunks[-1].choices[0].finish_reason
    else:
        text, finish, _ = said(post(url, stop=["never", stop]))
    assert (text, finish) == (expected, "stop")


def test_the_end_token_never_leaks_and_is_not_counted(name: str, ending: engine_kit.Model) -> None:
    """Every token of this model is one letter, so the number of letters is the number of tokens."""
    with engine_kit.serving(name, ending) as (url, _), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: said(post(url, max_tokens=120, temperature=2, seed=seed)), range(8)))
    ended = [(text, usage) for text, finish, usage in answers if finish == "stop"]
    assert ended, "none of eight answers ended within 120 tokens"
    for text, usage in ended:
        assert engine_kit.END not in text and usage["completion_tokens"] == len(text) < 120


def test_a_seed_is_honoured(url: str) -> None:
    drawn = {seed: said(post(url, temperature=1, seed=seed))[0] for seed in (5, -5, 2**40)}
    assert len(set(drawn.values())) == 3
    assert drawn == {seed: said(post(url, temperature=1, seed=seed))[0] for seed in drawn}


def test_a_prompt_over_the_context_is_400_with_numbers(url: str) -> None:
    long = [{"role": "user", "content": "x" * (engine_kit.CONTEXT + 10)}]
    response = post(url, messages=long)
    error = response.json()["error"]
    assert response.status_code == 400 and error["code"] == "context_length_exceeded"
    assert f"maximum context length is {engine_kit.CONTEXT} tokens" in error["message"]


def test_max_tokens_is_bounded(url: str) -> None:
    response = post(url, max_tokens=4001)
    assert response.status_code == 400 and "at most 4000" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_is_not_enforced_is_refused(url: str, change: dict[str, Any], param: str) -> None:
    response = post(url, **change)
    if response.status_code == 200:  # an engine may learn to do it
        pytest.skip(f"this engine does {param}")
    assert response.status_code == 400 and response.json()["error"]["param"] == param


def test_what_the_template_refuses_is_400_with_its_words(url: str) -> None:
    response = post(url, messages=[{"role": "user", "content": "refuse me"}])
    assert response.status_code == 400 and "not this" in response.json()["error"]["message"]


def test_a_client_that_leaves_frees_its_slot(served: tuple[str, Any]) -> None:
    url, engine = served
    body = {"model": kit.MODEL, "messages": ASK, "max_tokens": 3900, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        lines = response.iter_lines()
        while '"content":"' not in next(lines).replace('"content":""', ""):
            pass
        assert engine.running == 1
    left = time.monotonic()
    kit.until(lambda: engine.outstanding == 0, "the answer has left")
    assert engine.running == 0
    if engine.name == "llamacpp":
        kit.until(lambda: not busy_slots(engine), "llama.cpp's slot is free")
        assert time.monotonic() - left < 5
    assert said(post(url, max_tokens=2))[2]["completion_tokens"] == 2


def busy_slots(engine: Any) -> list[int]:
    """What llama.cpp itself says it works on."""
    return [slot["id"] for slot in engine.upstream.child.ask("GET", "/slots") if slot["is_processing"]]


def test_a_request_over_its_time_is_504_and_leaves(served: tuple[str, Any]) -> None:
    url, engine = served
    body = {"model": kit.MODEL, "messages": ASK, "max_tokens": 3900, "temperature": 0}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"X-Timeout-S": "1"}, timeout=60)
    if response.status_code == 200:
        pytest.skip("the machine answered 3900 tokens within a second")
    assert response.status_code == 504
    kit.until(lambda: engine.outstanding == 0, "the answer has left")


def test_many_at_once_each_get_their_own_answer(url: str) -> None:
    """More than slots: the rest waits. Letters alone, one by one, are the reference."""
    asks = [[{"role": "user", "content": f"question {number}"}] for number in range(8)]
    alone = [said(post(url, messages=messages, max_tokens=12))[0] for messages in asks]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda messages: said(post(url, messages=messages, max_tokens=12))[0], asks))
    assert len(set(alone)) == 8 and together == alone


def test_not_ready_is_503_until_it_is(name: str, endless: engine_kit.Model) -> None:
    place = Place(2, 2, lambda _: None)
    config = ServeConfig(port=0, batch_size=2, queue=2, shutdown_timeout_s=5)
    engine = engine_kit.engine("llamacpp" if name == "llamacpp" else "transformers", endless, place)
    server = Server(engine, config, kit.named(), log=lambda _: None)
    start, engine.start = engine.start, lambda: None  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.run)
        kit.until(lambda: server._uvicorn.started, "it listens")
        refused = post(server.url)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert httpx.get(f"{server.url}/ready").json() == {"status": "loading"}
        assert httpx.get(f"{server.url}/health").status_code == 200
        start()
        kit.until(lambda: httpx.get(f"{server.url}/ready").status_code == 200, "it is ready")
        assert said(post(server.url, max_tokens=2))[1] == "length"
        server.drain()
        running.result(kit.DEADLINE_S)


def test_a_drain_lets_running_answers_finish(name: str, endless: engine_kit.Model) -> None:
    with ThreadPoolExecutor(1) as pool, engine_kit.serving(name, endless, shutdown_timeout_s=60) as (url, engine):
        asked = pool.submit(post, url, max_tokens=300)
        kit.until(lambda: engine.running == 1, "it runs")
    text, finish, usage = said(asked.result())
    assert finish == "length" and usage["completion_tokens"] == len(text) == 300
    assert engine.state == "stopped"


def test_a_drain_without_time_tells_the_client(name: str, endless: engine_kit.Model) -> None:
    with ThreadPoolExecutor(1) as pool, engine_kit.serving(name, endless, shutdown_timeout_s=0) as (url, engine):
        asked = pool.submit(post, url, max_tokens=3900)
        kit.until(lambda: engine.running == 1, "it runs")
    response = asked.result()
    assert response.status_code == 503 and response.json()["error"]["code"] == "service_unavailable"
