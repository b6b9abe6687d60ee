"""What rows mean to each other: near duplicates among all rows that can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Any

from tunewright.core.registry import PluginOptions
from tunewright.data.collection import seldom_collected
from tunewright.data.duplicates.conflicts import find_conflicts
from tunewright.data.duplicates.options import NearDuplicateOptions
from tunewright.data.duplicates.rule import NearDuplicate
from tunewright.data.findings import Action
from tunewright.data.gather import Gathered, quarantine_row, write_line
from tunewright.data.splits.assign import clustered
from tunewright.data.spool import Texts, row_line


@seldom_collected()
def settle_near(
    rows: Gathered, options: NearDuplicateOptions | None, *, seed: int, quarantine: IO[Any]
) -> tuple[Gathered, dict[str, Any]]:
    """Takes all but the first row of each cluster out of the shared pool, or only notes them (action report). Returns
    the rows that go on and the part of report.json on near duplicates, empty where none were looked for.

    Rows that stay know their cluster, so that one split gets them together. A split that is given as a file stays as
    it is; what it shares with the training split is the leakage table's matter.
    """
    if options is None:
        return rows, {}
    shared = rows.rows_of("shared")
    texts, ids = Texts(rows.spool, shared), [rows.ids[row] for row in shared]
    near = NearDuplicate(options).clusters(texts, seed=seed)
    taken_out: set[int] = set()
    cluster_of = {shared[position]: cluster for position, cluster in near.cluster_of().items()}
    rows.members = clustered(rows.members, cluster_of)
    for position in sorted(near.twins):
        row = shared[position]
        rejection = near.rejection(position, ids, rows.spool.conversation(row).reference)
        finding = rows.finding(row, replace(rejection.as_note(), action=_ACTION[options.action]))
        if finding.action == "kept":
            rows.account.note(finding)
            continue
        taken_out.add(row)
        rows.account.take_out(rows.sources[row], rows.actions[row], finding)
        write_line(quarantine, quarantine_row(rows.ids[row], _raw(rows, row), [finding]))
    report = near.dump(texts, ids)
    if not taken_out:
        return rows, report
    return rows.only([row for row in range(len(rows.ids)) if row not in taken_out]), report


def near_options(rules: Sequence[PluginOptions]) -> NearDuplicateOptions | None:
    """The rule near_duplicate among the chosen ones."""
    return next((options for options in rules if isinstance(options, NearDuplicateOptions)), None)


def note_conflicts(rows: Gathered) -> None:
    """Notes the rows that answer a question otherwise than an earlier row."""
    for row, note in find_conflicts([member.question for member in rows.members], rows.spool.conversation):
        rows.account.note(rows.finding(row, note))


_ACTION: dict[str, Action] = {"quarantine": "quarantined", "report": "kept"}


def _raw(rows: Gathered, row: int) -> str:
    """The repaired row, as a source would hold it: its own text was not kept."""
    sealed = rows.spool.conversation(row).to_row()
    return row_line({name: value for name, value in sealed.items() if name != "id"}).decode()
