"""`export`: a self-contained folder that vLLM, transformers or llama.cpp loads."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright import __version__
from tunewright.core import files, promoted
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.events import say
from tunewright.core.promoted import TUNED
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source
from tunewright.models.config import ModelInfo
from tunewright.models.tokens import ChatTokenizer
from tunewright.project import ProjectConfig
from tunewright.release import card, evidence, licence, ollama
from tunewright.release.candidate import Candidate, find
from tunewright.release.integrity import info_of

MERGED, ADAPTER = "merged", "adapter"
MANIFEST = "export.json"
_SIXTEEN = ("bf16", "fp16")
_NOT_OURS = ("model.json",)
"""Files of a variant that only this program reads."""


@dataclass(frozen=True)
class _Job:
    workspace: Workspace
    project: ProjectConfig
    candidate: Candidate
    form: str
    info: ModelInfo
    base: Path


def export(
    workspace: Workspace,
    project: ProjectConfig,
    target: Path,
    *,
    variant: str | None,
    source_directory: Path | None,
) -> dict[str, Any]:
    """Writes the folder `target`, which must not exist, and returns its manifest. variant: merged (16 bits), adapter or
    a scheme; by default what is promoted or named.

    Raises ConfigError for an existing target or an unknown variant, ArtifactError for changed files.
    """
    if target.exists():
        raise ConfigError("this exists already", where=str(target), fix="name a folder that is not there yet")
    job = _job(workspace, project, variant, source_directory)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with files.disk_errors(target):
            notes = _write(job, temporary)
            manifest = _describe(job, temporary, notes)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _job(workspace: Workspace, project: ProjectConfig, variant: str | None, named: Path | None) -> _Job:
    candidate = _candidate(workspace, named)
    form = variant or (MERGED if candidate.variant == TUNED else candidate.variant)
    if form in (MERGED, ADAPTER):
        candidate = Candidate(candidate.train, TUNED, candidate.train)
    elif form != candidate.variant:
        candidate = _scheme(workspace, candidate, form)
    info = info_of(candidate)
    model = project.model.model_copy(update={"path": info.base, "revision": info.base_revision})
    base = source.resolve(model, workspace.root)
    if form == ADAPTER and info.kind != "adapter":
        raise ConfigError("this model has whole weights, no adapter", where="--variant", fix="--variant merged")
    if ChatTokenizer.load(base).template.sha256 != info.chat_template_sha256:
        raise ArtifactError("the base's chat template is not the trained one", where=str(base), fix="restore it")
    if form == MERGED:
        dtype = "float16" if info.dtype == "float16" else "bfloat16"
        info = info.model_copy(update={"kind": MERGED, "bits": 16, "dtype": dtype})
    return _Job(workspace, project.model_copy(update={"model": model}), candidate, form, info, base)


def _candidate(workspace: Workspace, named: Path | None) -> Candidate:
    current = promoted.read(workspace) if named is None else None
    if current is None:
        return find(workspace, named)
    place = (workspace.root / current.artifact).resolve()
    promoted.opened(workspace, current)
    say(f"export: the promoted model, {current.artifact} ({current.variant})")
    return find(workspace, place if current.variant == TUNED else place / current.variant)


def _scheme(workspace: Workspace, candidate: Candidate, form: str) -> Candidate:
    """The variant `form` of the newest quantize artifact that was made from this training."""
    mark, known = candidate.train.manifest_sha256, set()
    for artifact in reversed(workspace.finished("quantize")):
        if any(reference.sha256 == mark for reference in artifact.manifest.inputs):
            schemes = {str(row["scheme"]) for row in artifact.json("table.json")}
            if form in schemes:
                return Candidate(artifact, form, candidate.train)
            known |= schemes
    raise ConfigError(
        f"there is no variant '{form}' of {workspace.relative(candidate.train.path)}",
        where="--variant",
        fix=f"one of: {', '.join([MERGED, ADAPTER, *sorted(known)])}",
    )


def _write(job: _Job, target: Path) -> list[str]:
    """Weights, tokenizer and what belongs to the form; sentences for the card."""
    candidate = job.candidate
    notes = []
    if job.form == ADAPTER:
        _copy(candidate.train.folder("adapter"), target)
        _tokenizer(job.base, target)
    elif job.form == MERGED:
        _merged(job, target)
    else:
        _copy(candidate.artifact.folder(job.form), target)
        _tokenizer(job.base, target)
        if not candidate.row.get("accepted"):
            notes.append(f"The variant was refused by its own table: {candidate.row.get('note')}")
    gguf = next(target.glob("*.gguf"), None)
    if gguf is not None:
        notes += _modelfile(job, target, gguf.name)
    for path in licence.files_of(job.base):
        shutil.copyfile(path, target / path.name)
    return notes


def _merged(job: _Job, target: Path) -> None:
    """The 16-bit weights: those that quantize stored and measured, else merged now and opened again for proof."""
    train, stored = job.candidate.train, None
    for scheme in _SIXTEEN:
        try:
            stored = stored or _scheme(job.workspace, job.candidate, scheme).artifact.folder(scheme)
        except ConfigError:
            continue
    if stored is not None:
        _copy(stored, target)
        _tokenizer(job.base, target)
        return
    import torch

    from tunewright.models.load import load_model
    from tunewright.models.save import save_model
    from tunewright.models.tuned import open_tuned, prove_merges

    prove_merges(train)
    say("export: merging in 16 bits")
    dtype = getattr(torch, job.info.dtype)
    model = open_tuned(train, job.project.model, job.base, dtype=torch.float32).to(dtype)
    save_model(model, target, tokenizer_from=job.base)
    _tokenizer(job.base, target)
    load_model(target, dtype=dtype, trust_remote_code=job.project.model.trust_remote_code)


def _copy(folder: Path, target: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _NOT_OURS:
            place = target / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _tokenizer(base: Path, target: Path) -> None:
    """The tokenizer's files as copies, and the chat template as a file of its own, which every engine finds."""
    from tunewright.models.save import TOKENIZER_FILES

    for name in TOKENIZER_FILES:
        if (base / name).exists():
            (target / name).unlink(missing_ok=True)
            shutil.copyfile(base / name, target / name)
    files.write_text(target / "chat_template.jinja", ChatTokenizer.load(base).template.source)


