"""Do foreign weights fit the project's base model? Names and shapes, from the headers of the files alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tunewright.core.errors import ArtifactError
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.release.foreign import ADAPTER_WEIGHTS, Foreign

Shapes = dict[str, tuple[int, ...]]
_LORA = re.compile(r"(?:base_model\.model\.)?(.+)\.(lora_A|lora_B)(?:\.\w+)?\.weight")
_TIED = "lm_head.weight"


def base_shapes(base: Path) -> Shapes:
    """{name: shape} of every tensor of the base model."""
    return {
        name: shape for path in source.weight_files(base) for name, (_, shape) in source.stored_tensors(path).items()
    }


def check(foreign: Foreign, base: Path) -> None:
    """Raises ArtifactError that names the first tensor which does not fit."""
    known = base_shapes(base)
    if foreign.kind == "full":
        problem = _whole(foreign.folder, known)
    else:
        stored = source.stored_tensors(foreign.folder / ADAPTER_WEIGHTS)
        problem = _adapter({name: shape for name, (_, shape) in stored.items()}, known)
    if problem:
        raise ArtifactError(
            f"these weights do not fit the base model: {problem}",
            where=str(foreign.folder),
            fix="set model.path to the base that it was trained on",
        )


def _whole(folder: Path, known: Shapes) -> str:
    found = base_shapes(folder)
    for name in sorted((set(found) | set(known)) - {_TIED}):
        if name not in known or name not in found:
            return f"the tensor {name} is only in {'the folder' if name in found else 'the base'}"
        if found[name] != known[name]:
            return f"the tensor {name} has the shape {found[name]}, in the base {known[name]}"
    return ""


def _adapter(found: Shapes, known: Shapes) -> str:
    for name, shape in sorted(found.items()):
        match = _LORA.fullmatch(name)
        problem = _lora(match[1], match[2], shape, known) if match else _saved_whole(name, shape, known)
        if problem:
            return problem
    return ""


def _lora(module: str, part: str, shape: tuple[int, ...], known: Shapes) -> str:
    """A is [r, in], B is [out, r] beside a weight [out, in]."""
    weight = known.get(f"{module}.weight") or (known.get("model.embed_tokens.weight") if module == "lm_head" else None)
    if weight is None:
        return f"the base has no layer {module}"
    ours, theirs = (weight[1], shape[1]) if part == "lora_A" else (weight[0], shape[0])
    if len(shape) == 2 and ours != theirs:
        side = "takes" if part == "lora_A" else "gives"
        return f"the adapter of {module} {side} {theirs} values, the base's layer {ours}"
    return ""


def _saved_whole(name: str, shape: tuple[int, ...], known: Shapes) -> str:
    """Layers that the tool saved whole (`modules_to_save`), most often an enlarged vocabulary."""
    plain = re.sub(r"^base_model\.model\.|\.modules_to_save(\.\w+)?|\.base_layer|\.original_module", "", name)
    if plain in known and known[plain] != shape:
        return f"{plain} was saved whole with the shape {shape}, in the base {known[plain]}: new tokens were added"
    return ""


def base_name(foreign: Foreign, model: ModelConfig, base: Path) -> tuple[str, str]:
    """(why the adapter's own base is not the project's, what is not known of it); both empty where they agree.

    A folder on disk is compared by its weights, two names of a hub by their last part. Raises nothing.
    """
    named = str(foreign.settings.get("base_model_name_or_path") or "")
    if foreign.kind == "full" or named == model.path:
        return "", ""
    if not named:
        return "", "the adapter does not say which base it was trained on"
    place = Path(named).expanduser()
    if place.is_dir() and any(place.glob("*.safetensors")):
        same = source.weights_sha256(place) == source.weights_sha256(base)
        return ("" if same else f"it was trained on the weights in {place.name}, which are not the base's"), ""
    last, ours = (text.rstrip("/").rsplit("/", 1)[-1].casefold() for text in (named, model.path))
    if last == ours:
        return "", ""
    if _is_hub_name(named) and _is_hub_name(model.path):
        return f"it was trained on {named}, and the project's base is {model.path}", ""
    return "", f"it was trained on '{last}', which cannot be compared with {model.path} by name; the shapes fit"


def _is_hub_name(text: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not text.startswith(".")


def settings_notes(foreign: Foreign, model: ModelConfig) -> list[str]:
    """What the adapter's settings say that a reader should know."""
    settings: dict[str, Any] = foreign.settings
    notes = []
    revision = settings.get("revision")
    if revision and revision not in ("main", model.revision):
        notes.append(f"it names revision {revision} of its base, the project {model.revision}")
    if settings.get("modules_to_save"):
        notes.append(f"layers saved whole: {', '.join(map(str, settings['modules_to_save']))}")
    return notes
