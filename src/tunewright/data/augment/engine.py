"""Augmentation of the training split: whole conversations reworded turn by turn, checked, numbered, accounted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.registry import PluginOptions
from tunewright.data.augment.augmenter import Augmenter, Text, derived, fraction, language_of
from tunewright.data.augment.options import AugmenterOptions
from tunewright.data.augment.preserve import Fault, changed_meaning
from tunewright.data.augment.registry import AUGMENTERS
from tunewright.data.splits.assign import message_digest, question_digest

BATCH_ROWS = 128
"""Rows whose texts are reworded together: a translation model or an endpoint works on batches."""
_MARK_BYTES = 8
"""Of a digest, kept for every variant: a million of them stay below 100 MB."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A conversation that may join the training split. parent: id of its row; by: the augmenter; n: from 1."""

    conversation: Conversation
    parent: str
    by: str
    n: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """A variant that was not kept, or (rule NO_VARIANT) a row of which none was made. rule: UPPER_SNAKE."""

    parent: str
    by: str
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Working:
    options: AugmenterOptions
    augmenter: Augmenter
    position: int

    @property
    def name(self) -> str:
        return self.options.name


@dataclass(slots=True)
class _Row:
    """A parent and what came of it. numbers: variants a name so far; known: digests of itself and its variants."""

    conversation: Conversation
    known: set[bytes]
    numbers: Counter[str] = field(default_factory=Counter)
    marks: set[bytes] = field(default_factory=set)
    results: list[Variant | Dropped] = field(default_factory=list)


def augment(
    rows: Iterable[Conversation],
    augmenters: Sequence[PluginOptions],
    *,
    seed: int,
    root: Path,
    asked: Collection[bytes] = frozenset(),
) -> Iterator[Variant | Dropped]:
    """Variants of `rows` (the training split) in row order, each followed by those of its next augmenter.

    asked: `question_digest` of the rows of all splits and of test files; a variant that asks what another row asks is
    dropped: it would carry a test question into training, or repeat or contradict a training row. Same rows, options
    and seed give the same variants, as far as a model or an endpoint answers the same. Raises ConfigError (a
    dictionary, a backend), MissingExtraError and ResourceError (an endpoint that does not answer).
    """
    working = [_open(options, root, position) for position, options in enumerate(augmenters)]
    made: set[bytes] = set()
    source = iter(rows)
    while batch := list(islice(source, BATCH_ROWS)):
        states = [_Row(row, {message_digest(row)}) for row in batch]
        for one in working:
            _reword(one, states, seed=seed)
        for state in states:
            yield from _unseen(state, made, asked)


def _open(options: PluginOptions, root: Path, position: int) -> _Working:
    assert isinstance(options, AugmenterOptions), "options of an augmenter extend AugmenterOptions"
    return _Working(options, AUGMENTERS.target(options.name)(options, root), position)


def _reword(one: _Working, states: Sequence[_Row], *, seed: int) -> None:
    """Lets one augmenter work on all texts of a batch and adds what becomes of each row."""
    chosen = [state for state in states if _is_drawn(state.conversation, one, seed)]
    turns = [(state, index) for state in chosen for index in _turns(state.conversation, one.options.roles)]
    texts = [_text(state.conversation, index, one, seed) for state, index in turns]
    wordings = one.augmenter.variants(texts) if texts else []
    assert len(wordings) == len(texts), "an augmenter answers once a text"
    by_row: dict[int, dict[int, list[str]]] = {id(state): {} for state in chosen}
    for (state, index), found in zip(turns, wordings, strict=True):
        by_row[id(state)][index] = found
    for state in chosen:
        _add_variants(state, by_row[id(state)], one)


def _is_drawn(row: Conversation, one: _Working, seed: int) -> bool:
    share = one.options.share
    return share >= 1 or fraction(seed, one.position, one.name, message_digest(row).hex()) < share


def _turns(row: Conversation, roles: Collection[str]) -> list[int]:
    return [index for index, turn in enumerate(row.messages) if turn.role in roles and (turn.content or "").strip()]


def _text(row: Conversation, index: int, one: _Working, seed: int) -> Text:
    content = row.messages[index].content
    assert content is not None
    return Text(content, _language(row, content, one.options.language), derived(seed, one.position, one.name, content))


def _language(row: Conversation, content: str, wanted: str) -> str:
    if wanted.startswith("metadata."):
        return (_value(row.metadata, wanted) or "").lower()
    return language_of(content) if wanted == "auto" else wanted


def _value(metadata: Mapping[str, Any], key: str) -> Any:
    value: Any = metadata
    for part in key.removeprefix("metadata.").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _add_variants(state: _Row, wordings: Mapping[int, Sequence[str]], one: _Working) -> None:
    """The n-th variant takes the n-th wording of every turn; a turn that has none stays as it is."""
    copies = min(max(map(len, wordings.values()), default=0), one.options.copies)
    parent = state.conversation
    if not copies:
        state.results.append(Dropped(parent.id, one.name, "NO_VARIANT", f"{one.name} found nothing to reword"))
    slots = _slots(parent, one.options.slots)
    for copy in range(copies):
        changes = {index: found[copy] for index, found in wordings.items() if copy < len(found)}
        if fault := _fault(parent, changes, one.options, slots):
            state.results.append(Dropped(parent.id, one.name, fault.rule, fault.reason))
            continue
        variant = _changed(parent, changes)
        digest = message_digest(variant)
        if digest in state.known:
            problem = "the variant says what its row or an earlier variant says"
            state.results.append(Dropped(parent.id, one.name, "REPEATED", problem))
            continue
        state.known.add(digest)
        state.numbers[one.name] += 1
        state.results.append(_named(variant, parent, one.name, state.numbers[one.name]))


