"""How often the same test rows were looked at: who chooses among many runs by one test set has tuned on it."""

from __future__ import annotations

from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Workspace

TEST = "test.jsonl"
FACT = "test_sha256"


def test_sha256(data: Artifact) -> str:
    """The hash of a data artifact's test split, as its manifest has it."""
    return next((record.sha256 for record in data.manifest.files if record.path == TEST), "")


def earlier(workspace: Workspace, data: Artifact) -> list[Artifact]:
    """Finished evaluations in this workspace over the same test rows, passed or not, oldest first."""
    mark = test_sha256(data)
    return [found for found in workspace.finished("evaluate") if mark and _used(workspace, found) == mark]


def _used(workspace: Workspace, evaluated: Artifact) -> str:
    """The test split of an evaluation: its own fact, in older artifacts that of the data artifact that it names."""
    known = evaluated.manifest.facts.get(FACT)
    if known:
        return str(known)
    for reference in evaluated.manifest.inputs:
        try:
            found = Artifact.open(workspace.resolve(reference))
        except ArtifactError:  # pruned since, or a source file
            continue
        if found.manifest.stage == "data" and found.manifest_sha256 == reference.sha256:
            return test_sha256(found)
    return ""


def sentence(count: int) -> str:
    """For the log. count: evaluations before this one."""
    if not count:
        return "the test rows are used for the first time"
    times = "once" if count == 1 else f"{count} times"
    return (
        f"the test rows were used {times} before this evaluation; the best of several runs on the same rows looks a "
        "little better than it is"
    )
