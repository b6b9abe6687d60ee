"""The report stage: opens what the other stages sealed, writes one page, seals it."""

from __future__ import annotations

from typing import Any

from tunewright.core import files, manifest, runs
from tunewright.core.runs import Artifact, Workspace
from tunewright.report import lineage
from tunewright.report.page import Content, render

PAGE = "report.html"


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
    """Seals `report.html`: one page with everything these artifacts hold. Raises ArtifactError for a damaged one."""
    present = [artifact for artifact in (data, train, evaluate, quantize, serve) if artifact]
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
                confusion=_confusion(evaluate),
                table=_json(quantize, "table.json"),
                serving=_json(serve, "measurement.json"),
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


def _confusion(evaluate: Artifact | None) -> Any:
    """None where no metric has labels, or the artifact is older than the file."""
    has_one = evaluate is not None and any(record.path == "confusion.json" for record in evaluate.manifest.files)
    return _json(evaluate, "confusion.json") if has_one else None


def _json(artifact: Artifact | None, name: str) -> Any:
    return artifact.json(name) if artifact else None
