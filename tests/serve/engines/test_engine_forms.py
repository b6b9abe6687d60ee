"""Log probabilities, several choices and answers of a schema, for each engine: done, passed on, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import engine_kit
import httpx
import pytest
import serving_kit as kit
from test_remote_engine import Odd, front

from tunewright.models import llama_program
from tunewright.models.request import Sampling
from tunewright.serve.engines import prompts
from tunewright.serve.engines.llama_schema import unenforced
from tunewright.serve.engines.remote import response_format

HAS_LLAMA = llama_program.is_present() and find_spec("gguf") is not None
ENGINES = ["transformers", "remote", *(["llamacpp"] if HAS_LLAMA else [])]
ORDER = {
    "type": "object",
    "properties": {
        "城市": {"enum": ["上海", "北京"]},
        "count": {"type": "integer", "minimum": 1, "maximum": 20},
        "gifts": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        "note": {"type": "string", "maxLength": 4},
        "level": {"$ref": "#/$defs/level"},
    },
    "required": ["城市", "count", "gifts", "level"],
    "additionalProperties": False,
    "$defs": {"level": {"anyOf": [{"const": "高"}, {"type": "null"}]}},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> engine_kit.Model:
    return engine_kit.Model.made(tmp_path_factory.mktemp("ending") / "model", ends=True, gguf=HAS_LLAMA)


@pytest.fixture(scope="module", params=ENGINES)
def served(request: pytest.FixtureRequest, model: engine_kit.Model) -> Iterator[tuple[str, str]]:
    """(name, URL)."""
    with engine_kit.serving(request.param, model) as (url, _):
        yield request.param, url


def form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "order", "schema": schema}}


def post(url: str, **change: Any) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 300, "temperature": 1}
    return httpx.post(f"{url}/v1/chat/completions", json=body | change, timeout=kit.DEADLINE_S)


def told(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(response: httpx.Response, param: str) -> str:
    """The message of a 400 that names `param`."""
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    return str(error["message"])


def test_choices_are_the_answers_to_single_questions(served: tuple[str, str]) -> None:
    _, url = served
    several = told(post(url, n=3, seed=11, max_tokens=12))
    alone = [told(post(url, seed=11 + index, max_tokens=12)) for index in range(3)]
    assert [one["message"]["content"] for one in several["choices"]] == [
        one["choices"][0]["message"]["content"] for one in alone
    ]
    assert several["usage"]["completion_tokens"] == sum(one["usage"]["completion_tokens"] for one in alone)
    assert several["usage"]["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"]


def test_a_schema_is_followed_or_refused(served: tuple[str, str]) -> None:
    name, url = served
    if name == "remote":
        message = refused(post(url, response_format=form(ORDER)), "response_format")
        assert "serve.engine.honours: [response_format]" in message
        return
    if name == "transformers":
        pytest.importorskip("llguidance")
    for seed in range(4):
        answer = told(post(url, response_format=form(ORDER), seed=seed))["choices"][0]
        order = json.loads(answer["message"]["content"])
        assert order.keys() - {"note"} == {"城市", "count", "gifts", "level"} and order["level"] in ("高", None)
        assert order["城市"] in ("上海", "北京") and 1 <= order["count"] <= 20 and 1 <= len(order["gifts"]) <= 3
        assert len(order.get("note", "")) <= 4 and answer["finish_reason"] == "stop"
    anything = told(post(url, response_format={"type": "json_object"}, max_tokens=60, seed=1))["choices"][0]
    assert anything["message"]["content"].lstrip().startswith("{")


def test_log_probabilities_are_given_or_refused(served: tuple[str, str]) -> None:
    name, url = served
    response = post(url, logprobs=True, top_logprobs=2, max_tokens=6, temperature=0)
    if name != "transformers":
        refused(response, "logprobs")
        return
    found = told(response)["choices"][0]
    entries = found["logprobs"]["content"]
    assert "".join(one["token"] for one in entries) == found["message"]["content"]


@pytest.mark.parametrize(
    ("schema", "place", "what"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a$"}}},
            ("properties", "a"),
            "'pattern'",
        ),
        ({"type": "number", "maximum": 3}, (), "'maximum'"),
        ({"type": "array", "minItems": 3}, (), "without 'items'"),
        ({"type": "array", "items": {"type": "array", "items": True}}, ("items", "items"), "no object"),
        ({"anyOf": [{"type": "null"}], "minLength": 3}, (), "'minLength' beside 'anyOf'"),
        ({"anyOf": [{"type": "null"}, {"oneOf": []}]}, ("anyOf[1]",), "'oneOf' without 'type'"),
        ({"enum": ["a", 1], "type": "string"}, (), "not of the 'type'"),
        ({"type": "object", "required": ["a"]}, (), "the required 'a'"),
        ({"type": "object", "properties": {"中": {}}, "additionalProperties": True}, (), "additionalProperties"),
        ({"properties": {}}, (), "without 'type'"),
        ({"type": "integer", "minimum": 0.5}, (), "no integer"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": 1}, (), "'exclusiveMinimum' beside"),
        ({"$ref": "https://a.b/c"}, (), "'$ref'"),
        ({"$defs": {"x": {"type": "string", "format": "email"}}}, ("$defs", "x"), "'format'"),
        ({"type": "strin"}, (), "the type 'strin'"),
    ],
)
def test_what_llama_cpp_would_leave_out_is_found(schema: Any, place: tuple[str, ...], what: str) -> None:
    found = unenforced(schema)
    assert found is not None and found[0] == place and what in found[1]


@pytest.mark.parametrize(
    "schema",
    [ORDER, {}, {"type": ["string", "null"], "maxLength": 3, "title": "x"}, {"const": 1.0, "type": "integer"}],
)
def test_what_llama_cpp_enforces_passes(schema: Any) -> None:
    assert unenforced(schema) is None


@pytest.mark.skipif(not HAS_LLAMA, reason="neither llama-server nor xllamacpp is here")
def test_llama_cpp_gets_no_schema_that_it_would_follow_in_part(model: engine_kit.Model) -> None:
    part = {"type": "object", "properties": {"a": {"type": "string", "format": "email"}}}
    with engine_kit.serving("llamacpp", model) as (url, _):
        message = refused(post(url, response_format=form(part)), "response_format.json_schema.schema.properties.a")
        assert "does not enforce 'format'" in message
        nowhere = {"type": "array", "items": {"$ref": "#/$defs/x"}}
        refused(post(url, response_format=form(nowhere)), "response_format.json_schema.schema.items")


ENTRY = {"token": "Gu", "logprob": -0.25, "bytes": None, "top_logprobs": [{"token": "G", "logprob": -1, "bytes": [71]}]}
REST = {"token": "ten", "logprob": -0.5, "bytes": [116, 101, 110], "top_logprobs": []}


@pytest.fixture(scope="module")
def odd() -> Iterator[Odd]:
    made = Odd()
    yield made
    made.server.shutdown()
    made.server.server_close()


def says(odd: Odd, *pieces: tuple[str, Any]) -> None:
    """Texts with entries of log probabilities."""
    rows: list[Any] = [
        {"choices": [{"delta": {"content": text}, "logprobs": {"content": entries}, "finish_reason": None}]}
        for text, entries in pieces
    ]
    rows.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    rows.append({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}})
    odd.answer = (200, {}, rows)


def test_a_remote_server_that_is_known_to_obey_is_asked(odd: Odd) -> None:
    with front(odd.url, honours=("logprobs", "response_format")) as (url, _):
        says(odd, ("1", []))
        told(post(url, response_format=form({"enum": [1]})))
        body = odd.asked[-1][1]
        strict = {"name": "answer", "schema": {"enum": [1]}, "strict": True}
        assert body["response_format"] == {"type": "json_schema", "json_schema": strict}
        says(odd, ("Gu", [ENTRY]), ("ten", [REST]))
        found = told(post(url, logprobs=True, top_logprobs=1))["choices"][0]
        body = odd.asked[-1][1]
        assert (body["logprobs"], body["top_logprobs"]) == (True, 1)
        assert found["logprobs"]["content"] == [ENTRY | {"bytes": [71, 117]}, REST]
        cut = told(post(url, logprobs=True, stop=["te"]))["choices"][0]
        assert cut["message"]["content"] == "Gu" and len(cut["logprobs"]["content"]) == 1
        says(odd, ("Guten", []))
        assert "did not keep to the schema" in post(url, response_format=form({})).json()["error"]["message"]
        assert "no log probabilities" in post(url, logprobs=True).json()["error"]["message"]
        says(odd, ("Guten", [{"token": 5}]))
        assert "another form" in post(url, logprobs=True).json()["error"]["message"]
    assert response_format('{"type": "object"}') == {"type": "json_object"}


def test_a_remote_server_of_ours_is_asked_and_answers(model: engine_kit.Model) -> None:
    pytest.importorskip("llguidance")
    asks: list[dict[str, Any]] = [
        {"logprobs": True, "top_logprobs": 2, "max_tokens": 9, "temperature": 0},
        {"response_format": form(ORDER), "seed": 4, "n": 2},
    ]
    honours = ("seed", "logprobs", "response_format")
    with (
        engine_kit.serving("transformers", model) as (behind, _),
        front(f"{behind}/v1", honours=honours) as (url, _),
    ):
        for ask in asks:
            assert told(post(url, **ask))["choices"] == told(post(behind, **ask))["choices"]


def test_named_schemas_are_asked_for_strictly() -> None:
    """Without `strict`, OpenAI's own server only tries to follow a schema."""
    assert prompts.named_schema('{"enum": ["上海"]}')["json_schema"] == {
        "name": "answer",
        "schema": {"enum": ["上海"]},
        "strict": True,
    }
    assert Sampling().json_schema is None
