"""Deadlines, refused endpoints, limits of headers, tenants, masking and logs, each over real HTTP."""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import openai
import pytest
import serving_kit as kit
from pydantic import ValidationError
from tokenizers.processors import TemplateProcessing

from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.server import Server, in_thread

BOS = "<|im_start|>"
BODY = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 200, "temperature": 0}


def post(url: str, change=None, **options) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=BODY | (change or {}), timeout=kit.DEADLINE_S, **options)


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_request_over_its_time_is_504_and_its_row_leaves():
    loaded = kit.tiny()
    with kit.serving(loaded, request_timeout_s=0.3) as (url, engine):
        loaded.model.gate.clear()
        started = time.monotonic()
        late = post(url)
        assert code(late) == (504, "deadline_exceeded") and "0.3 s" in late.json()["error"]["message"]
        assert 0.3 <= time.monotonic() - started < 5
        answer = engine._running[0]
        assert answer.request.cancelled
        loaded.model.gate.set()
        kit.until(lambda: engine.outstanding == 0, "the row left")
        assert len(answer.request.output_ids) <= 1
        assert post(url, {"max_tokens": 2}).status_code == 200, "a quick one is served"


def test_a_client_may_ask_for_less_time_but_not_for_more():
    loaded = kit.tiny()
    with kit.serving(loaded, request_timeout_s=30) as (url, engine):
        loaded.model.gate.clear()
        assert code(post(url, headers={"X-Timeout-S": "1"})) == (504, "deadline_exceeded")
        loaded.model.gate.set()
        for wrong in ("31", "0.9", "-1", "soon", "nan"):
            response = post(url, headers={"X-Timeout-S": wrong})
            assert code(response) == (400, "invalid_value") and response.json()["error"]["param"] == "X-Timeout-S"
        kit.until(lambda: engine.outstanding == 0, "nothing is left behind")


def test_a_stream_over_its_time_ends_with_an_error_and_no_done():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, engine):
        with httpx.stream(
            "POST",
            f"{url}/v1/chat/completions",
            json=BODY | {"stream": True},
            headers={"X-Timeout-S": "1"},
            timeout=kit.DEADLINE_S,
        ) as response:
            lines = response.iter_lines()
            next(lines)
            loaded.model.gate.clear()
            rest = [line for line in lines if line]
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        loaded.model.gate.set()
        kit.until(lambda: engine.outstanding == 0, "the row left")


def test_the_time_counts_from_arrival_and_so_includes_the_queue():
    loaded = kit.tiny()
    with kit.serving(loaded, batch_size=1, queue=4) as (url, engine), ThreadPoolExecutor(1) as pool:
        loaded.model.gate.clear()
        first = pool.submit(post, url, {"max_tokens": 3})
        kit.until(lambda: engine.outstanding == 1, "the first runs")
        assert code(post(url, headers={"X-Timeout-S": "1"})) == (504, "deadline_exceeded")
        loaded.model.gate.set()
        assert first.result().status_code == 200
        kit.until(lambda: engine.outstanding == 0, "the one that waited has left the queue")


@pytest.fixture(scope="module")
def url():
    with kit.serving(kit.tiny(), max_header_bytes=4096) as (url, _):
        yield url


@pytest.mark.parametrize(
    ("path", "word"), [("completions", "chat/completions"), ("embeddings", "Embeddings"), ("responses", "chat")]
)
def test_other_endpoints_of_openai_are_refused_by_name(url, path, word):
    response = httpx.post(f"{url}/v1/{path}", json={"model": kit.MODEL, "prompt": "Hi", "input": "Hi"})
    assert code(response) == (404, "unsupported_endpoint") and word in response.json()["error"]["message"]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError, match="not offered"):
        client.completions.create(model=kit.MODEL, prompt="Hi")
    with pytest.raises(openai.NotFoundError, match="not offered"):
        client.embeddings.create(model=kit.MODEL, input="Hi")


def test_headers_over_the_limit_are_refused_and_the_server_goes_on(url):
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), 10) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 8000)
        assert raw.recv(100).startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{url}/health").status_code == 200


