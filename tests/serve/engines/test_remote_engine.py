"""The engine `remote` in front of our own server, and in front of one that misbehaves."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest
import serving_kit as kit
from pydantic import ValidationError

from tunewright.core.errors import ResourceError
from tunewright.serve.config import ServeConfig
from tunewright.serve.engines.config import RemoteOptions
from tunewright.serve.engines.http_engine import Place, UpstreamEngine
from tunewright.serve.engines.remote import Remote
from tunewright.serve.server import Server, in_thread

ASK = [{"role": "user", "content": "Hello"}]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@contextlib.contextmanager
def front(url: str, **options: Any) -> Iterator[tuple[str, UpstreamEngine]]:
    engine = Remote(RemoteOptions(url=url, **options)).make(None, Place(4, 4, lambda _: None))
    with in_thread(
        Server(engine, ServeConfig(port=0, shutdown_timeout_s=5), kit.named(), log=lambda _: None)
    ) as served:
        yield served, engine


class Odd:
    """A server whose next answer is set: (status, headers, events)."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], list[Any]] = (200, {}, [])
        self.asked: list[tuple[str | None, dict[str, Any]]] = []
        odd = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                self.reply(200, {}, json.dumps({"data": [{"id": "big"}, {"id": "small"}]}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                odd.asked.append((self.headers["Authorization"], body))
                status, headers, events = odd.answer
                whole = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
                self.reply(status, headers, whole if status == 200 else json.dumps(events[0] if events else {}))

            def reply(self, status: int, headers: dict[str, str], text: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, *deltas: dict[str, Any], finish: str | None = "stop", usage: bool = True) -> None:
        events: list[Any] = [{"choices": [{"delta": delta, "finish_reason": None}]} for delta in deltas]
        if finish:
            events.append({"choices": [{"delta": {}, "finish_reason": finish}]})
        if usage:
            events.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}})
        self.answer = (200, {}, events)


@pytest.fixture(scope="module")
def odd() -> Iterator[Odd]:
    made = Odd()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def url(odd: Odd) -> Iterator[str]:
    with front(odd.url, api_key="secret", honours=("seed", "tools")) as (served, _):
        yield served


def post(url: str, **change: Any) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": ASK, "temperature": 0, "max_tokens": 20} | change
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def error(response: httpx.Response) -> tuple[int, str | None, str]:
    told = response.json()["error"]
    return response.status_code, told["code"], told["message"]


def test_the_conversation_is_passed_on_with_the_key(odd: Odd, url: str) -> None:
    odd.says({"role": "assistant", "content": ""}, {"content": "Gu"}, {"content": "ten Tag"})
    answer = post(url, seed=3, temperature=0.5, stop=["never"]).json()
    assert answer["model"] == kit.MODEL and answer["choices"][0]["message"]["content"] == "Guten Tag"
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    key, body = odd.asked[-1]
    assert key == "Bearer secret" and body["model"] == "big" and body["messages"] == ASK
    assert (body["seed"], body["temperature"], body["max_tokens"], body["stop"]) == (3, 0.5, 20, ["never"])


def test_a_stop_string_that_is_ignored_there_is_cut_here(odd: Odd, url: str) -> None:
    odd.says({"content": "one E"}, {"content": "ND two"})
    choice = post(url, stop=["END"]).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one ", "stop")


