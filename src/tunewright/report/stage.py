"""The report stage: opens what the other stages sealed, writes one page, seals it."""

from __future__ import annotations

from typing import Any

from tunewright.core import files, manifest, runs
from tunewright.core.runs import Artifact, Workspace
from tunewright.report import lineage
from tunewright.report.page import Content, render

PAGE = "report.html"
CHAIN = "chain"
"""The stage that seals chain.json."""


def run(
    workspace: Workspace,
    *,
    project_file_name: str,
    data: Artifact,
    train: Artifact | None,
    evaluate: Artifact | None,
    quantize: Artifact | None,
    serve: Artifact | None,
) -> Artifact:
    """Seals `report.html`: one page with everything these artifacts hold, and the newest proof chain where it belongs
    to this training. Raises ArtifactError for a damaged one."""
    chain = _chain_of(workspace, train)
    present = [artifact for artifact in (data, train, evaluate, quantize, serve, chain) if artifact]
    inputs = tuple(workspace.reference(artifact) for artifact in present)
    output = runs.begin(workspace, "report", {"project_file": project_file_name}, inputs)
    if isinstance(output, Artifact):
        return output
    try:
        page = render(
            Content(
                project=workspace.project,
                created=f"{manifest.now():%Y-%m-%d %H:%M} UTC",
                data=data.json("report.json"),
                train_facts=train.manifest.facts if train else None,
                curve=_json(train, "curve.json"),
                scores=_json(evaluate, "scores.json"),
                evaluate_config=evaluate.manifest.config if evaluate else {},
                samples=evaluate.jsonl("samples.jsonl") if evaluate else (),
                confusion=_if_there(evaluate, "confusion.json"),
                memorization=_if_there(evaluate, "memorization.json"),
                table=_json(quantize, "table.json"),
                serving=_json(serve, "measurement.json"),
                proof=_json(chain, "chain.json"),
                chain=lineage.links(workspace, present),
                machines=lineage.machines(present),
                versions=lineage.library_versions(),
                commands=lineage.commands(project_file_name, [artifact.manifest.stage for artifact in present]),
            )
        )
        files.write_text(output.path / PAGE, page)
        output.facts = {"bytes": len(page.encode()), "stages": [artifact.manifest.stage for artifact in present]}
        return output.seal()
    finally:
        output.release()


def _chain_of(workspace: Workspace, train: Artifact | None) -> Artifact | None:
    """The newest proof chain, passed or not; None where it is one of another training."""
    newest = next(reversed(workspace.finished(CHAIN)), None)
    if train is None or newest is None:
        return None
    return newest if train.manifest_sha256 in {read.sha256 for read in newest.manifest.inputs} else None


def _if_there(artifact: Artifact | None, name: str) -> Any:
    """A file that only some artifacts have: no metric wrote it, or they are older than the file."""
    has_one = artifact is not None and any(record.path == name for record in artifact.manifest.files)
    return _json(artifact, name) if has_one else None


def _json(artifact: Artifact | None, name: str) -> Any:
    return artifact.json(name) if artifact else None
