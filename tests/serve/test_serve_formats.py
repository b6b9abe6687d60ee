"""Answers of a JSON schema over real HTTP: a random model gives valid ones, and what cannot be promised is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from typing import Any

import httpx
import jobs_kit
import pytest
import serving_kit as kit

from tunewright.models import constraint
from tunewright.models.request import ConstraintFault
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import open_cache
from tunewright.serve.config import CacheConfig

pytest.importorskip("llguidance")
ORDER = {
    "type": "object",
    "properties": {
        "城市": {"enum": ["上海", "北京"]},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"count": {"type": "integer", "minimum": 1, "maximum": 20}, "gift": {"type": "boolean"}},
                "required": ["count", "gift"],
                "additionalProperties": False,
            },
            "minItems": 1,
            "maxItems": 2,
        },
    },
    "required": ["城市", "items"],
    "additionalProperties": False,
}


def form(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "order", "schema": schema, **more}}


@pytest.fixture(scope="module")
def loaded():
    return kit.tiny(ends=True)


@pytest.fixture(scope="module")
def served(loaded):
    with kit.serving(loaded, max_new_tokens=400) as (url, engine):
        yield url, engine


@pytest.fixture
def url(served):
    return served[0]


def post(url: str, **change: Any) -> httpx.Response:
    body = {"model": kit.MODEL, "messages": [{"role": "user", "content": "Order in JSON"}], "temperature": 1, "seed": 5}
    return httpx.post(f"{url}/v1/chat/completions", json=body | change, timeout=kit.DEADLINE_S)


def said(response: httpx.Response) -> tuple[str, str]:
    assert response.status_code == 200, response.text
    one = response.json()["choices"][0]
    return one["message"]["content"], one["finish_reason"]


def check_order(text: str) -> None:
    order = json.loads(text)
    assert set(order) == {"城市", "items"} and order["城市"] in ("上海", "北京") and 1 <= len(order["items"]) <= 2
    for item in order["items"]:
        assert set(item) == {"count", "gift"} and type(item["gift"]) is bool
        assert type(item["count"]) is int and 1 <= item["count"] <= 20


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_schema_is_followed_by_a_model_that_knows_nothing(url, strict):
    text, finish = said(post(url, response_format=form(ORDER, strict=strict, description="An order")))
    check_order(text)
    assert finish == "stop"


def test_streamed_choices_follow_it_with_their_log_probabilities(url):
    response = post(url, response_format=form(ORDER), n=3, logprobs=True, top_logprobs=2, stream=True)
    texts, pieces = {0: "", 1: "", 2: ""}, {0: b"", 1: b"", 2: b""}
    for line in response.text.strip().split("\n\n")[:-1]:
        one = json.loads(line.removeprefix("data: "))["choices"][0]
        texts[one["index"]] += one["delta"].get("content") or ""
        pieces[one["index"]] += b"".join(bytes(e["bytes"]) for e in (one["logprobs"] or {"content": []})["content"])
    for index, text in texts.items():
        check_order(text)
        assert pieces[index].decode() == text
    assert len(set(texts.values())) > 1


def test_an_object_is_json_or_says_that_it_was_cut(url):
    answers = [said(post(url, response_format={"type": "json_object"}, max_tokens=30, seed=n)) for n in range(8)]
    for text, finish in answers:
        assert text.startswith("{") and (finish == "length" or isinstance(json.loads(text), dict))
    assert any(finish == "length" for _, finish in answers)


def test_a_cut_answer_says_length(url):
    text, finish = said(post(url, response_format=form(ORDER), max_tokens=5))
    assert finish == "length" and text.startswith('{"')


def test_rows_with_and_without_a_form_share_a_batch(url):
    plain = {"max_tokens": 40, "temperature": 0, "seed": None}
    alone = said(post(url, **plain))
    with ThreadPoolExecutor(6) as pool:
        forms = [pool.submit(post, url, response_format=form(ORDER), seed=seed) for seed in range(4)]
        beside = [pool.submit(post, url, **plain) for _ in range(2)]
    assert [said(one.result()) for one in beside] == [alone, alone]
    for one in forms:
        check_order(said(one.result())[0])


@pytest.mark.parametrize(
    ("schema", "place", "words"),
    [
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, ".properties.a", "Invalid type: strin"),
        ({"type": "array", "uniqueItems": True}, "", 'Unimplemented keys: ["uniqueItems"]'),
        ({"type": "string", "pattern": "(" * 3}, "", "unclosed group"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_400_with_its_place(url, schema, place, words):
    response = post(url, response_format=form(schema))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_json_schema")
    assert error["param"] == f"response_format.json_schema.schema{place}" and words in error["message"]


def test_tools_that_may_not_be_called_do_not_matter(url):
    tool = {"type": "function", "function": {"name": "f"}}
    text, _ = said(post(url, response_format=form(ORDER), tools=[tool], tool_choice="none"))
    check_order(text)


def test_without_the_library_it_is_400_and_says_how_to_install_it(url, monkeypatch):
    monkeypatch.setattr(constraint, "find_spec", lambda name: None if name == "llguidance" else util.find_spec(name))
    response = post(url, response_format={"type": "json_object"})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "response_format", "unsupported_parameter")
    assert "pip install 'tunewright[serve]'" in error["message"]


def test_a_grammar_that_fails_is_500_for_its_request_alone(served, monkeypatch):
    url, engine = served
    plain = {"max_tokens": 200, "temperature": 0, "seed": None}
    alone = said(post(url, **plain))

    def fail(self: Any, token: int) -> None:
        raise ConstraintFault("the content of somebody's question")

    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(post, url, **plain)
        kit.until(lambda: engine.running == 1, "the other one runs")
        monkeypatch.setattr(constraint.JsonConstraint, "accept", fail)
        broken = post(url, response_format=form(ORDER))
    assert broken.status_code == 500 and broken.json()["error"]["message"] == "The model could not keep to the schema."
    assert said(beside.result()) == alone and engine.state == "ready"


def test_kept_answers_are_those_of_the_same_schema(loaded, tmp_path):
    """Greedy, so that all are kept: a plain question, two schemas and the order of one's properties are four."""
    parts = kit.named(identity=Identity("one"), cache=open_cache(CacheConfig(store="disk"), tmp_path))
    turned = ORDER | {"properties": dict(reversed(ORDER["properties"].items()))}
    asks = [{}, *({"response_format": form(schema)} for schema in (ORDER, turned, {"enum": [1, 2]}))]
    with kit.serving(loaded, parts) as (url, _):
        rounds = [[post(url, temperature=0, max_tokens=200, **ask) for ask in asks] for _ in range(2)]
    assert [[one.headers["x-cache"] for one in answers] for answers in rounds] == [["miss"] * 4, ["hit"] * 4]
    assert [said(one) for one in rounds[0]] == [said(one) for one in rounds[1]]
    assert len({said(one)[0] for one in rounds[0]}) == 4


def test_a_job_follows_its_schema_and_a_wrong_one_is_refused_at_once(loaded, tmp_path):
    with jobs_kit.running(tmp_path, loaded, keys={"ann": "k1"}) as jobs:
        headers = {"Authorization": "Bearer k1"}
        body = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 300}
        wrong = httpx.post(
            f"{jobs.url}/v1/jobs", json=body | {"response_format": form({"type": "strin"})}, headers=headers
        )
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_json_schema")
        job = httpx.post(f"{jobs.url}/v1/jobs", json=body | {"response_format": form(ORDER), "n": 2}, headers=headers)
        place = f"{jobs.url}/v1/jobs/{job.json()['id']}"
        kit.until(lambda: httpx.get(place, headers=headers).json()["status"] in ("done", "failed"), "the job ends")
        result = httpx.get(f"{place}/result", headers=headers).json()
    assert len(result["choices"]) == 2
    for one in result["choices"]:
        check_order(one["message"]["content"])