def _modelfile(job: _Job, target: Path, weights: str) -> list[str]:
    text, why = ollama.modelfile(ChatTokenizer.load(job.base), weights=f"../{weights}", context=job.info.max_length)
    (target / "ollama").mkdir()
    files.write_text(target / "ollama" / "Modelfile", text)
    if why:
        return [f"Ollama: no template was written, as {why}. Use llama-server, which runs the trained template."]
    return []


def _describe(job: _Job, target: Path, notes: list[str]) -> dict[str, Any]:
    """Card, licence notes and manifest."""
    workspace, candidate = job.workspace, job.candidate
    every, _ = evidence.evaluations(workspace, candidate.train)
    evaluation, why = evidence.chosen(every, _evaluated_as(job, every))
    if every and evaluation is None:
        evaluation = every[-1]
        notes.append(f"The evaluation is not the project file's: {why}")
    if evaluation is not None and not evaluation.manifest.passed:
        notes.append("It did not pass its gates.")
    name = licence.name_of(job.base, job.project.release.license)
    data = _data(workspace, candidate.train, evaluation)
    written = card.Card(
        project=job.project.name,
        form=job.form,
        info=job.info,
        config=job.project.release,
        licence=name,
        data=data.manifest.facts if data else {},
        scores=evaluation.json(evidence.SCORES) if evaluation else None,
        row=candidate.row,
        promoted=_promotion(workspace, candidate),
        notes=notes,
    )
    files.write_text(target / "README.md", card.text(written))
    files.write_text(
        target / "LICENSE-NOTES.md", licence.notes(job.info, job.base, configured=job.project.release.license)
    )
    manifest = _manifest(job, target, evaluation, data) | {"notes": notes}
    files.write_json(target / MANIFEST, manifest)
    return manifest


def _evaluated_as(job: _Job, every: list[Artifact]) -> ProjectConfig:
    """The project with the evaluation's own model section: the base may have another name by now."""
    had = every[-1].manifest.config.get("model") if every else None
    if had is None:
        return job.project
    return job.project.model_copy(update={"model": type(job.project.model).model_validate(had)})


def _data(workspace: Workspace, train: Artifact, evaluation: Artifact | None) -> Artifact | None:
    for artifact in (train, evaluation):
        for reference in artifact.manifest.inputs if artifact else ():
            try:
                found = Artifact.open(workspace.resolve(reference))
            except ArtifactError:
                continue
            if found.manifest.stage == "data":
                return found
    return None


def _promotion(workspace: Workspace, candidate: Candidate) -> str:
    current = promoted.read(workspace)
    mark = candidate.artifact.manifest_sha256
    if current and (current.manifest_sha256, current.variant) == (mark, candidate.variant):
        return f"promoted by {current.by} on {current.since:%Y-%m-%d}, history entry {current.entry[:12]}"
    return "not promoted"


def _manifest(job: _Job, target: Path, evaluation: Artifact | None, data: Artifact | None) -> dict[str, Any]:
    """Lineage by hashes, and every file."""
    candidate = job.candidate
    return {
        "project": job.project.name,
        "form": job.form,
        "artifact": job.workspace.relative(candidate.artifact.path),
        "tunewright_version": __version__,
        "model": job.info.model_dump(),
        "lineage": {
            "artifact": candidate.artifact.manifest_sha256,
            "train": candidate.train.manifest_sha256,
            "evaluate": evaluation.manifest_sha256 if evaluation else None,
            "data": data.manifest_sha256 if data else None,
        },
        "files": [
            {"path": path.relative_to(target).as_posix(), "bytes": path.stat().st_size, "sha256": files.sha256(path)}
            for path in sorted(target.rglob("*"))
            if path.is_file()
        ],
    }
