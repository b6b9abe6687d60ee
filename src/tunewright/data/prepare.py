"""One row's way through the stage: recognised, filtered, typed, repaired by the rules, proven by the tokenizer.

A row decides for itself here, so rows can be prepared by several processes; what rows mean to each other
(duplicates, splits, leakage) comes after.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tunewright.core.chat import Conversation, Message
from tunewright.core.erasures import raw_digest
from tunewright.core.registry import PluginOptions
from tunewright.data.config import RULES
from tunewright.data.draft import Draft, Masked, RowRule, SampleRule, metadata_value
from tunewright.data.duplicates.options import NearDuplicateOptions
from tunewright.data.findings import Finding, Note, Rejection, locate, worst_action
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.plain_rows import plain_draft
from tunewright.data.reading.rows import Row
from tunewright.data.rules.forged_turns import ForgedTurns
from tunewright.data.rules.redact import Redact
from tunewright.data.rules.roles import check_targets
from tunewright.data.splits.assign import Member, message_digest, question_digest
from tunewright.data.spool import parsed, row_line
from tunewright.data.tokens.check import RowTokens, TokenCheck


class Usable:
    """A row that goes on. tokens: over all its samples, None where no model was given.

    Between processes it travels as the line that is sealed: that is a third of the work of sending its turns.
    """

    __slots__ = ("_conversation", "_keys", "_line", "member", "tokens")

    def __init__(
        self, conversation: Conversation | None, member: Member, tokens: RowTokens | None, line: bytes = b""
    ) -> None:
        """One of conversation and line is enough."""
        self.member, self.tokens = member, tokens
        self._conversation, self._line = conversation, line
        self._keys: tuple[str, ...] | None = None

    @property
    def conversation(self) -> Conversation:
        """The row's turns and metadata."""
        if self._conversation is None:
            self._conversation = parsed(self._line)
        return self._conversation

    @property
    def line(self) -> bytes:
        """The row as it is sealed."""
        if not self._line:
            self._line = row_line(self.conversation.to_row())
        return self._line

    @property
    def metadata_keys(self) -> tuple[str, ...]:
        """The names in the metadata."""
        return tuple(self.conversation.metadata) if self._keys is None else self._keys

    def __getstate__(self) -> tuple[bytes, Member, RowTokens | None, tuple[str, ...]]:
        return self.line, self.member, self.tokens, self.metadata_keys

    def __setstate__(self, state: tuple[bytes, Member, RowTokens | None, tuple[str, ...]]) -> None:
        self._line, self.member, self.tokens, self._keys = state
        self._conversation = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usable) and self.__getstate__() == other.__getstate__()


