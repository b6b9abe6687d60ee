"""`adopt`: what another tool trained becomes a sealed train artifact, so that proof, gates and serving work for it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.core import files, promoted
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, GateError
from tunewright.core.events import say
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.project import ProjectConfig
from tunewright.release import fit, foreign
from tunewright.release.foreign import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Foreign

if TYPE_CHECKING:
    from tunewright.train.effect import Effect

METHOD = "adopted"
_PROOF_ROWS = 200
"""Validation rows that are rendered for the proof; the measurement draws from them."""


@dataclass(frozen=True)
class _Adoption:
    """found: the other tool's folder; model, base: the project's base, or a copy of it with the adopted template."""

    workspace: Workspace
    project: ProjectConfig
    found: Foreign
    model: ModelConfig
    base: Path
    tokenizer: ChatTokenizer
    notes: tuple[str, ...]


def adopt(
    workspace: Workspace, project: ProjectConfig, folder: Path, *, data: Artifact | None, take_template: bool
) -> Artifact:
    """A train artifact of method "adopted". data: the artifact that its loss is proven on, by default the newest that
    passed, where there is one; take_template: whether the folder's chat template counts where it differs.

    Raises ArtifactError for what cannot be opened safely or does not fit, GateError (after sealing) where the model is
    shown to be worse than its base, or without effect.
    """
    prepared = _prepare(workspace, project, foreign.recognise(folder.resolve()), take_template=take_template)
    judged_on = data or _newest_data(workspace)
    hashes = {path.name: files.sha256(path) for path in prepared.found.files}
    settings = {
        "adopted": hashes,
        "model": prepared.model.model_dump(mode="json"),
        "seed": project.seed,
        "effect": project.train.effect.model_dump(mode="json"),
    }
    output = begin(workspace, "train", settings, (workspace.reference(judged_on),) if judged_on else ())
    if isinstance(output, Artifact):
        return _passed(output, workspace)
    try:
        _take(prepared, output, hashes)
        _prove(prepared, output, judged_on)
        return _passed(output.seal(passed="failed" not in output.facts), workspace)
    finally:
        output.release()


def _prepare(workspace: Workspace, project: ProjectConfig, found: Foreign, *, take_template: bool) -> _Adoption:
    base = source.resolve(project.model, workspace.root)
    say(f"adopt: {'a PEFT adapter' if found.kind == 'adapter' else 'a whole model'} written by {found.tool}")
    fit.check(found, base)
    wrong, unknown = fit.base_name(found, project.model, base)
    if wrong:
        raise ArtifactError(wrong, where=str(found.folder), fix="set model.path to the base that it was trained on")
    if changed := foreign.other_tokenizer(found.folder, base):
        raise ArtifactError(
            f"the folder's tokenizer is not the base's: {changed}",
            where=str(found.folder / "tokenizer.json"),
            fix="set model.path to a base with that tokenizer",
        )
    notes = [*fit.settings_notes(found, project.model), *([unknown] if unknown else [])]
    model, base, tokenizer, said = _with_template(workspace, project.model, base, found, take=take_template)
    return _Adoption(workspace, project, found, model, base, tokenizer, (*notes, *said))


def _with_template(
    workspace: Workspace, model: ModelConfig, base: Path, found: Foreign, *, take: bool
) -> tuple[ModelConfig, Path, ChatTokenizer, list[str]]:
    """The base as it is, or a linked copy of it that has the folder's chat template."""
    tokenizer, own = ChatTokenizer.load(base), foreign.template_of(found.folder)
    differs = foreign.other_rendering(own, tokenizer) if own else ""
    if own is None or not differs:
        said = [] if own else ["the folder has no chat template; the base's is used"]
        return model, base, tokenizer, said
    if not take:
        raise ArtifactError(
            f"the folder's chat template is not the base's: {differs}",
            where=str(found.folder),
            fix="--template adopt, if it was trained with that template; else put the base's template into the folder",
        )
    place = promoted.folder(workspace) / f"base-{hashlib.sha256(own.encode()).hexdigest()[:8]}"
    _link_base(base, place, own)
    path = workspace.relative(place)
    said = [f"set model.path to {path}, the base with the adopted chat template: with another one it is refused"]
    return model.model_copy(update={"path": path}), place, ChatTokenizer.load(place), said


def _link_base(base: Path, place: Path, template: str) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name != "chat_template.jinja":
            files.link_or_copy(path.resolve(), place / path.name)
    files.write_text(place / "chat_template.jinja", template)


