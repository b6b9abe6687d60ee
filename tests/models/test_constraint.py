"""Answers of a JSON schema: a model that knows nothing still gives valid ones, and nobody beside it notices."""

from __future__ import annotations

import json
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch
import vocabularies
from torch import Tensor

from tunewright.core.errors import MissingExtraError
from tunewright.models import constraint
from tunewright.models.constraint import Grammars, SchemaRefused
from tunewright.models.load import load_model
from tunewright.models.request import ConstraintFault, Request, Sampling, next_tokens
from tunewright.models.running import RunningBatch
from tunewright.models.tokens import ChatTokenizer

pytest.importorskip("llguidance")
CITY = {"type": "string", "enum": ["上海", "北京", "广州市"]}
ITEM = {
    "type": "object",
    "properties": {"name": CITY, "count": {"type": "integer", "minimum": 1, "maximum": 20}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {"enum": ["card", "fee", "other", None, 7]},
    "chinese enum": CITY,
    "integer range": {"type": "integer", "minimum": -3, "maximum": 12},
    "object": ITEM,
    "chinese names": {
        "type": "object",
        "properties": {"城市": CITY, "风险": {"type": "boolean"}},
        "required": ["城市", "风险"],
        "additionalProperties": False,
    },
    "optional": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"const": [1, "二"]}},
        "required": ["b"],
        "additionalProperties": False,
    },
    "nested arrays": {
        "type": "array",
        "items": {"type": "array", "items": {"enum": [0, 1]}, "minItems": 1, "maxItems": 3},
        "minItems": 2,
        "maxItems": 3,
    },
    "array of objects": {"type": "array", "items": ITEM, "minItems": 1, "maxItems": 2},
    "string length": {"type": "string", "minLength": 2, "maxLength": 5},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    "date": {"type": "string", "format": "date"},
    "union": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, CITY, {"type": "null"}]},
    "number steps": {"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.25},
    "definitions": {
        "$defs": {"level": {"enum": ["高", "低"]}},
        "type": "object",
        "properties": {"level": {"$ref": "#/$defs/level"}},
        "required": ["level"],
        "additionalProperties": False,
    },
    "tuple": {"type": "array", "prefixItems": [CITY, {"type": "boolean"}], "items": False, "minItems": 2},
}


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return load_model(tiny, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> ChatTokenizer:
    return ChatTokenizer.load(tiny)


@pytest.fixture(scope="module")
def grammars(tokenizer: ChatTokenizer) -> Grammars:
    return Grammars(tokenizer)


def asked(tokenizer: ChatTokenizer, grammars: Grammars, schema: Any, **sampling: Any) -> Request:
    """A request that must answer by `schema`; None: one without a form."""
    given = Sampling(**{"max_new_tokens": 400, "temperature": 1.0, "seed": 1} | sampling)
    made = Request(tokenizer.encode("Tell me in JSON"), given)
    made.constraint = None if schema is None else grammars.constraint(json.dumps(schema))
    return made


def run(model: Any, tokenizer: ChatTokenizer, requests: list[Request]) -> None:
    batch = RunningBatch(model, tokenizer)
    batch.add(requests)
    while batch.rows:
        batch.step()


@pytest.mark.parametrize("name", SCHEMAS)
def test_an_untrained_model_gives_valid_instances(
    model: Any, tokenizer: ChatTokenizer, grammars: Grammars, name: str
) -> None:
    checker = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs comes with schemathesis").validator_for(
        SCHEMAS[name], validate_formats=True
    )
    rows = [asked(tokenizer, grammars, SCHEMAS[name], seed=seed) for seed in range(8)]
    run(model, tokenizer, rows)
    answers = [json.loads(row.text) for row in rows]
    assert [row.finish for row in rows] == ["stop"] * 8
    assert all(checker.is_valid(answer) for answer in answers), answers
    assert len({row.text for row in rows}) > 1, "temperature 1 draws different ones"


def test_any_object_is_json_until_the_tokens_run_out(model: Any, tokenizer: ChatTokenizer, grammars: Grammars) -> None:
    """Unbounded strings of a random model rarely end: a cut answer says `length` and is the beginning of an object."""
    rows = [asked(tokenizer, grammars, {"type": "object"}, max_new_tokens=40, seed=seed) for seed in range(12)]
    run(model, tokenizer, rows)
    assert {row.finish for row in rows} == {"stop", "length"}
    assert all(isinstance(json.loads(row.text), dict) for row in rows if row.finish == "stop")
    assert all(row.text.startswith("{") and len(row.output_ids) == 40 for row in rows if row.finish == "length")