@dataclass(slots=True)
class Outcome:
    """What became of a row: exactly one of four counts. `usable` is there for kept and repaired rows."""

    action: Literal["kept", "repaired", "quarantined", "filtered"]
    findings: tuple[Finding, ...] = ()
    usable: Usable | None = None
    tallies: Mapping[str, int] = field(default_factory=dict)
    masked: tuple[Masked, ...] = ()
    format: str = ""

    def with_finding(self, finding: Finding, action: Literal["kept", "quarantined"]) -> Outcome:
        """The same with a finding that only the other rows could tell of."""
        if action == "kept":
            return replace(self, findings=(*self.findings, finding))
        return replace(self, action=action, findings=(finding, *self.findings), usable=None, tallies={}, masked=())


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted and what rows are put together by, from the project file.

    keep: only rows whose metadata value is listed; erased: message digests of rows that were asked to be erased.
    """

    keep: Mapping[str, Sequence[str]] = field(default_factory=dict)
    system: str | None = None
    group_by: str | None = None
    stratify_by: str | None = None
    erased: frozenset[bytes] = frozenset()


class Preparation:
    """The settings of a run."""

    def __init__(
        self,
        rules: Sequence[RowRule | SampleRule],
        *,
        tokens: TokenCheck | None = None,
        selection: Selection,
        is_lenient: bool = False,
        fast: bool = True,
    ) -> None:
        """is_lenient: a row that the template does not take is no fault, since the model is nobody's choice; fast:
        plain rows skip the questions of `formats`, False asks them of every row."""
        self._is_lenient, self._fast = is_lenient, fast
        known = tokens.tokenizer.control_texts_in if tokens else None
        own = [rule.knowing(known) if known and isinstance(rule, ForgedTurns) else rule for rule in rules]
        self._rules = [rule for rule in own if isinstance(rule, RowRule)]
        self._is_private = any(isinstance(rule, Redact) for rule in own)
        self._samplers = [rule for rule in rules if isinstance(rule, SampleRule)]
        self._tokens, self._selection = tokens, selection

    def prepare(self, row: Row) -> Outcome:
        """Decides on `row`; says nothing of duplicates."""
        if self._is_erased(row):
            return self._quarantined(row, (), _ERASED)
        content = row.content
        if isinstance(content, Rejection):
            return self._quarantined(row, (), content)
        plain = plain_draft(content.value) if self._fast else None
        if plain is not None:
            return self._continued(row, content.notes, *plain)
        found = recognise(content.value)
        if isinstance(found, Rejection):
            return self._quarantined(row, content.notes, found)
        if not self._wanted(found.metadata):
            return Outcome("filtered", format=found.format)
        built = build(found)
        if isinstance(built, Rejection):
            return self._quarantined(row, (*content.notes, *found.notes), built)
        return self._continued(row, content.notes, built, found.format, found.notes)

    def _continued(
        self, row: Row, read: tuple[Note, ...], draft: Draft, named: str, found: tuple[Note, ...] = ()
    ) -> Outcome:
        """From the draft of a row on. read, found: notes of the reader, and of finding its format."""
        if not self._wanted(draft.metadata):
            return Outcome("filtered", format=named)
        repaired = self._repaired(draft)
        if isinstance(repaired, Rejection):
            return self._quarantined(row, (*read, *found), repaired)
        return self._outcome(row, repaired, read, named)

    def _is_erased(self, row: Row) -> bool:
        erased = self._selection.erased
        return bool(erased) and row.raw is not None and raw_digest(row.raw) in erased

    def _wanted(self, metadata: Mapping[str, Any]) -> bool:
        keep = self._selection.keep
        return not keep or all(metadata_value(metadata, key) in values for key, values in keep.items())

    def _outcome(self, row: Row, draft: Draft, notes: Sequence[Note], named: str) -> Outcome:
        conversation = Conversation(id=row.id, messages=draft.turns, metadata=draft.metadata)
        samples = samples_of(conversation, draft, self._samplers)
        usable = self._usable(conversation, samples)
        if isinstance(usable, Rejection):
            return self._quarantined(row, (*notes, *draft.notes), usable)
        asks = self._tokens if usable.tokens else None
        proven = [note for sample in samples for note in asks.notes(sample)] if asks else []
        found = (*notes, *draft.notes, *proven)
        if not found:
            return Outcome("kept", (), usable, draft.tallies, draft.masked, named)
        findings = self._located(row, found)
        return Outcome(worst_action(findings), tuple(findings), usable, draft.tallies, draft.masked, named)

    def _usable(self, conversation: Conversation, samples: Sequence[Conversation]) -> Usable | Rejection:
        digest = message_digest(conversation)
        if digest in self._selection.erased:
            return _ERASED
        group_by, stratify_by = self._selection.group_by, self._selection.stratify_by
        member = Member(
            digest,
            question_digest(conversation),
            group=_interned(metadata_value(conversation.metadata, group_by)) if group_by else None,
            stratum=_interned(metadata_value(conversation.metadata, stratify_by)) if stratify_by else None,
        )
        if self._selection.erased and any(message_digest(one) in self._selection.erased for one in samples):
            return _ERASED
        tokens = self._measured(samples)
        return tokens if isinstance(tokens, Rejection) else Usable(conversation, member, tokens)

    def _measured(self, samples: Sequence[Conversation]) -> RowTokens | Rejection | None:
        if self._tokens is None:
            return None
        found: list[RowTokens] = []
        for sample in samples:
            tokens = self._tokens.measure(sample)
            if isinstance(tokens, Rejection):
                return None if tokens.code == "TEMPLATE" and self._is_lenient else tokens
            found.append(tokens)
        return found[0] if len(found) == 1 else _together(found)

    def _quarantined(self, row: Row, notes: Sequence[Note], rejection: Rejection) -> Outcome:
        return Outcome("quarantined", tuple(self._located(row, (rejection.as_note(), *notes))))

    def _located(self, row: Row, notes: Sequence[Note]) -> list[Finding]:
        """The findings; without excerpts where they could show what a rule is there to hide."""
        findings = locate(row.place, notes)
        if self._is_private or any(finding.code in _HIDING for finding in findings):
            return [replace(finding, excerpt="") for finding in findings]
        return findings

    def _repaired(self, draft: Draft) -> Draft | Rejection:
        if self._selection.erased and _digest(draft) in self._selection.erased:
            return _ERASED
        for rule in self._rules:
            repaired = rule.apply(draft)
            if isinstance(repaired, Rejection):
                return repaired
            draft = repaired
        system = self._selection.system
        if system and draft.turns and draft.turns[0].role != "system":
            draft = draft.changed([Message(role="system", content=system), *draft.turns])
        return check_targets(draft)


def _digest(draft: Draft) -> bytes:
    return message_digest(Conversation.model_construct(id="", messages=draft.turns, metadata={}))


def _interned(value: str | None) -> str | None:
    """Many rows share a group: one text for all of them."""
    return None if value is None else sys.intern(value)


def samples_of(conversation: Conversation, draft: Draft, samplers: Sequence[SampleRule]) -> tuple[Conversation, ...]:
    """The conversations that are trained of a row; several get the ids `ROW~1`, `ROW~2` ..."""
    drafts = [draft]
    for sampler in samplers:
        drafts = [sample for one in drafts for sample in sampler.samples(one)]
    if len(drafts) == 1:
        turns = drafts[0].turns
        return (
            conversation if turns == conversation.messages else conversation.model_copy(update={"messages": turns}),
        )
    return tuple(
        conversation.model_copy(update={"id": f"{conversation.id}~{number}", "messages": sample.turns})
        for number, sample in enumerate(drafts, start=1)
    )


def _together(parts: Sequence[RowTokens]) -> RowTokens:
    """The numbers of a row that has several samples."""
    sums = Counter[str]()
    for part in parts:
        sums.update({name: getattr(part, name) for name in _SUMMED})
    return RowTokens(
        **{name: sums[name] for name in _SUMMED},
        longest=max(part.longest for part in parts),
        bos=max(part.bos for part in parts),
        breaches=tuple(dict.fromkeys(breach for part in parts for breach in part.breaches)),
    )


_ERASED = Rejection("ERASED", "this row is on the project's erasure list")
_HIDING = {"PII", "SECRET", "ERASED"}
_SUMMED = ("sequences", "tokens", "trained", "end_tokens", "cut", "control_texts")


def rules_of(chosen: Sequence[PluginOptions]) -> list[RowRule | SampleRule]:
    """The plug-ins that the project file chose, in its order; near duplicates are not a matter of one row."""
    own = [options for options in chosen if not isinstance(options, NearDuplicateOptions)]
    return [RULES.target(options.name)(options) for options in own]


def samplers_of(chosen: Sequence[PluginOptions]) -> list[SampleRule]:
    """Those of the plug-ins that make several samples of a row."""
    return [rule for rule in rules_of(chosen) if isinstance(rule, SampleRule)]
