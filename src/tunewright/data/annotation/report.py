"""What is said of the annotators' labels: report.json, the screen, the gate, and each row's consensus."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from tunewright.core.agreement import MISSING, Coefficient
from tunewright.core.errors import GateError
from tunewright.data.annotation.options import Method, Metric, Scale

SHOWN_ANNOTATORS = 50
_LINES = 10
_NAMES: dict[Metric, str] = {"alpha": "Krippendorff's alpha", "kappa": "kappa", "raw": "raw agreement"}


@dataclass
class Bad:
    """Labels of no known form: why, of how many rows, and the first of them."""

    reason: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Annotator:
    """labels: how many they gave; accuracy: estimated share that is right by the consensus, None without one;
    confusion: {consensus: {given: rows}}."""

    name: str
    labels: int
    accuracy: float | None
    confusion: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Disputed:
    """A row whose labels differ. agreement: share of equal pairs; consensus: None for a tie; probability: of it."""

    id: str
    labels: dict[str, str]
    agreement: float
    consensus: str | None
    probability: float | None


@dataclass(frozen=True)
class AnnotationReport:
    """rows: all; labelled: with a label; double: with two or more; unanimous: of those, all equal; ties: rows whose
    best labels are equal, which get no consensus; labels: [rows] number of the consensus category, -1 = none."""

    rows: int
    labelled: int
    double: int
    unanimous: int
    scale: Scale
    metric: Metric
    seed: int
    categories: tuple[str, ...]
    raw: Coefficient
    kappa: Coefficient
    alpha: Coefficient
    consensus: Method
    converged: bool
    ties: int
    distribution: dict[str, int]
    annotators: tuple[Annotator, ...]
    disputed: tuple[Disputed, ...]
    bad: tuple[Bad, ...]
    ids: tuple[str, ...]
    labels: array[int]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {row_id: position for position, row_id in enumerate(self.ids)}

    def consensus_of(self, row_id: str) -> str | None:
        """The label of a row; None for a tie, a row without labels, or an id that was not measured."""
        position = self._positions.get(row_id)
        number = MISSING if position is None else self.labels[position]
        return None if number == MISSING else self.categories[number]

    def chosen(self, metric: Metric | None = None) -> Coefficient:
        """The coefficient of a metric, by default the configured one."""
        return {"alpha": self.alpha, "kappa": self.kappa, "raw": self.raw}[metric or self.metric]

    def dump(self) -> dict[str, Any]:
        """For report.json. annotators: at most 50, those with the most labels."""
        numbers = ("rows", "labelled", "double", "unanimous", "scale", "metric", "seed", "consensus", "converged")
        return {
            **{name: getattr(self, name) for name in numbers},
            "categories": list(self.categories),
            **{name: getattr(self, name).dump() for name in ("raw", "kappa", "alpha")},
            "ties": self.ties,
            "distribution": self.distribution,
            "annotators": [_dumped(annotator) for annotator in self.annotators[:SHOWN_ANNOTATORS]],
            "annotators_left_out": max(0, len(self.annotators) - SHOWN_ANNOTATORS),
            "disputed": [_dumped(row) for row in self.disputed],
            "bad": [asdict(bad) for bad in self.bad],
            "bad_rows": sum(bad.count for bad in self.bad),
        }

    def table(self) -> list[str]:
        """Lines for the screen."""
        return [
            f"annotation: {self.double:,} of {self.rows:,} rows have two or more labels, of {len(self.annotators):,} "
            f"annotators; all equal in {self.unanimous:,}",
            f"  raw agreement  {self.raw.text}",
            f"  {self._kappa_name:<14} {self.kappa.text}",
            f"  alpha          {self.alpha.text}  (Krippendorff, {self.scale})",
            *self._consensus_lines(),
            *self._disputed_lines(),
            *(f"  not measured: {bad.count:,} row(s), {bad.reason} ({', '.join(bad.examples)})" for bad in self.bad),
        ]

    @property
    def _kappa_name(self) -> str:
        return "Cohen's kappa" if self.kappa.name == "cohen_kappa" else "Fleiss' kappa"

    def _consensus_lines(self) -> list[str]:
        if self.consensus == "none":
            return []
        shares = ", ".join(f"{name} {count:,}" for name, count in list(self.distribution.items())[:_LINES])
        shares += f" and {len(self.distribution) - _LINES:,} more" if len(self.distribution) > _LINES else ""
        moving = "" if self.converged else "; the estimates were still moving"
        lines = [f"  consensus      {self.consensus}: {shares}; {self.ties:,} tie(s) without one{moving}"]
        for annotator in self.annotators[:_LINES]:
            lines.append(f"    {annotator.name}: {annotator.labels:,} labels, {annotator.accuracy:.1%} right by it")
        more = len(self.annotators) - _LINES
        return [*lines, f"    and {more:,} more annotators"] if more > 0 else lines

    def _disputed_lines(self) -> list[str]:
        if not self.disputed:
            return []
        return [
            "  most disputed",
            *(f"    {row.id}: {_listed(row.labels)} -> {row.consensus or 'no consensus'}" for row in self.disputed),
        ]


def _dumped(entry: Annotator | Disputed) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(entry).items()}


def _listed(labels: dict[str, str]) -> str:
    return ", ".join(f"{annotator} {label}" for annotator, label in labels.items())


def refuse_disagreement(
    report: AnnotationReport, min_agreement: float | None, *, metric: Metric | None = None, where: str = ""
) -> None:
    """Raises GateError (exit code 5) when agreement is below `min_agreement`, or cannot be shown; None lets all pass.

    A coefficient that is undefined is no proof of agreement: it does not pass.
    """
    if min_agreement is None:
        return
    named, found = _NAMES[metric or report.metric], report.chosen(metric)
    where = where or "data.annotation.min_agreement"
    if found.value is None:
        raise GateError(
            f"{named} is {found.reason}, so that annotators agree is not shown ({_background(report)})",
            where=where,
            fix=_way_out(report),
        )
    if found.value < min_agreement:
        raise GateError(
            f"{named} is {found.text} over {found.n:,} rows with two or more labels; the limit "
            f"data.annotation.min_agreement is {min_agreement:g} ({_background(report)})",
            where=where,
            fix="settle the most disputed rows of the report with the annotators, then label again",
        )


def _background(report: AnnotationReport) -> str:
    return f"raw agreement {report.raw.text}, {report.unanimous:,} of {report.double:,} rows all equal"


def _way_out(report: AnnotationReport) -> str:
    if not report.double:
        return "have two annotators label the same rows, or set data.annotation.min_agreement: null"
    return "label rows of other categories too, or set data.annotation.metric: raw"


def with_consensus(metadata: dict[str, Any], write_to: str, label: str | None) -> dict[str, Any]:
    """A copy with the consensus under a dotted key such as `metadata.intent`; unchanged for a row without one.

    Objects on the way are made where they are missing; a value that is no object in the way is replaced.
    """
    return metadata if label is None else _set(metadata, write_to.removeprefix("metadata.").split("."), label)


def _set(metadata: dict[str, Any], path: Sequence[str], label: str) -> dict[str, Any]:
    if len(path) == 1:
        return {**metadata, path[0]: label}
    inner = metadata.get(path[0])
    return {**metadata, path[0]: _set(inner if isinstance(inner, dict) else {}, path[1:], label)}