def test_tool_calls_come_through_whole_and_streamed(odd: Odd, url: str) -> None:
    head = {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a'}}
    odd.says(
        {"tool_calls": [head]}, {"tool_calls": [{"index": 0, "function": {"arguments": '": 1}'}}]}, finish="tool_calls"
    )
    choice = post(url, tools=[WEATHER]).json()["choices"][0]
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
    assert choice["finish_reason"] == "tool_calls" and choice["message"] == {
        "role": "assistant", "content": None, "refusal": None, "tool_calls": [call],
    }  # fmt: skip
    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    chunks = list(client.chat.completions.create(model=kit.MODEL, messages=ASK, tools=[WEATHER], stream=True))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert [c.function.arguments for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []] == ['{"a": 1}']
    assert odd.asked[-1][1]["tools"] == [WEATHER]


def test_what_may_be_ignored_is_refused_unless_it_is_known_to_be_obeyed(odd: Odd) -> None:
    with front(odd.url) as (url, _):
        given: dict[str, dict[str, Any]] = {"seed": {"seed": 1, "temperature": 1}, "tools": {"tools": [WEATHER]}}
        for param, change in given.items():
            status, code, message = error(post(url, **change))
            assert (status, code) == (400, "unsupported_parameter") and f"serve.engine.honours: [{param}]" in message
        odd.says({"content": "yes"})
        assert post(url, seed=1).status_code == 200, "a greedy answer needs no seed"
        assert "seed" not in odd.asked[-1][1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            (400, {}, [{"error": {"message": "too long", "code": "context_length_exceeded"}}]),
            (400, "context_length_exceeded"),
        ),
        ((429, {"Retry-After": "7"}, [{}]), (429, "rate_limit_exceeded")),
        ((503, {}, [{}]), (503, "service_unavailable")),
        ((401, {}, [{"error": {"message": "secret is wrong"}}]), (500, None)),
        ((302, {"Location": "http://elsewhere"}, [{}]), (500, None)),
        ((200, {}, [{"error": {"message": "inside"}}]), (500, None)),
        ((200, {}, ["text"]), (500, None)),
    ],
)
def test_its_refusals_are_ours(odd: Odd, url: str, answer: Any, expected: tuple[int, str | None]) -> None:
    odd.answer = answer
    response = post(url)
    assert error(response)[:2] == expected
    assert "secret" not in response.text
    if expected[0] == 429:
        assert response.headers["retry-after"] == "7"
    if expected[0] == 400:
        assert error(response)[2] == "too long"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"finish": None, "usage": False}, "broke off"),
        ({"usage": False}, "no token counts"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(odd: Odd, url: str, how: dict[str, Any], words: str) -> None:
    odd.says({"content": "half"}, **how)
    status, _, message = error(post(url))
    assert status == 500 and words in message


def test_one_that_ignores_max_tokens_is_stopped(odd: Odd, url: str) -> None:
    odd.says(*[{"content": "x"}] * 100)
    status, _, message = error(post(url, max_tokens=2))
    assert status == 500 and "max_tokens" in message


def test_a_server_that_went_away_is_told_and_comes_back() -> None:
    gone = Odd()
    gone.says({"content": "a"})
    with front(gone.url) as (url, engine):
        gone.server.shutdown()
        gone.server.server_close()
        for _ in range(3):
            status, _, message = error(post(url))
            assert status == 500 and "cannot be reached" in message
        assert httpx.get(f"{url}/ready").status_code == 503 and engine.state == "failing"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://127.0.0.1:9/v1"}, "no answer from http://127.0.0.1:9/v1"),
        ({"model": "other"}, "has no model 'other'; it lists big, small"),
    ],
)
def test_what_is_wrong_from_the_start_is_said_at_the_start(odd: Odd, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ResourceError, match=words), front(**{"url": odd.url} | options):
        pass


def test_two_servers_of_ours_in_a_row_ask_for_keys() -> None:
    config = ServeConfig(port=0, api_key="k")
    loaded = kit.tiny()
    from tunewright.serve.engine import TransformersEngine

    inner = TransformersEngine(lambda: loaded, batch_size=2, queue=2)
    with in_thread(Server(inner, config, kit.named(), log=lambda _: None)) as behind:
        with front(f"{behind}/v1", api_key="k") as (url, _):
            assert post(url).json()["usage"]["completion_tokens"] == 20
            assert post(url, max_tokens=400, messages=[{"role": "user", "content": "x" * 600}]).status_code == 400
        with pytest.raises(ResourceError, match="refused the key"), front(f"{behind}/v1", api_key="wrong"):
            pass


def test_addresses_and_keys_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "from-the-environment")
    options = RemoteOptions(url="https://host/v1/", api_key="${UP_KEY}")
    assert options.url == "https://host/v1" and options.api_key is not None
    assert options.api_key.get_secret_value() == "from-the-environment" and "environment" not in repr(options)
    for wrong in ("host:8000", "ftp://host/v1", "http://user:pw@host/v1", "http://host/v1?key=a"):
        with pytest.raises(ValidationError, match="write an address"):
            RemoteOptions(url=wrong)
