"""Exact, contains, JSON schema, slots, and intent's confusion and out-of-scope rows."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Sample
from tunewright.evaluate.config import IntentOptions
from tunewright.evaluate.metrics.characters import comparable
from tunewright.evaluate.metrics.confusion import UNPARSEABLE
from tunewright.evaluate.metrics.contains import Contains, stands_in
from tunewright.evaluate.metrics.exact import Exact
from tunewright.evaluate.metrics.intent import Intent
from tunewright.evaluate.metrics.json_answers import NOTHING, object_in, strict_json
from tunewright.evaluate.metrics.json_schema import JsonSchema
from tunewright.evaluate.metrics.options import ContainsOptions, ExactOptions, JsonSchemaOptions, SlotsOptions
from tunewright.evaluate.metrics.schema import faults, unknown_keywords
from tunewright.evaluate.metrics.slots import Slots


def sample(prediction: str, reference: str = "", **metadata: Any) -> Sample:
    return Sample(id="7", prompt="", prediction=prediction, reference=reference, metadata=metadata)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (" “Ｙｅｓ”。", "yes", True),
        ("a  b\n", "A B", True),
        ("-5", "5", False),
        ("5%", "5", False),
        ("$5", "5", False),
        ("**好**", "好", True),
        ("好的", "好", False),
        ("。", "！", False),
    ],
)
def test_exact(first: str, second: str, same: bool) -> None:
    assert (comparable(first) == comparable(second)) is same
    assert Exact(ExactOptions()).measure([sample(first, second)])[0].value == same
    assert Exact(ExactOptions(answer="metadata.a")).measure([sample(first, "x", a=second)])[0].value == same


@pytest.mark.parametrize(
    ("wanted", "text", "stands"),
    [
        ("5", "the answer is 5.", True),
        ("5", "15", False),
        ("5", "1.5", False),
        ("5", "5,000", False),
        ("5", "共5个", True),
        ("cat", "category", False),
        ("cat", "a cat!", True),
        ("冻结", "您的卡已冻结", True),
        ("a.c", "abc", False),
    ],
)
def test_contains(wanted: str, text: str, stands: bool) -> None:
    assert stands_in(wanted, text) is stands
    assert Contains(ContainsOptions()).measure([sample(text, wanted)])[0].value == stands


def test_contains_a_list() -> None:
    rows = [
        sample("call the branch or the hotline", must=["branch", "hotline"]),
        sample("call the branch", must=["branch", "hotline"]),
    ]
    every, one = (
        Contains(ContainsOptions(answer="metadata.must", wanted=wanted)).measure(rows)[0].value
        for wanted in ("all", "any")
    )
    assert (every, one) == (0.5, 1)
    nothing = Contains(ContainsOptions()).measure([sample("x", "")])[0]
    assert nothing.value == 0 and "rows that expect nothing:1" in nothing.signature


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "pattern": "^[a-z]+$"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2, "uniqueItems": True},
        "kind": {"anyOf": [{"const": "a"}, {"type": "null"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"tag": {"enum": ["x", "y", 1]}},
}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"name": "wei", "age": 3, "tags": ["x", 1], "kind": None}, ""),
        ({"name": "wei", "age": 3.0}, ""),
        ({"name": "wei", "tags": [1.0]}, ""),
        ({}, "$: the key 'name' is missing"),
        ({"name": ""}, "$.name: must have a length of at least 1"),
        ({"name": "Wei"}, "$.name: does not match ^[a-z]+$"),
        ({"name": "wei", "age": True}, "$.age: must be integer"),
        ({"name": "wei", "age": 150}, "$.age: must be less than 150"),
        ({"name": "wei", "age": 3.5}, "$.age: must be integer"),
        ({"name": "wei", "tags": ["z"]}, "$.tags[0]: is none of the allowed values"),
        ({"name": "wei", "tags": [True]}, "$.tags[0]: is none of the allowed values"),
        ({"name": "wei", "tags": ["x", "x"]}, "$.tags: an item stands twice"),
        ({"name": "wei", "tags": ["x", "y", 1]}, "$.tags: must have items, at most 2"),
        ({"name": "wei", "kind": "b"}, "$.kind: follows none of the alternatives"),
        ({"name": "wei", "x": 1}, "$: the key 'x' is not allowed"),
        ([], "$: must be object"),
    ],
)
def test_a_schema_finds_the_first_fault(value: Any, fault: str) -> None:
    assert next(faults(value, SCHEMA), "") == fault


@pytest.mark.parametrize(
    ("value", "schema", "follows"),
    [
        (5, {"oneOf": [{"type": "integer"}, {"minimum": 3}]}, False),
        (5.5, {"oneOf": [{"type": "integer"}, {"minimum": 3}]}, True),
        (5, {"not": {"type": "integer"}}, False),
        (0.3, {"multipleOf": 0.1}, True),
        ([1, "a"], {"contains": {"type": "string"}}, True),
        ({"a1": 1}, {"patternProperties": {"^a": {"type": "string"}}}, False),
        ({"ab": 1}, {"propertyNames": {"maxLength": 1}}, False),
        (1, {"$ref": "#/$defs/nowhere"}, False),
        ({"next": {"next": {}}}, {"type": "object", "properties": {"next": {"$ref": "#"}}}, True),
        ({"next": {"next": 5}}, {"type": "object", "properties": {"next": {"$ref": "#"}}}, False),
        (1, False, False),
        (None, {"type": ["string", "null"]}, True),
    ],
)
def test_keywords(value: Any, schema: Any, follows: bool) -> None:
    assert unknown_keywords(schema) == []
    assert (next(faults(value, schema), None) is None) is follows


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"dependentRequired": {}}, "'dependentRequired' is not checked"),
        ({"properties": {"a": {"if": {}}}}, "schema.properties.a: the keyword 'if'"),
        ({"type": "text"}, "no type 'text'"),
        ({"pattern": "("}, "is no regular expression"),
        ({"properties": 5}, "must be an object"),
        ({"required": "name"}, "must be a list"),
        ({"minimum": "1"}, "must be a number"),
        (5, "a schema is an object"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: Any, said: str) -> None:
    assert said in "\n".join(unknown_keywords(schema))
    if isinstance(schema, dict):
        with pytest.raises(ConfigError) as caught:
            JsonSchema(JsonSchemaOptions(accept=schema))
        assert said in str(caught.value)


def test_json_schema_metric() -> None:
    rows = [
        sample('{"name": "wei"}'),
        sample('{"name": 5}'),
        sample('```json\n{"name": "wei"}\n```'),
        sample("NaN"),
        sample(""),
    ]
    values = {one.metric: one.value for one in JsonSchema(JsonSchemaOptions(accept=SCHEMA)).measure(rows)}
    assert values == {"json_schema.valid": 0.2, "json_schema.json": 0.4}
    fenced = {one.metric: one.value for one in JsonSchema(JsonSchemaOptions(accept=SCHEMA, fenced=True)).measure(rows)}
    assert fenced == {"json_schema.valid": 0.4, "json_schema.json": pytest.approx(0.6)}
    said = JsonSchema(JsonSchemaOptions()).explain([sample("5", json_schema={"type": "string"}), sample("5")])
    assert said == [{"valid": False, "fault": "$: must be string"}, {"valid": True, "fault": None}]


@pytest.mark.parametrize("text", ["NaN", '{"a": 1, "a": 2}', "", "{'a': 1}", '{"a": 1} x', "[" * 100_000])
def test_what_is_no_json(text: str) -> None:
    assert strict_json(text) is NOTHING


def test_the_object_in_an_answer() -> None:
    assert object_in('Here: {"a": {"b": 1}} and {"c": 2}') == {"a": {"b": 1}}
    assert object_in('{not json} {"a": 1}') == {"a": 1}
    assert object_in("[1]") is None


def test_slots() -> None:
    right = {"date": "Monday", "people": ["Ann", "Bo"]}
    rows = [
        sample('{"slots": {"date": "monday", "people": ["Bo", "Ann"]}}', slots=right),
        sample('The slots are {"date": "Monday", "time": "5"}', slots=right),
        sample("no idea", slots=right),
        sample("{}", slots={}),
        sample("{}"),
    ]
    found = {one.metric: one for one in Slots(SlotsOptions()).measure(rows)}
    assert len(found["slots.f1"].statistics) == 4
    assert found["slots.f1"].value == pytest.approx(2 * (3 + 1) / ((3 + 3) + (2 + 3) + (0 + 3) + 0))
    assert found["slots.exact"].value == 0.5
    assert found["slots.unparseable"].value == 0.25 and not found["slots.unparseable"].higher_is_better


def _intents(pairs: list[tuple[str, str]]) -> list[Sample]:
    return [sample(said, right, intent=right) for said, right in pairs]


def test_out_of_scope() -> None:
    """4 questions out of scope: 1 recognized, 2 taken for an intent, 1 unparseable."""
    pairs = [("oos", "oos"), ("fee", "oos"), ("fee", "oos"), ("hm", "oos"), ("fee", "fee"), ("oos", "fee")]
    values = {one.metric: one for one in Intent(IntentOptions(), ["fee"]).measure(_intents(pairs))}
    assert values["intent.out_of_scope_recall"].value == 0.25
    assert values["intent.false_accept"].value == 0.5 and not values["intent.false_accept"].higher_is_better
    assert len(values["intent.false_accept"].statistics) == 4
    assert values["intent.accuracy"].value == pytest.approx(2 / 6)
    without = Intent(IntentOptions(), ["fee"]).measure(_intents([("fee", "fee")]))
    assert not any("scope" in one.metric for one in without)


def test_confusion() -> None:
    pairs = [("fee", "fee"), ("fee", "pin"), ("fee", "pin"), ("hm", "pin"), ("pin", "fee")]
    found = Intent(IntentOptions(), ["lost"]).confusion(_intents(pairs))
    assert found.labels == ("fee", "pin", UNPARSEABLE)
    assert found.counts == ((1, 1, 0), (2, 0, 1), (0, 0, 0))
    assert sum(map(sum, found.counts)) == len(pairs)
