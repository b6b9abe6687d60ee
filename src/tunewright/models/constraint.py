"""Answers that must be JSON of a given schema: which tokens may come next, from the library llguidance.

The library turns the schema into a grammar over bytes; what is ours is the vocabulary it works on (token_bytes), the
rule that an end token may come only where the JSON is complete, and the refusal of what it cannot enforce.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tunewright.core.errors import MissingExtraError, TunewrightError
from tunewright.models.request import ConstraintFault
from tunewright.models.token_bytes import joined
from tunewright.models.tokens import ChatTokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_BLANKS = r"[\x20\x0A\x0D\x09]{1,64}"
"""Between two parts of the JSON. Bounded: a model that likes blanks would never come to an end."""
_OPTIONS: Any = {
    "lenient": False,
    "coerce_one_of": False,
    "whitespace_pattern": _BLANKS,
    "json_allowed_escapes": 'nrbtf\\"',
}
"""`\\u` is left out: half of a pair would be no text, and every character can stand for itself."""
_MOST_TRIES, _MOST_TRIED = 1000, 10_000_000
"""Compilations, and characters of all of them, that the search for a fault's place may cost."""
_MARK = "\x02"
_UNSATISFIABLE = "Unsatisfiable schema"
"""How llguidance begins to say that a part inside allows nothing."""
_INSIDE = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


class SchemaRefused(TunewrightError):
    """The JSON schema cannot be enforced. `where`: the part of it, such as `properties.name`; empty for the whole."""


class JsonConstraint:
    """One answer's way through a grammar. Belongs to the thread that generates."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[int], words: int) -> None:
        """ends: the ids that end an answer; words: ids of the vocabulary."""
        self._matcher, self._ends, self._words = matcher, sorted(ends), words

    def restrict(self, logits: Tensor) -> None:
        """See `Constraint`. logits: [V]; V may be larger than the vocabulary."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        known = min(self._words, len(logits))
        allowed = np.zeros(len(logits), np.bool_)
        allowed[:known] = np.unpackbits(bits, count=known, bitorder="little")
        allowed[[end for end in self._ends if end < len(logits)]] = self._matcher.is_accepting()
        if self._matcher.is_error() or not allowed.any():
            raise ConstraintFault(self._matcher.get_error() or "no token may come next")
        logits.masked_fill_(torch.from_numpy(~allowed).to(logits.device), float("-inf"))

    def accept(self, token: int) -> None:
        """See `Constraint`."""
        if token not in self._ends and not self._matcher.consume_token(token):
            raise ConstraintFault(self._matcher.get_error())

    @property
    def is_over(self) -> bool:
        """See `Constraint`."""
        return self._matcher.is_stopped() and not self._matcher.is_error()


class Grammars:
    """Constraints over one tokenizer. What is made once (about a second for 100,000 tokens) is made on first use; any
    thread may ask."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._made: LLTokenizer | None = None

    def constraint(self, schema: str) -> JsonConstraint:
        """For one answer. schema: a JSON schema (2020-12) as text. Raises as `check_schema`, and BytesUnknown."""
        check_schema(schema)
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False)  # a fault's text goes into no log with content
        matcher = LLMatcher(self._vocabulary(), _grammar(json.loads(schema)), log_level=0, limits=limits)
        if matcher.is_error():
            raise SchemaRefused(_worded(matcher.get_error()))
        return JsonConstraint(matcher, self._tokenizer.end_ids, len(self._tokenizer.token_bytes.pieces))

    def _vocabulary(self) -> LLTokenizer:
        from llguidance import LLTokenizer

        with self._lock:
            if self._made is None:
                self._made = LLTokenizer(_Words(self._tokenizer), slices=LLTokenizer.json_slices())  # type: ignore[arg-type]
            return self._made


class _Words:
    """A vocabulary in the form that llguidance takes instead of a tokenizer's file: its own reading of one is wrong
    where byte fallback and byte level meet. Its end token is one behind the vocabulary, so that ours are never text."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        known = tokenizer.token_bytes
        self._tokenizer, self._known = tokenizer, known
        self.tokens = [*known.pieces, b""]
        self.eos_token_id = len(known.pieces)
        self.special_token_ids = sorted(known.hidden | tokenizer.end_ids | {self.eos_token_id})

    def __call__(self, text: str) -> list[int]:
        """The ids of a text that the grammar leaves no choice about. Some tokenizers put a blank in front of every
        text: behind a mark there is none."""
        ids, wanted = self._tokenizer.encode(text), text.encode()
        if joined(self._known, ids) == wanted:
            return ids
        ids = self._tokenizer.encode(_MARK + text)
        while ids and len(joined(self._known, ids)) > len(wanted):
            ids = ids[1:]
        return ids if joined(self._known, ids) == wanted else self._spelled(wanted)

    def _spelled(self, wanted: bytes) -> list[int]:
        """Byte by byte: right, though no tokenizer would write it so."""
        single = {piece: token for token, piece in enumerate(self._known.pieces) if len(piece) == 1}
        return [single[wanted[place : place + 1]] for place in range(len(wanted))]


def check_schema(schema: str) -> None:
    """Raises SchemaRefused for a schema that cannot be enforced, MissingExtraError without the library."""
    if find_spec("llguidance") is None:
        raise MissingExtraError(
            "answers of a JSON schema need the library 'llguidance', which is not installed",
            where="response_format",
            fix="pip install 'tunewright[serve]'",
        )
    given = json.loads(schema)
    if why := _fault(given):
        place, why = _place(given, why)
        raise SchemaRefused(_worded(why), where=".".join(place))


def _grammar(schema: Any) -> str:
    """Raises ValueError for what is no schema at all."""
    from llguidance import LLMatcher

    return LLMatcher.grammar_from_json_schema(json.dumps(schema, ensure_ascii=False), overrides=_OPTIONS)


def _fault(schema: Any) -> str:
    """Why there is no grammar for it; empty when there is one."""
    from llguidance import LLMatcher

    try:
        return LLMatcher.validate_grammar(_grammar(schema))
    except ValueError as error:
        return str(error)


def _place(schema: Any, why: str) -> tuple[list[str], str]:
    """The deepest part of a refused schema that is refused by itself for the same reason, and that reason."""
    place: list[str] = []
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    tries = min(_MOST_TRIES, _MOST_TRIED // len(json.dumps(schema)))
    while True:
        for step, part in _parts(schema):
            tries -= 1
            inner = _fault({**shared, **part}) if tries > 0 else ""
            if inner and (inner == why or why.startswith(_UNSATISFIABLE)):
                place, schema, why = [*place, *step], part, inner
                break
        else:
            return place, why


def _parts(schema: Any) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """(steps to it, part) of the schemas inside a schema."""
    for key in _INSIDE:
        if isinstance(schema.get(key), dict):
            yield [key], schema[key]
    for key in _LISTS:
        rows = schema.get(key)
        yield from (([f"{key}[{row}]"], part) for row, part in enumerate(rows or ()) if isinstance(part, dict))
    for key in _MAPS:
        named = schema.get(key)
        if isinstance(named, dict):
            yield from (([key, name], part) for name, part in named.items() if isinstance(part, dict))


def _worded(why: str) -> str:
    """The library's reason in one sentence; its options are not ours to offer."""
    if "coerce_one_of" in why:
        return "'oneOf' is enforced only where its parts exclude one another; write 'anyOf'"
    return " ".join(why.split())[:300]
