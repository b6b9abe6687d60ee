"""Which model is served: what was named, else the promoted one, else the fastest accepted variant, else the tuned
model; and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.core import manifest, named, promoted
from tunewright.core.errors import ArtifactError
from tunewright.core.promoted import TUNED, Current
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source, tuned
from tunewright.models.compressed import load_compressed
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import choose_dtype, for_inference, load_model
from tunewright.models.prefix import taken_positions
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.prepared import Loaded

ENGINE = "transformers"
Wants = Literal["weights", "gguf", "any"]
"""What an engine opens: a folder of weights, a GGUF file, or either (weights where there are accepted ones)."""
_MEASURED_IN: dict[Wants, tuple[str, ...]] = {
    "weights": (ENGINE,),
    "gguf": ("llama.cpp",),
    "any": (ENGINE, "llama.cpp"),
}


@dataclass(frozen=True)
class Files:
    """What an engine outside of this process opens; every file was checked. folder: of the weights, or of the base
    below `adapter`; gguf: the one file in place of them."""

    folder: Path
    tokenizer: ChatTokenizer
    gguf: Path | None = None
    adapter: Path | None = None


@dataclass(frozen=True)
class Choice:
    """A model to serve. `variant`: a scheme's name or `tuned`; `sentence`: what was chosen and why."""

    artifact: Artifact
    variant: str
    info: ModelInfo
    sentence: str
    load: Callable[[], Loaded]
    files: Callable[[], Files]
    is_gguf: bool = False

    def refuse_gguf(self) -> None:
        """Raises ArtifactError for a GGUF variant."""
        if self.is_gguf:
            raise ArtifactError(
                "a GGUF variant is served by llama.cpp, and this server's engine is another one",
                where=str(self.artifact.path / self.variant),
                fix="set serve.engine to llamacpp, or serve another variant",
            )


def choose(
    workspace: Workspace, model: ModelConfig, *, source_directory: Path | None = None, wants: Wants = "weights"
) -> Choice:
    """The model to serve. `source_directory`: a variant's folder, or a quantize or train artifact. Without it the
    promoted model, where one was promoted.

    Raises ArtifactError when there is none that this engine can serve, or the promoted one was changed.
    """
    if source_directory is not None:
        return _opens(wants, _named(workspace, model, source_directory.resolve(), wants))
    if current := promoted.read(workspace):
        return _opens(wants, _promoted(workspace, model, current))
    quantized = [artifact for artifact in workspace.finished("quantize") if artifact.manifest.passed]
    if quantized and (row := _fastest(quantized[-1], wants)):
        return _variant(workspace, model, quantized[-1], row["scheme"], _why(workspace, quantized[-1], row))
    engine = _MEASURED_IN[wants][0]
    why = f"no accepted variant for {engine} in {workspace.relative(quantized[-1].path)}" if quantized else ""
    return _opens(wants, _tuned(workspace, model, workspace.newest("train"), why or "there is no quantized variant"))


def choose_named(workspace: Workspace, model: ModelConfig, name: str, *, wants: Wants = "weights") -> Choice:
    """What is registered under `name`. Raises ArtifactError when there is nothing, it was changed, or this engine does
    not open it."""
    pointer = named.read(workspace, name)
    artifact, why = named.opened(workspace, pointer), f"registered as '{name}'"
    if pointer.variant == TUNED:
        return _opens(wants, _tuned(workspace, model, artifact, why))
    return _opens(wants, _variant(workspace, model, artifact, pointer.variant, why))


def choose_from(
    workspace: Workspace, model: ModelConfig, *, quantize: Artifact | None, train: Artifact, wants: Wants = "weights"
) -> Choice:
    """The same choice between given artifacts."""
    if quantize is not None and (row := _fastest(quantize, wants)):
        return _variant(workspace, model, quantize, row["scheme"], _why(workspace, quantize, row))
    engine = _MEASURED_IN[wants][0]
    why = "there is no quantized variant" if quantize is None else f"no variant was accepted for {engine}"
    return _opens(wants, _tuned(workspace, model, train, why))


def _opens(wants: Wants, choice: Choice) -> Choice:
    """`choice`; raises ArtifactError where the engine opens no such thing."""
    if wants == "weights":
        choice.refuse_gguf()
    if wants == "gguf" and not choice.is_gguf:
        raise ArtifactError(
            f"llama.cpp serves GGUF variants, and this is none: {choice.variant}",
            where=str(choice.artifact.path),
            fix="add {name: gguf-q8_0} to quantize.variants and run quantize, or set serve.engine to transformers",
        )
    return choice


