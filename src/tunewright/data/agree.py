"""Labels of several annotators on the usable rows: their agreement, and the label they agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import GateError
from tunewright.data.annotation.labels import label_notes
from tunewright.data.annotation.measure import measure
from tunewright.data.annotation.options import AnnotationConfig
from tunewright.data.annotation.report import AnnotationReport, refuse_disagreement, with_consensus
from tunewright.data.gather import Gathered


def agreement(rows: Gathered, config: AnnotationConfig, *, seed: int) -> AnnotationReport:
    """Measures the labels of all usable rows; labels of no known form are noted with code LABELS."""
    return measure(
        _labels(rows, config),
        scale=config.scale,
        categories=config.categories,
        consensus=config.consensus,
        metric=config.metric,
        seed=seed,
    )


def _labels(rows: Gathered, config: AnnotationConfig) -> Iterator[tuple[str, Any]]:
    for row, row_id in enumerate(rows.ids):
        value: Any = rows.spool.conversation(row).metadata
        for part in config.labels.removeprefix("metadata.").split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        for note in label_notes(value, config.categories):
            rows.account.note(rows.finding(row, note))
        yield row_id, value


def labeller(
    report: AnnotationReport | None, config: AnnotationConfig | None
) -> Callable[[Conversation], Conversation] | None:
    """What writes the consensus into a row's metadata; None where none is to be written."""
    if report is None or config is None or config.write_to is None:
        return None
    write_to = config.write_to

    def labelled(row: Conversation) -> Conversation:
        found = with_consensus(row.metadata, write_to, report.consensus_of(row.id))
        return row.model_copy(update={"metadata": found})

    return labelled


def described(report: AnnotationReport | None, config: AnnotationConfig | None) -> dict[str, Any]:
    """The part of report.json on annotation; refusal: why its gate is not passed."""
    if report is None or config is None:
        return {}
    try:
        refuse_disagreement(report, config.min_agreement)
    except GateError as error:
        return {**report.dump(), "refusal": {"problem": error.problem, "where": error.where, "fix": error.fix}}
    return {**report.dump(), "refusal": None}


def refuse_agreement(described: Mapping[str, Any]) -> None:
    """Raises GateError when the annotators agree too little."""
    if described.get("refusal"):
        refusal = described["refusal"]
        raise GateError(refusal["problem"], where=refusal["where"], fix=refusal["fix"])
