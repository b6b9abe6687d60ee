"""The tables of the case studies in examples/: base against tuned, from a finished evaluation.

    python benchmarks/cases.py examples/education/runs/cmath-zh/evaluate/0001 [--math-by metadata.reasoning_step]
        [--intents metadata.intents]

Prints one Markdown line a metric. `--math-by KEY` adds `math` by class (rows whose KEY is 1: arithmetic; more: word
problems) and by every value of KEY; `--intents KEY` adds the micro-F1 of several labels a question, which the answer
has as a list under "intents". Generates nothing and asserts nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunewright.core.runs import Artifact
from tunewright.core.scoring import Difference, Measured, Sample, Score, compare, to_score
from tunewright.evaluate.metrics.counts import ratio
from tunewright.evaluate.metrics.json_answers import object_in
from tunewright.evaluate.metrics.math import Math
from tunewright.evaluate.metrics.options import MathOptions
from tunewright.evaluate.rows import metadata_at, metadata_value

FEWEST = 10
"""A class of fewer rows is left out: nothing can be shown with them."""
CLASS_KEYS = ("math.accuracy", "math.step_completeness")
HEAD = "| metric | n | base | tuned | difference | p |\n| --- | --- | --- | --- | --- | --- |"


def main() -> None:
    """Prints the table of one evaluation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path, help="folder of a finished evaluate stage")
    parser.add_argument("--math-by", help="metadata key of the number of steps")
    parser.add_argument("--intents", help="metadata key of the list of right labels")
    arguments = parser.parse_args()
    artifact = Artifact.open(arguments.evaluation)
    scores = artifact.json("scores.json")
    print(HEAD)
    for key, row in scores["paired"].items():
        before, after = (Score.model_validate(scores[name][key]) for name in ("base", "tuned"))
        print(line(key, before, after, difference(row)))
    base, tuned = (answers(artifact, name) for name in ("base", "tuned"))
    if arguments.math_by:
        for name, indices in classes(tuned, arguments.math_by):
            sides = [[side[index] for index in indices] for side in (base, tuned)]
            report(sides, by_class, name, seed=scores["seed"])
    if arguments.intents:
        report([base, tuned], lambda rows: [intents(rows, arguments.intents)], "", seed=scores["seed"])


def difference(row: dict[str, Any]) -> Difference:
    """A stored difference with its p value corrected for the number of metrics."""
    return Difference.model_validate({**row, "p": row["p_holm"]})


def answers(artifact: Artifact, system: str) -> list[Sample]:
    """What one system answered."""
    return [
        Sample(
            id=row["id"],
            prompt=row["prompt"],
            reference=row["reference"],
            prediction=row[system],
            metadata=row["metadata"],
        )
        for row in artifact.jsonl("samples.jsonl")
    ]


def classes(rows: Sequence[Sample], key: str) -> list[tuple[str, list[int]]]:
    """Arithmetic and word problems, then every value of `key`; indices of rows."""
    values = [metadata_value(row.metadata, key) or "" for row in rows]
    groups = [("arithmetic (one step)", [i for i, value in enumerate(values) if value == "1"])]
    groups += [("word problems (two steps or more)", [i for i, value in enumerate(values) if value not in ("", "1")])]
    for wanted in sorted(set(values)):
        groups.append((f"{key} {wanted}", [i for i, value in enumerate(values) if value == wanted]))
    return [(name, indices) for name, indices in groups if len(indices) >= FEWEST]


def report(
    sides: Sequence[Sequence[Sample]], measure: Callable[[Sequence[Sample]], list[Measured]], name: str, *, seed: int
) -> None:
    """Prints every metric of `measure` over base and tuned, p not corrected."""
    for before, after in zip(*(measure(side) for side in sides), strict=True):
        label = f"{before.metric}, {name}" if name else before.metric
        found = compare(after, before, seed=seed)
        print(line(label, to_score(before, seed=seed), to_score(after, seed=seed), found))


def by_class(rows: Sequence[Sample]) -> list[Measured]:
    """What `math` says of right answers and steps."""
    return [found for found in Math(MathOptions()).measure(rows) if found.metric in CLASS_KEYS]


def intents(rows: Sequence[Sample], key: str) -> Measured:
    """`intents.f1`: micro-F1 over labels, in any order; an answer without a JSON list of labels has none."""
    parts = []
    for row in rows:
        right = set(metadata_at(row.metadata, key) or [])
        said = (object_in(row.prediction) or {}).get("intents")
        found = {label for label in said if isinstance(label, str)} if isinstance(said, list) else set()
        parts.append((2.0 * len(right & found), float(len(right) + len(found))))
    return ratio("intents.f1", 1, parts, signature="labels as sets")


def line(name: str, base: Score, tuned: Score, found: Difference) -> str:
    """One line of the table."""
    sides = [f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]" for score in (base, tuned)]
    shown = "no difference shown" if found.p >= 0.05 or not found.difference else f"{found.difference:+.3f}"
    return f"| {name} | {tuned.n} | {sides[0]} | {sides[1]} | {shown} | {found.p:.2g} |"


if __name__ == "__main__":
    main()