def _newest_data(workspace: Workspace) -> Artifact | None:
    passed = [artifact for artifact in workspace.finished("data") if artifact.manifest.passed]
    return passed[-1] if passed else None


def _take(prepared: _Adoption, output: Output, hashes: dict[str, str]) -> None:
    """Copies the weights (a link would change with the other tool's next run) and says what they are."""
    found, model = prepared.found, prepared.model
    target = output.path / ("adapter" if found.kind == "adapter" else "model")
    target.mkdir(exist_ok=True)
    with files.disk_errors(target):
        for path in found.files:
            shutil.copyfile(path, target / path.name)
    if found.kind == "adapter":
        settings = {**found.settings, "base_model_name_or_path": model.path, "revision": model.revision}
        files.write_json(target / ADAPTER_CONFIG, settings)
    weights = target / ADAPTER_WEIGHTS if found.kind == "adapter" else source.weight_files(target)[0]
    formats = [kind for kind, _ in source.stored_tensors(weights).values()]
    dtype = {"BF16": "bfloat16", "F16": "float16"}.get(max(set(formats), key=formats.count), "float32")
    info = ModelInfo(
        kind=found.kind,
        base=model.path,
        base_revision=model.revision,
        base_sha256=source.weights_sha256(prepared.base),
        method=METHOD,
        dtype=dtype,
        bits=32 if dtype == "float32" else 16,
        chat_template_sha256=prepared.tokenizer.template.sha256,
        max_length=min(model.max_length or prepared.tokenizer.max_length, prepared.tokenizer.max_length),
    )
    files.write_json(output.path / "model.json", info.model_dump())
    files.write_json(output.path / "curve.json", {"train": [], "validation": []})
    output.facts = {
        "method": METHOD,
        "dtype": dtype,
        "adopted": {"tool": found.tool, "folder": found.folder.name, "files": hashes},
        "notes": list(prepared.notes),
    }


def _prove(prepared: _Adoption, output: Output, data: Artifact | None) -> None:
    """The loss on validation rows of the base, of this model and of a random change; without rows it is opened."""
    if data is None:
        from tunewright.models.load import choose_dtype

        _open(prepared, output, choose_dtype(prepared.model.dtype))
        output.facts["notes"].append("there is no data artifact, so its loss was not compared with the base's")
        return
    effect = _measure(prepared, output, data)
    failure = effect.failure(required=prepared.project.train.effect.required)
    output.facts |= {"effect": effect.facts(), **({"failed": failure} if failure else {})}
    output.facts["notes"].append(effect.text())


def _open(prepared: _Adoption, output: Output, dtype: Any) -> None:
    from tunewright.models.adapters import load_adapted
    from tunewright.models.load import load_model

    trust = prepared.model.trust_remote_code
    if prepared.found.kind == "adapter":
        load_adapted(prepared.base, output.path / "adapter", dtype=dtype, trust_remote_code=trust)
    else:
        load_model(output.path / "model", dtype=dtype, trust_remote_code=trust)


def _measure(prepared: _Adoption, output: Output, data: Artifact) -> Effect:
    from tunewright.models.load import choose_dtype
    from tunewright.train.effect import Saved, measure_effect

    rows = [Conversation.from_row(row) for row in data.jsonl("validation.jsonl")[:_PROOF_ROWS]]
    saved = Saved(
        base=prepared.base,
        folder=output.path / ("adapter" if prepared.found.kind == "adapter" else "model"),
        kind=prepared.found.kind,
        trust_remote_code=prepared.model.trust_remote_code,
    )
    return measure_effect(
        saved,
        rows,
        rendered=_rendered(rows, prepared),
        dtype=choose_dtype(prepared.model.dtype),
        seed=prepared.project.seed,
        options=prepared.project.train.effect,
    )


def _rendered(rows: Sequence[Conversation], prepared: _Adoption) -> list[Example]:
    tokenizer = prepared.tokenizer
    limit = min(prepared.model.max_length or tokenizer.max_length, tokenizer.max_length)
    return [example for row in rows for example in tokenizer.examples(row, max_length=limit)]


def _passed(artifact: Artifact, workspace: Workspace) -> Artifact:
    if not artifact.manifest.passed:
        raise GateError(str(artifact.manifest.facts.get("failed")), where=workspace.relative(artifact.path))
    return artifact