def _named(workspace: Workspace, model: ModelConfig, place: Path, wants: Wants) -> Choice:
    is_artifact = (place / manifest.NAME).exists()
    artifact = Artifact.open(place if is_artifact else place.parent)
    warning = "" if artifact.manifest.passed else "; WARNING: this artifact did not pass"
    stage = artifact.manifest.stage
    if is_artifact and stage == "train":
        return _tuned(workspace, model, artifact, f"named on the command line{warning}")
    if is_artifact and stage == "quantize":
        row = _fastest(artifact, wants)
        if row is None:
            raise ArtifactError(
                f"no variant of this artifact was accepted for the {_MEASURED_IN[wants][0]} engine",
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


def _fastest(quantize: Artifact, wants: Wants) -> dict[str, Any] | None:
    """The accepted variant with the most tokens a second, in the first engine that has one."""
    accepted: list[dict[str, Any]] = [row for row in quantize.json("table.json") if row["accepted"]]
    for engine in _MEASURED_IN[wants]:
        if rows := [row for row in accepted if str(row["engine"]).startswith(engine)]:
            return max(rows, key=lambda row: row["tokens_per_second"] or 0.0)
    return None


def _why(workspace: Workspace, quantize: Artifact, row: dict[str, Any]) -> str:
    speed = row["tokens_per_second"]
    reason = f"the fastest accepted variant for {row['engine']}" + (f", {speed:.1f} tokens/s" if speed else "")
    used = {workspace.resolve(reference) for reference in quantize.manifest.inputs}
    newer = [artifact for artifact in workspace.finished("train") if artifact.manifest.passed][-1:]
    if newer and newer[0].path.resolve() not in used:
        reason += f"; it was not made from {workspace.relative(newer[0].path)}, the newest training"
    return reason


def _variant(workspace: Workspace, model: ModelConfig, quantize: Artifact, scheme: str, why: str) -> Choice:
    folder = quantize.folder(scheme)
    gguf = next(folder.glob("*.gguf"), None)
    info = ModelInfo.model_validate(quantize.json(f"{scheme}/{tuned.INFO}"))

    def files() -> Files:
        tokenizer = ChatTokenizer.load(folder if gguf else source.checked(folder))
        tuned.check_template(info, tokenizer, quantize)
        return Files(folder, tokenizer, gguf)

    def load() -> Loaded:
        choice.refuse_gguf()
        tokenizer = ChatTokenizer.load(source.checked(folder))
        tuned.check_template(info, tokenizer, quantize)
        dtype = choose_dtype(model.dtype)
        if info.bits < 16:
            loaded = load_compressed(folder, dtype=dtype)
        else:
            loaded = for_inference(load_model(folder, dtype=dtype, trust_remote_code=model.trust_remote_code))
        return Loaded(loaded, tokenizer, _context(tokenizer, info, loaded))

    sentence = f"serving {workspace.relative(folder)}: {why}"
    choice = Choice(quantize, scheme, info, sentence, load, files, is_gguf=gguf is not None)
    return choice


def _tuned(workspace: Workspace, model: ModelConfig, train: Artifact, why: str) -> Choice:
    info = tuned.model_info(train)

    def load() -> Loaded:
        base = source.resolve(model, workspace.root)
        loaded = tuned.open_tuned(train, model, base, dtype=choose_dtype(model.dtype))
        tokenizer = ChatTokenizer.load(base)
        return Loaded(for_inference(loaded), tokenizer, _context(tokenizer, info, loaded))

    def files() -> Files:
        base = source.resolve(model, workspace.root)
        tokenizer = ChatTokenizer.load(base)
        tuned.check_template(info, tokenizer, train)
        if info.kind == "full":
            return Files(train.folder(tuned.WEIGHTS), tokenizer)
        tuned.check_base(info, base)
        return Files(base, tokenizer, adapter=train.folder(tuned.ADAPTER))

    return Choice(train, TUNED, info, f"serving {workspace.relative(train.path)}, the tuned model: {why}", load, files)


def _context(tokenizer: ChatTokenizer, info: ModelInfo, model: Any) -> int:
    """Most tokens of prompt and answer: what the model was built for, else what it was trained with."""
    positions = getattr(model.config, "max_position_embeddings", None)
    return min(tokenizer.max_length, int(positions) if positions else info.max_length) - taken_positions(model)