def _fault(
    parent: Conversation, changes: Mapping[int, str], options: AugmenterOptions, slots: Sequence[str]
) -> Fault | None:
    for index, text in changes.items():
        fault = changed_meaning(
            parent.messages[index].content or "",
            text,
            slots=slots,
            max_length_ratio=options.max_length_ratio,
            min_overlap=options.min_overlap,
        )
        if fault:
            return Fault(fault.rule, f"turn {index + 1}: {fault.reason}")
    return None


def _slots(row: Conversation, keys: Sequence[str]) -> list[str]:
    """Texts that must survive: values under the named metadata keys, and the arguments of the row's tool calls."""
    found: list[str] = []
    for key in keys:
        _leaves(_value(row.metadata, key), found)
    for turn in row.messages:
        for call in turn.tool_calls:
            _leaves(_arguments(call), found)
    return list(dict.fromkeys(found))


def _arguments(call: Mapping[str, Any]) -> Any:
    arguments = (call.get("function") or call).get("arguments")
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _leaves(value: Any, found: list[str]) -> None:
    if isinstance(value, Mapping):
        for inner in value.values():
            _leaves(inner, found)
    elif isinstance(value, list | tuple):
        for inner in value:
            _leaves(inner, found)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        found.append(str(value))


def _changed(parent: Conversation, changes: Mapping[int, str]) -> Conversation:
    turns = tuple(
        turn.model_copy(update={"content": changes[index]}) if index in changes else turn
        for index, turn in enumerate(parent.messages)
    )
    return parent.model_copy(update={"messages": turns})


def _named(variant: Conversation, parent: Conversation, by: str, n: int) -> Variant:
    metadata = {**parent.metadata, "augmented": {"parent": parent.id, "by": by, "n": n}}
    renamed = variant.model_copy(update={"id": f"{parent.id}+{by}{n}", "metadata": metadata})
    return Variant(renamed, parent.id, by, n)


def _unseen(state: _Row, made: set[bytes], asked: Collection[bytes]) -> Iterator[Variant | Dropped]:
    """The results of a row, without variants that ask what another row or a variant of another row asks."""
    own = question_digest(state.conversation)
    for result in state.results:
        if isinstance(result, Dropped):
            yield result
            continue
        question = question_digest(result.conversation)
        is_new = question != own
        mark = (question if is_new else message_digest(result.conversation))[:_MARK_BYTES]
        if is_new and question in asked:
            reason = f"{result.conversation.id} asks what another row asks"
            yield Dropped(result.parent, result.by, "ASKED", reason)
        elif mark in made and mark not in state.marks:
            reason = f"{result.conversation.id} says what a variant of another row says"
            yield Dropped(result.parent, result.by, "REPEATED", reason)
        else:
            made.add(mark)
            state.marks.add(mark)
            yield result


def summary(results: Iterable[Variant | Dropped]) -> dict[str, Any]:
    """For the report: {augmenter: {"variants": n, "dropped": {rule: {"count", "example": {"parent", "reason"}}}}}."""
    book = Summary()
    for result in results:
        book.add(result)
    return book.dump()


class Summary:
    """The same, filled while the results stream by."""

    def __init__(self) -> None:
        self._variants: Counter[str] = Counter()
        self._dropped: dict[str, dict[str, dict[str, Any]]] = {}

    def add(self, result: Variant | Dropped) -> None:
        """Counts one; the first of a rule is its example."""
        dropped = self._dropped.setdefault(result.by, {})
        if isinstance(result, Variant):
            self._variants[result.by] += 1
            return
        example = {"parent": result.parent, "reason": result.reason}
        dropped.setdefault(result.rule, {"count": 0, "example": example})["count"] += 1

    def dump(self) -> dict[str, Any]:
        """Names and rules in alphabetical order."""
        return {
            name: {"variants": self._variants[name], "dropped": dict(sorted(self._dropped[name].items()))}
            for name in sorted(self._dropped)
        }


def input_files(augmenters: Sequence[PluginOptions], root: Path) -> list[Path]:
    """Files that decide what the augmenters make: dictionaries and translation models. They belong to the artifact's
    inputs. Raises ConfigError for one that is not there."""
    found: list[Path] = []
    for options in augmenters:
        target = AUGMENTERS.target(options.name)
        for path in getattr(target, "input_files", lambda *_: [])(options, root):
            if not path.exists():
                raise ConfigError("there is no such file", where=str(path), fix=f"check data.augment ({options.name})")
            found += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return list(dict.fromkeys(found))