def test_exactly_one_bos_when_template_and_tokenizer_both_write_it():
    loaded = kit.with_template(
        kit.tiny(), "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    )
    tokenizer = loaded.tokenizer
    bos = tokenizer._tokenizer.token_to_id(tokenizer.settings["bos_token"])
    added = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    tokenizer._tokenizer.post_processor = added
    assert tokenizer._tokenizer.encode("Hi").ids[0] == bos, "by itself the tokenizer adds one"
    with kit.serving(loaded) as (url, engine), ThreadPoolExecutor(1) as pool:
        loaded.model.gate.clear()
        asked = pool.submit(post, url, {"max_tokens": 1})
        kit.until(lambda: len(engine._running) == 1, "it runs")
        ids = engine._running[0].request.prompt_ids
        loaded.model.gate.set()
        assert asked.result().status_code == 200
    assert ids[0] == bos and ids.count(bos) == 1


def test_what_is_served_is_said_with_its_adapter():
    parts = kit.named()
    described = parts.model.model_copy(update={"base": "builtin:tiny", "adapter": "lora", "variant": "tuned"})
    with kit.serving(kit.tiny(), type(parts)(described)) as (url, _):
        (listed,) = httpx.get(f"{url}/v1/models").json()["data"]
        assert (listed["id"], listed["base"], listed["adapter"]) == (kit.MODEL, "builtin:tiny", "lora")
        assert openai.OpenAI(base_url=f"{url}/v1", api_key="none").models.retrieve(kit.MODEL).adapter == "lora"


def test_every_tenant_has_a_key_and_the_log_names_the_tenant():
    said: list[str] = []
    config = ServeConfig(port=0, api_key="k0", api_keys={"ann": "k1", "bob": "k2"}, log="json")
    engine = TransformersEngine(kit.tiny, batch_size=2, queue=2)
    with in_thread(Server(engine, config, kit.named(), log=said.append)) as url:
        for key in ("k0", "k1", "k2"):
            assert post(url, {"max_tokens": 1}, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert post(url, headers={"Authorization": "Bearer k3"}).status_code == 401
        assert httpx.get(f"{url}/metrics").status_code == 401 and httpx.get(f"{url}/openapi.json").status_code == 401
    rows = [json.loads(line) for line in said]
    asked = [row for row in rows if row["event"] == "request" and row["path"] == "/v1/chat/completions"]
    assert [(row.get("tenant"), row["status"]) for row in asked] == [
        ("default", 200), ("ann", 200), ("bob", 200), (None, 401),
    ]  # fmt: skip
    assert all(row["request_id"] and row["ms"] >= 0 for row in asked) and asked[0]["tokens"] == 1
    assert not any("Hello" in line or "k1" in line for line in said)


def test_keys_that_cannot_be_told_apart_are_refused():
    with pytest.raises(ValidationError, match="same key"):
        ServeConfig(api_keys={"a": "k", "b": "k"})
    with pytest.raises(ValidationError, match="stands in api_keys too"):
        ServeConfig(api_key="k", api_keys={"default": "j"})
    with pytest.raises(ValidationError, match="tenant's name"):
        ServeConfig(api_keys={"a b": "k"})
    assert ServeConfig(host="0.0.0.0", api_keys={"a": "k"}).tenants == {"a": "k"}


def test_personal_data_is_masked_before_the_model_sees_it():
    loaded = kit.tiny()
    parts_of_one = [{"type": "text", "text": "call 1381234"}, {"type": "text", "text": "5678 now"}]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"n": 13812345678, "k": 5}'}}
    given = {"role": "tool", "tool_call_id": "a", "content": '{"phone": 13912345678}'}
    messages = [
        {"role": "system", "content": "mail ann@example.com"},
        {"role": "user", "content": parts_of_one},
        {"role": "assistant", "content": "ok", "tool_calls": [call]},
        given,
        {"role": "user", "content": "thanks"},
    ]
    shown = kit.with_template(
        loaded,
        "{% for message in messages %}{{ message['content'] }}"
        "{% for c in message.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %}"
        "{% endfor %}",
    )
    with kit.serving(shown, redact=["phone"]) as (url, engine), ThreadPoolExecutor(1) as pool:
        loaded.model.gate.clear()
        asked = pool.submit(post, url, {"messages": messages, "max_tokens": 1})
        kit.until(lambda: len(engine._running) == 1, "it runs")
        text = shown.tokenizer.decode(engine._running[0].request.prompt_ids)
        loaded.model.gate.set()
        assert asked.result().status_code == 200
    assert "call <PHONE> now" in text and "138" not in text
    assert '{"phone": "<PHONE>"}' in text, "a tool's result stays JSON, as in training"
    assert "mail ann@example.com" in text, "only the kinds that were named"
    assert "<PHONE>" in text.partition("now")[2] and "5" in text.partition("now")[2], "the call's number too"


def test_metrics_count_what_happened():
    loaded = kit.tiny()
    with kit.serving(loaded) as (url, _):
        assert post(url, {"max_tokens": 7}).status_code == 200
        assert post(url, {"model": "other"}).status_code == 404
        httpx.get(f"{url}/made/up/{'x' * 50}")
        page = httpx.get(f"{url}/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        rows = dict(line.rsplit(" ", 1) for line in page.text.splitlines() if not line.startswith("#"))
    chat = 'tunewright_requests_total{method="POST",path="/v1/chat/completions",status="%s"}'
    assert (rows[chat % 200], rows[chat % 404]) == ("1.0", "1.0")
    assert rows['tunewright_requests_total{method="GET",path="other",status="404"}'] == "1.0"
    assert rows["tunewright_generated_tokens_total"] == "7.0" and rows["tunewright_first_token_seconds_count"] == "1.0"
    assert (
        rows["tunewright_token_seconds_count"] == "1.0" and rows['tunewright_answers_total{finish="length"}'] == "1.0"
    )
    assert float(rows["tunewright_answer_seconds_sum"]) >= float(rows["tunewright_first_token_seconds_sum"]) > 0
    assert rows["tunewright_queue_requests"] == rows["tunewright_batch_requests"] == "0.0"
    assert rows['tunewright_engine_state{state="ready"}'] == "1.0"


def test_metrics_show_the_queue_while_it_is_there():
    loaded = kit.tiny()
    with kit.serving(loaded, batch_size=1, queue=5) as (url, engine), ThreadPoolExecutor(3) as pool:
        loaded.model.closes_after = 1  # the prompt's pass
        first = pool.submit(post, url, {"max_tokens": 30})
        kit.until(lambda: loaded.model.held, "one runs")
        others = [pool.submit(post, url, {"max_tokens": 2}) for _ in range(2)]
        kit.until(lambda: engine.outstanding == 3, "two wait")
        text = httpx.get(f"{url}/metrics").text
        loaded.model.gate.set()
        assert all(asked.result().status_code == 200 for asked in [first, *others])
    assert "tunewright_queue_requests 2.0" in text and "tunewright_batch_requests 1.0" in text
