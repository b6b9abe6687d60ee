"""Which artifact was made from which: the manifests' inputs, followed by hash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tunewright.core import files, manifest
from tunewright.core.errors import ArtifactError
from tunewright.core.manifest import InputRef, Manifest
from tunewright.core.runs import PLAN, STAGES, Workspace

TRAINED = ("train", "validation")
"""Splits whose rows decide weights: by their gradients, or by choosing the checkpoint."""


@dataclass(frozen=True)
class Node:
    """An artifact's folder. manifest: None while it is unfinished or damaged; sha256: of its manifest, '' then."""

    stage: str
    path: Path
    name: str
    inputs: tuple[InputRef, ...]
    manifest: Manifest | None
    sha256: str

    @property
    def state(self) -> str:
        """'passed', 'failed' or 'unfinished'."""
        if self.manifest is None:
            return "unfinished"
        return "passed" if self.manifest.passed else "failed"


def nodes(workspace: Workspace) -> list[Node]:
    """Every artifact folder of the project, in the order of the stages, oldest first; unfinished ones too, since they
    may hold rows."""
    return [_node(workspace, stage, path) for stage in STAGES for path in workspace.directories(stage)]


def _node(workspace: Workspace, stage: str, path: Path) -> Node:
    name = workspace.relative(path)
    try:
        found = manifest.read(path)
    except ArtifactError:
        return Node(stage, path, name, _planned(path), None, "")
    return Node(stage, path, name, found.inputs, found, files.sha256(path / manifest.NAME))


def _planned(path: Path) -> tuple[InputRef, ...]:
    try:
        plan = json.loads((path / PLAN).read_text(encoding="utf-8"))
        return tuple(InputRef.model_validate(entry) for entry in plan["inputs"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return ()


def roots(every: Sequence[Node], node: Node) -> list[Node]:
    """The data artifacts that `node` was made from, directly or not."""
    made_from = _ancestors(every, node)
    return [one for one in every if one.stage == "data" and one.path in made_from]


def _ancestors(every: Sequence[Node], node: Node) -> set[Path]:
    by_hash = {one.sha256: one for one in every if one.sha256}
    found: set[Path] = set()
    pending = [node]
    while pending:
        for reference in pending.pop().inputs:
            source = by_hash.get(reference.sha256)
            if source is not None and source.path not in found:
                found.add(source.path)
                pending.append(source)
    return found


def influence(stage: str, splits: Iterable[str]) -> str:
    """What rows in these splits of its data artifact mean for an artifact of `stage`; '' where they mean nothing."""
    inside = set(splits)
    trained = [split for split in TRAINED if split in inside]
    if stage == "train":
        if "train" in inside:
            return "its weights were trained with the row"
        return "the row was in its validation loss, which chose the checkpoint" if trained else ""
    if stage == "report":
        return "made from artifacts that the row is in"
    tested = {
        "evaluate": "its scores count the row",
        "quantize": "its table was measured with the test split that the row is in",
        "chain": "its answers may include the row's",
        "serve": "its self-measurement may have asked the row",
    }
    parts = [f"its model was trained with the row ({' and '.join(trained)} split)"] if trained else []
    parts += [tested[stage]] if "test" in inside else []
    return "; ".join(parts)
