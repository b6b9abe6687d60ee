"""Every refusal over real HTTP: status and OpenAI's error envelope."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

import httpx
import openai
import pytest
import serving_kit as kit
from pydantic import ValidationError

from tunewright.serve.config import ServeConfig

GOOD = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 2}
TOOL = {"type": "function", "function": {"name": "f"}}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BAD = {"name": "f", "arguments": "[1]"}
NAMED = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


@pytest.fixture(scope="module")
def url():
    with kit.serving(kit.tiny(), max_new_tokens=400, max_body_bytes=20_000) as (url, _):
        yield url


def posted(url: str, body, **options) -> httpx.Response:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    return httpx.post(f"{url}/v1/chat/completions", content=content, headers=headers, timeout=30, **options)


def envelope(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    assert response.headers["x-request-id"]
    return error


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": True}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"n": 2, "temperature": 0.001}, "n"),
        ({"tools": [TOOL]}, "tools"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": TOOL}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL["function"]]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools[0].function.strict"),
        ({"messages": [{"role": "user", "content": "Hi", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "user", "content": "Hi", "tool_call_id": "a"}]}, "messages[0].tool_call_id"),
        ({"messages": [*kit.HELLO, {"role": "tool", "content": "1"}]}, "messages[1].tool_call_id"),
        ({"messages": [*kit.HELLO, {"role": "tool", "content": "1", "tool_call_id": "a"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [*kit.HELLO, {"role": "assistant", "tool_calls": [CALL | {"function": BAD}]}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"messages": [*kit.HELLO, {"role": "assistant", "tool_calls": [CALL]}]}, "messages[1].tool_calls"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_object", "strict": True}}, "response_format.strict"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": NAMED | {"json_schema": {"name": "a"}}}, "response_format.json_schema.schema"),
        ({"response_format": NAMED | {"json_schema": {"schema": {}}}}, "response_format.json_schema.name"),
        (
            {"response_format": NAMED | {"json_schema": {"name": "a b", "schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": NAMED | {"json_schema": {"name": "a", "schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"response_format": NAMED, "tools": [TOOL]}, "response_format"),
        ({"response_format": NAMED, "stop": "}"}, "stop"),
        ({"logprobs": 5}, "logprobs"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 0}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"top_k": 5}, "top_k"),
        ({"max_tokens": "2"}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 401}, "max_tokens"),
        ({"max_completion_tokens": 3}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop[0]"),
        ({"stop": 5}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]}, "messages[0].name"),
        ({"messages": [*kit.HELLO, {"role": "user", "content": 5}]}, "messages[1].content"),
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(url, change, param):
    error = envelope(posted(url, GOOD | change), 400)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert param.rpartition(".")[2].split("[")[0] in error["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b'{"model": NaN}', b"\xff\xfe", b"[" * 5000, b'{"model": "\\ud800"}', b"9" * 5000, b'"x"'],
)
def test_a_body_that_is_no_json_object_is_400(url, body):
    assert envelope(posted(url, body), 400)["type"] == "invalid_request_error"


def test_an_unknown_model_is_404(url):
    error = envelope(posted(url, GOOD | {"model": "gpt-5"}), 404)
    assert error["code"] == "model_not_found" and "gpt-5" in error["message"]


def test_prompt_and_answer_over_the_context_are_refused_with_the_numbers(url):
    text = "x" * 200  # byte tokens: ChatML adds 6 + 1 for the turn and 11 for the answer's header
    error = envelope(posted(url, GOOD | {"messages": [{"role": "user", "content": text}], "max_tokens": 400}), 400)
    assert error["code"] == "context_length_exceeded"
    assert "maximum context length is 512" in error["message"] and "400 in the completion" in error["message"]
    error = envelope(posted(url, {"model": kit.MODEL, "messages": [{"role": "user", "content": "x" * 600}]}), 400)
    assert error["code"] == "context_length_exceeded"


def test_without_max_tokens_the_answer_fills_what_the_context_leaves(url):
    usage = posted(url, {"model": kit.MODEL, "messages": [{"role": "user", "content": "x" * 450}]}).json()["usage"]
    assert usage["total_tokens"] == 512


def test_a_template_refusal_is_400_with_its_message():
    loaded = kit.with_template(
        kit.tiny(),
        "{% if messages[-1]['role'] != 'user' %}{{ raise_exception('The last turn must be the user') }}{% endif %}"
        "{% for message in messages %}{{ message['content'] }}{% endfor %}",
    )
    with kit.serving(loaded) as (url, _):
        messages = [*kit.HELLO, {"role": "assistant", "content": "I am"}]
        error = envelope(posted(url, GOOD | {"messages": messages}), 400)
        assert "The last turn must be the user" in error["message"] and error["param"] == "messages"


def test_unknown_path_and_wrong_method_have_the_envelope(url):
    assert envelope(httpx.get(f"{url}/v1/nowhere"), 404)["code"] == "unknown_url"
    assert envelope(httpx.get(f"{url}/docs"), 404)["code"] == "unknown_url"
    assert envelope(httpx.get(f"{url}/v1/models/"), 404)["code"] == "model_not_found"
    wrong = httpx.get(f"{url}/v1/chat/completions")
    assert "GET" in envelope(wrong, 405)["message"] and wrong.headers["allow"] == "POST"


def test_no_other_origin_is_let_in(url):
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    assert not any(
        name.startswith("access-control")
        for response in (httpx.options(f"{url}/v1/models", headers=headers), httpx.get(f"{url}/ready", headers=headers))
        for name in response.headers
    )


def test_a_large_body_is_413_with_and_without_a_length(url):
    large = GOOD | {"messages": [{"role": "user", "content": "x" * 40_000}]}
    text = json.dumps(large).encode()
    assert envelope(posted(url, text), 413)["code"] == "request_too_large"
    chunks = (text[start : start + 1000] for start in range(0, len(text), 1000))
    chunked = httpx.post(f"{url}/v1/chat/completions", content=chunks, headers={"Content-Type": "application/json"})
    assert chunked.request.headers["transfer-encoding"] == "chunked"
    assert envelope(chunked, 413)["code"] == "request_too_large"


def test_a_declared_length_alone_is_refused(url):
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=10)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", "99999999999")
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_the_request_id_comes_back_when_it_is_harmless(url):
    assert httpx.get(f"{url}/health", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    odd = httpx.get(f"{url}/health", headers={"X-Request-Id": "a b;c"}).headers["x-request-id"]
    assert odd.startswith("req_")


def test_every_path_but_health_needs_the_key():
    with kit.serving(kit.tiny(), api_key="secret-1") as (url, _):
        for path in ("/v1/models", "/v1/models/desk", "/nowhere", "/"):
            assert envelope(httpx.get(f"{url}{path}"), 401)["code"] == "invalid_api_key"
        wrong = posted(url, GOOD, headers={"Authorization": "Bearer secret-2"})
        assert envelope(wrong, 401)["code"] == "invalid_api_key" and "secret" not in wrong.text
        assert envelope(posted(url, GOOD, headers={"Authorization": "secret-1"}), 401)
        assert posted(url, GOOD, headers={"Authorization": "Bearer secret-1"}).status_code == 200
        assert httpx.get(f"{url}/health").status_code == httpx.get(f"{url}/ready").status_code == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}/v1", api_key="no", max_retries=0).models.list()
        assert openai.OpenAI(base_url=f"{url}/v1", api_key="secret-1").models.list().data[0].id == kit.MODEL


def test_off_loopback_without_a_key_is_refused_by_the_config():
    with pytest.raises(ValidationError, match=r"set serve\.api_key"):
        ServeConfig(host="0.0.0.0")
    assert ServeConfig(host="0.0.0.0", api_key="k").host == "0.0.0.0"
