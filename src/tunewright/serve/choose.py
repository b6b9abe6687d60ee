"""Which model is served: what was named, else the promoted one, else the fastest accepted variant, else the tuned
model; and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core import manifest, promoted
from tunewright.core.errors import ArtifactError
from tunewright.core.promoted import TUNED, Current
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source, tuned
from tunewright.models.compressed import load_compressed
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import choose_dtype, for_inference, load_model
from tunewright.models.prefix import taken_positions
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.engine import Loaded

ENGINE = "transformers"


@dataclass(frozen=True)
class Choice:
    """A model to serve. `variant`: a scheme's name or `tuned`; `sentence`: what was chosen and why."""

    artifact: Artifact
    variant: str
    info: ModelInfo
    sentence: str
    load: Callable[[], Loaded]


def choose(workspace: Workspace, model: ModelConfig, *, source_directory: Path | None = None) -> Choice:
    """The model to serve. `source_directory`: a variant's folder, or a quantize or train artifact. Without it the
    promoted model, where one was promoted.

    Raises ArtifactError when there is none that this engine can serve, or the promoted one was changed.
    """
    if source_directory is not None:
        return _named(workspace, model, source_directory.resolve())
    if current := promoted.read(workspace):
        return _promoted(workspace, model, current)
    quantized = [artifact for artifact in workspace.finished("quantize") if artifact.manifest.passed]
    if quantized and (row := _fastest(quantized[-1])):
        return _variant(workspace, model, quantized[-1], row["scheme"], _why(workspace, quantized[-1], row))
    why = f"no accepted variant for {ENGINE} in {workspace.relative(quantized[-1].path)}" if quantized else ""
    return _tuned(workspace, model, workspace.newest("train"), why or "there is no quantized variant")


def choose_from(workspace: Workspace, model: ModelConfig, *, quantize: Artifact | None, train: Artifact) -> Choice:
    """The same choice between given artifacts."""
    if quantize is not None and (row := _fastest(quantize)):
        return _variant(workspace, model, quantize, row["scheme"], _why(workspace, quantize, row))
    why = "there is no quantized variant" if quantize is None else f"no variant was accepted for {ENGINE}"
    return _tuned(workspace, model, train, why)


def _named(workspace: Workspace, model: ModelConfig, place: Path) -> Choice:
    is_artifact = (place / manifest.NAME).exists()
    artifact = Artifact.open(place if is_artifact else place.parent)
    warning = "" if artifact.manifest.passed else "; WARNING: this artifact did not pass"
    stage = artifact.manifest.stage
    if is_artifact and stage == "train":
        return _tuned(workspace, model, artifact, f"named on the command line{warning}")
    if is_artifact and stage == "quantize":
        row = _fastest(artifact)
        if row is None:
            raise ArtifactError(
                f"no variant of this artifact was accepted for the {ENGINE} engine",
                where=str(place),
                fix="name a variant's folder below it to serve it all the same, or a train artifact",
            )
        return _variant(workspace, model, artifact, row["scheme"], _why(workspace, artifact, row) + warning)
    if stage != "quantize":
        raise ArtifactError(
            f"this belongs to the stage '{stage}', which holds no model to serve",
            where=str(place),
            fix="name a train or quantize artifact, or the folder of one variant",
        )
    row = next((row for row in artifact.json("table.json") if row["scheme"] == place.name), None)
    refused = "; WARNING: this variant was refused by its loss limit" if row and not row["accepted"] else ""
    return _variant(workspace, model, artifact, place.name, f"named on the command line{refused}{warning}")


def _promoted(workspace: Workspace, model: ModelConfig, current: Current) -> Choice:
    artifact, why = promoted.opened(workspace, current), f"promoted by {current.by} at {current.since:%Y-%m-%d %H:%M}"
    if current.variant == TUNED:
        return _tuned(workspace, model, artifact, why)
    return _variant(workspace, model, artifact, current.variant, why)


def _fastest(quantize: Artifact) -> dict[str, Any] | None:
    """The accepted variant of this engine with the most tokens a second."""
    rows = [r for r in quantize.json("table.json") if r["accepted"] and str(r["engine"]).startswith(ENGINE)]
    return max(rows, key=lambda row: row["tokens_per_second"] or 0.0, default=None)


def _why(workspace: Workspace, quantize: Artifact, row: dict[str, Any]) -> str:
    speed = row["tokens_per_second"]
    reason = f"the fastest accepted variant for {ENGINE}" + (f", {speed:.1f} tokens/s" if speed else "")
    used = {workspace.resolve(reference) for reference in quantize.manifest.inputs}
    newer = [artifact for artifact in workspace.finished("train") if artifact.manifest.passed][-1:]
    if newer and newer[0].path.resolve() not in used:
        reason += f"; it was not made from {workspace.relative(newer[0].path)}, the newest training"
    return reason


def _variant(workspace: Workspace, model: ModelConfig, quantize: Artifact, scheme: str, why: str) -> Choice:
    folder = quantize.folder(scheme)
    if any(folder.glob("*.gguf")):
        raise ArtifactError(
            "a GGUF variant is served by llama.cpp, and this server's engine is transformers",
            where=str(folder),
            fix="give this file to llama-server, or serve another variant",
        )
    info = ModelInfo.model_validate(quantize.json(f"{scheme}/{tuned.INFO}"))

    def load() -> Loaded:
        tokenizer = ChatTokenizer.load(source.checked(folder))
        tuned.check_template(info, tokenizer, quantize)
        dtype = choose_dtype(model.dtype)
        if info.bits < 16:
            loaded = load_compressed(folder, dtype=dtype)
        else:
            loaded = for_inference(load_model(folder, dtype=dtype, trust_remote_code=model.trust_remote_code))
        return Loaded(loaded, tokenizer, _context(tokenizer, info, loaded))

    return Choice(quantize, scheme, info, f"serving {workspace.relative(folder)}: {why}", load)


def _tuned(workspace: Workspace, model: ModelConfig, train: Artifact, why: str) -> Choice:
    info = tuned.model_info(train)

    def load() -> Loaded:
        base = source.resolve(model, workspace.root)
        loaded = tuned.open_tuned(train, model, base, dtype=choose_dtype(model.dtype))
        tokenizer = ChatTokenizer.load(base)
        return Loaded(for_inference(loaded), tokenizer, _context(tokenizer, info, loaded))

    return Choice(train, TUNED, info, f"serving {workspace.relative(train.path)}, the tuned model: {why}", load)


def _context(tokenizer: ChatTokenizer, info: ModelInfo, model: Any) -> int:
    """Most tokens of prompt and answer: what the model was built for, else what it was trained with."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return min(tokenizer.max_length, int(positions) if positions else info.max_length) - taken_positions(model)
