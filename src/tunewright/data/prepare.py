"""One row's way through the stage: recognised, filtered, typed, repaired by the rules, proven, checked for twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.chat import Conversation, Message
from tunewright.core.registry import PluginOptions
from tunewright.data.config import RULES
from tunewright.data.draft import Draft, RowRule, metadata_value
from tunewright.data.findings import Finding, Note, Rejection, excerpt, locate, worst_action
from tunewright.data.formats.recognise import Recognised, build, recognise
from tunewright.data.reading.rows import Row, source_text
from tunewright.data.reading.strict_json import Parsed, parse
from tunewright.data.rules.roles import check_targets
from tunewright.data.splits.assign import Member, message_digest, question_digest
from tunewright.data.tokens.check import RowTokens, TokenCheck


@dataclass(frozen=True)
class Usable:
    """A row that goes on. tokens: None where no model was given."""

    conversation: Conversation
    member: Member
    tokens: RowTokens | None


@dataclass(frozen=True)
class Outcome:
    """What became of a row: exactly one of four counts. `usable` is there for kept and repaired rows."""

    action: Literal["kept", "repaired", "quarantined", "filtered"]
    findings: tuple[Finding, ...] = ()
    usable: Usable | None = None


@dataclass(frozen=True)
class _Ready:
    usable: Usable
    notes: tuple[Note, ...]


class Preparation:
    """The settings of a run and its memory of messages seen."""

    def __init__(
        self,
        rules: Sequence[RowRule],
        *,
        tokens: TokenCheck | None = None,
        keep: Mapping[str, Sequence[str]] | None = None,
        system: str | None = None,
        group_by: str | None = None,
    ) -> None:
        self._rules, self._tokens = rules, tokens
        self._keep, self._system, self._group_by = dict(keep or {}), system, group_by
        self._seen: dict[tuple[str, str], str] = {}

    def prepare(self, row: Row, *, pool: str) -> Outcome:
        """Decides on `row`. Duplicates are looked for among the rows of the same `pool`;
        only those of the shared pool are taken out."""
        content = row.content
        if isinstance(content, Parsed) and isinstance(original := source_text(content.value), str):
            inner = parse(original, line=row.place.line)
            content = inner if isinstance(inner, Rejection) else Parsed(inner.value, (*content.notes, *inner.notes))
        if isinstance(content, Rejection):
            return _quarantined(row, (), content)
        found = recognise(content.value)
        if isinstance(found, Rejection):
            return _quarantined(row, content.notes, found)
        if not self._wanted(found):
            return Outcome("filtered")
        ready = self._ready(row, found, pool)
        if isinstance(ready, Rejection):
            return _quarantined(row, (*content.notes, *found.notes), ready)
        findings = locate(row.place, (*content.notes, *ready.notes))
        return Outcome(worst_action(findings), tuple(findings), ready.usable)

    def _wanted(self, found: Recognised) -> bool:
        return all(metadata_value(found.metadata, key) in values for key, values in self._keep.items())

    def _ready(self, row: Row, found: Recognised, pool: str) -> _Ready | Rejection:
        draft = self._repaired(found)
        if isinstance(draft, Rejection):
            return draft
        conversation = Conversation(id=row.id, messages=draft.turns, metadata=draft.metadata)
        member = Member(
            message_digest(conversation),
            question_digest(conversation),
            metadata_value(draft.metadata, self._group_by) if self._group_by else None,
        )
        twin = self._seen.get((pool, member.digest), row.id)
        repeated = Rejection("DUPLICATE", f"the same messages as {twin}", excerpt(conversation.reference))
        if twin != row.id and pool == "shared":
            return repeated
        tokens = self._tokens.measure(conversation) if self._tokens else None
        if isinstance(tokens, Rejection):
            return tokens
        notes = self._tokens.notes(conversation) if self._tokens else []
        self._seen.setdefault((pool, member.digest), row.id)
        if twin != row.id:  # a split that is given as a file stays as it is: published test sets hold repeats
            notes = [*notes, Note(repeated.code, "kept", repeated.reason, repeated.excerpt)]
        return _Ready(Usable(conversation, member, tokens), (*draft.notes, *notes))

    def _repaired(self, found: Recognised) -> Draft | Rejection:
        draft = build(found)
        for rule in self._rules:
            if isinstance(draft, Rejection):
                return draft
            draft = rule.apply(draft)
        if isinstance(draft, Rejection):
            return draft
        if self._system and draft.turns and draft.turns[0].role != "system":
            draft = draft.changed([Message(role="system", content=self._system), *draft.turns])
        return check_targets(draft)


def _quarantined(row: Row, notes: Sequence[Note], rejection: Rejection) -> Outcome:
    return Outcome("quarantined", tuple(locate(row.place, (rejection.as_note(), *notes))))


def rules_of(chosen: Sequence[PluginOptions]) -> list[RowRule]:
    """The plug-ins that the project file chose, in its order."""
    return [RULES.target(options.name)(options) for options in chosen]