def test_the_answer_ends_by_itself_where_nothing_can_follow(
    model: Any, tokenizer: ChatTokenizer, grammars: Grammars
) -> None:
    """No end token is asked for behind a closed object; behind a number, which could go on, one is."""
    (closed, number) = rows = [
        asked(tokenizer, grammars, {"const": {"a": 1}}),
        asked(tokenizer, grammars, {"type": "integer", "minimum": 1, "maximum": 999_999_999}, seed=3),
    ]
    run(model, tokenizer, rows)
    assert json.loads(closed.text) == {"a": 1} and tokenizer.decode(closed.output_ids) == closed.text
    assert 1 <= int(number.text) <= 999_999_999 and number.finish == "stop"


@pytest.mark.parametrize("kind", [kind for kind in vocabularies.KINDS if kind != "sentence_piece"])
def test_every_tokenizer_writes_chinese_json_and_ends_it_only_when_it_is_whole(kind: str, tmp_path: Path) -> None:
    tokenizer = vocabularies.named(kind, tmp_path)
    hidden = sorted(tokenizer.token_bytes.hidden - tokenizer.end_ids)
    (end, *_) = ends = sorted(tokenizer.end_ids)
    text = '{"城市": "上海，浦东😀", "备注": "药é", "n": 12}'
    schema = {"type": "object", "properties": {"城市": {"type": "string"}, "备注": {}, "n": {"type": "integer"}}}
    path = Grammars(tokenizer).constraint(json.dumps(schema, ensure_ascii=False))
    size = len(tokenizer.token_bytes.pieces) + 30  # models pad their vocabulary
    for token in tokenizer.encode(text):
        logits = restricted(path, size)
        assert logits[token] == 0, (token, tokenizer.decode([token]))
        assert logits[end] == -torch.inf and not path.is_over
        assert (logits[hidden] == -torch.inf).all() and (logits[-30:] == -torch.inf).all()
        path.accept(token)
    logits = restricted(path, size)
    assert path.is_over and (logits == 0).nonzero().flatten().tolist() == ends
    path.accept(end)


@pytest.mark.parametrize("schema", [{"type": "object"}, {"const": {"中药": "no"}}], ids=["free", "forced"])
def test_a_sentence_piece_tokenizer_writes_it_too(schema: Any) -> None:
    """Without the blank that its own encoding puts in front of every text."""
    tokenizer = vocabularies.sentence_piece()
    path = Grammars(tokenizer).constraint(json.dumps(schema))
    blank, *ids = tokenizer.encode('{"中药":"no"}')
    assert tokenizer.token_bytes.of(blank) == b" " and restricted(path, 400)[blank] == -torch.inf
    for token in ids:
        assert restricted(path, 400)[token] == 0, tokenizer.token_bytes.of(token)
        path.accept(token)
    assert path.is_over


def restricted(path: Any, size: int) -> Tensor:
    logits = torch.zeros(size)
    path.restrict(logits)
    return logits


def test_lone_surrogates_and_endless_blanks_cannot_come(tokenizer: ChatTokenizer, grammars: Grammars) -> None:
    path = grammars.constraint('{"type": "object"}')
    for token in tokenizer.encode('{"a\\'):
        path.accept(token)
    assert restricted(path, 259)[tokenizer.encode("u")] == -torch.inf
    path = grammars.constraint('{"type": "object"}')
    for token in tokenizer.encode("{" + 64 * " "):
        path.accept(token)
    assert restricted(path, 259)[tokenizer.encode(" ")] == -torch.inf


def test_rows_without_a_schema_answer_as_if_they_were_alone(
    model: Any, tokenizer: ChatTokenizer, grammars: Grammars
) -> None:
    greedy = {"temperature": 0.0, "ignore_end": True, "max_new_tokens": 30}
    drawn = {"temperature": 1.0, "ignore_end": True, "max_new_tokens": 30, "seed": 5}
    alone = [asked(tokenizer, grammars, None, **how) for how in (greedy, drawn)]
    for row in alone:
        run(model, tokenizer, [row])
    beside = [asked(tokenizer, grammars, None, **how) for how in (greedy, drawn)]
    forms = [asked(tokenizer, grammars, SCHEMAS[name], seed=seed) for seed, name in enumerate(list(SCHEMAS)[:6])]
    run(model, tokenizer, [forms[0], beside[0], *forms[1:3], beside[1], *forms[3:]])
    assert [row.output_ids for row in beside] == [row.output_ids for row in alone]
    assert [row.finish for row in forms] == ["stop"] * 6


def test_log_probabilities_are_the_models_own(model: Any, tokenizer: ChatTokenizer, grammars: Grammars) -> None:
    """Not those of what the schema leaves over, and not those of the temperature: a full pass without a cache says the
    same."""
    row = asked(tokenizer, grammars, ITEM, logprobs=3, temperature=1.7)
    run(model, tokenizer, [row])
    with torch.inference_mode():
        ids = torch.tensor([[*row.prompt_ids, *row.output_ids]])
        logits = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].log_softmax(-1)
    found = torch.tensor([one.logprob for one in row.logprobs[: len(row.output_ids)]])
    expected = logits[torch.arange(len(row.output_ids)), row.output_ids]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    for place, one in enumerate(row.logprobs[: len(row.output_ids)]):
        values = logits[place].topk(3).values
        torch.testing.assert_close(torch.tensor([value for _, value in one.top]), values, atol=1e-4, rtol=0)


class Failing:
    """A constraint that fails at its third token."""

    is_over = False

    def __init__(self) -> None:
        self.left = 2

    def restrict(self, logits: Tensor) -> None:
        if not self.left:
            raise ConstraintFault("too large")

    def accept(self, token: int) -> None:
        self.left -= 1


def test_a_constraint_that_fails_ends_its_own_row_only(
    model: Any, tokenizer: ChatTokenizer, grammars: Grammars
) -> None:
    other, alone = (asked(tokenizer, grammars, None, max_new_tokens=9, ignore_end=True) for _ in range(2))
    failing = asked(tokenizer, grammars, None)
    failing.constraint = Failing()
    run(model, tokenizer, [failing, other])
    run(model, tokenizer, [alone])
    assert (failing.fault, failing.finish, len(failing.output_ids)) == ("too large", "cancelled", 2)
    assert other.output_ids == alone.output_ids and other.finish == "length"


def test_a_token_that_no_grammar_takes_is_a_fault(grammars: Grammars, tokenizer: ChatTokenizer) -> None:
    path = grammars.constraint('{"type": "object"}')
    (row,) = [Request([1], Sampling())]
    row.constraint = path
    with pytest.raises(ConstraintFault, match="grammar"):
        path.accept(tokenizer.encode("x")[0])
    next_tokens([row], torch.zeros(1, 259))
    assert row.fault and row.cancelled


@pytest.mark.parametrize(
    ("schema", "place", "reason"),
    [
        ({"type": "objekt"}, "", "Invalid type: objekt"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "properties.a", 'Unimplemented keys: ["not"]'),
        (
            {"type": "array", "items": {"properties": {"名": {"type": "string", "format": "color"}}}},
            "items.properties.名",
            "Unknown format: color",
        ),
        (
            {"$defs": {"x": {"type": "array", "uniqueItems": True}}, "properties": {"a": {"$ref": "#/$defs/x"}}},
            "properties.a",
            "uniqueItems",
        ),
        ({"anyOf": [{"type": "null"}, {"type": "string", "pattern": "(?=a)"}]}, "anyOf[1]", "look-ahead"),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 1}}, "required": ["a"]},
            "properties.a",
            "minimum",
        ),
        ({"type": "object", "required": ["b"], "additionalProperties": False}, "", "'b' is unsatisfiable"),
        ({"oneOf": [{"type": "string"}, {"type": "string", "minLength": 3}]}, "", "write 'anyOf'"),
        ({"$ref": "https://example.com/schema.json"}, "", "does not fetch"),
        ({"$ref": "#/nowhere"}, "", "does not exist"),
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, "", "uniqueItems"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_its_place(
    grammars: Grammars, schema: Any, place: str, reason: str
) -> None:
    with pytest.raises(SchemaRefused) as caught:
        grammars.constraint(json.dumps(schema))
    assert caught.value.where == place and reason in caught.value.problem
    assert "coerce" not in caught.value.problem and "\n" not in caught.value.problem


def test_a_schema_that_is_nested_too_deeply_is_refused(grammars: Grammars) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaRefused, match="recursion limit"):
        grammars.constraint(json.dumps(schema))


def test_without_the_library_the_way_to_install_it_is_named(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constraint, "find_spec", lambda name: None if name == "llguidance" else util.find_spec(name))
    with pytest.raises(MissingExtraError, match=r"llguidance[\s\S]*pip install 'tunewright\[serve\]'"):
        Grammars(tokenizer).constraint('{"type": "object"}')
