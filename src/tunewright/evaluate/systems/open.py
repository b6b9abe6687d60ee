"""From artifacts and folders to `ChatModel`s, with the hashes that the cache goes by. Nothing is loaded here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache, digest
from tunewright.evaluate.systems.local import Identity, LocalModel
from tunewright.evaluate.systems.protocol import Kind
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.tokens import ChatTokenizer

CONFIG = "config.json"


def base(
    folder: Path, config: ModelConfig, *, dtype: Any, cache: AnswerCache = NO_CACHE, name: str = "base"
) -> LocalModel:
    """The untrained model in `folder`. dtype: torch's."""
    from tunewright.models.load import load_model

    trust = config.trust_remote_code
    return LocalModel(
        Identity(name, "base", digest([base_sha256(folder), str(dtype)])),
        ChatTokenizer.load(folder),
        lambda: load_model(folder, dtype=dtype, trust_remote_code=trust),
        max_length=_longest(folder, config),
        cache=cache,
    )


def tuned(
    train: Artifact,
    config: ModelConfig,
    folder: Path,
    *,
    dtype: Any,
    merge: bool = True,
    cache: AnswerCache = NO_CACHE,
    name: str = "tuned",
) -> LocalModel:
    """What training sealed: an adapter merged into the base in `folder`, or beside it with merge=False and where it
    cannot be merged; or weights of its own. Raises ArtifactError when they are missing or changed."""
    from tunewright.models.tuned import ADAPTER, WEIGHTS, merges, model_info, open_tuned

    info = model_info(train)
    part = WEIGHTS if info.kind == "full" else ADAPTER
    is_merged = info.kind != "full" and merge and merges(train)
    kind: Kind = "full" if info.kind == "full" else ("merged" if is_merged else "adapter")
    taken = 0 if kind == "full" else virtual_tokens(train.folder(ADAPTER))
    content = [base_sha256(folder), content_sha256(train, part), kind, str(dtype)]
    return LocalModel(
        Identity(name, kind, digest(content)),
        ChatTokenizer.load(folder),
        lambda: open_tuned(train, config, folder, dtype=dtype, merge=merge),
        max_length=_longest(folder, config) - taken,
        cache=cache,
    )


def variant(
    quantize: Artifact,
    scheme: str,
    config: ModelConfig,
    *,
    dtype: Any,
    cache: AnswerCache = NO_CACHE,
) -> LocalModel:
    """A variant that transformers can open: 16 bits, or a compressed-tensors folder. Raises ArtifactError for GGUF,
    whose engine is another one (`EngineModel`)."""
    from tunewright.models.compressed import load_compressed
    from tunewright.models.load import load_model
    from tunewright.models.tuned import INFO

    folder = quantize.folder(scheme)
    if any(folder.glob("*.gguf")):
        raise ArtifactError(
            f"the variant {scheme} runs in llama.cpp, not in transformers",
            where=str(folder),
            fix="open it with the engine of the quantize stage",
        )
    info = ModelInfo.model_validate(quantize.json(f"{scheme}/{INFO}"))
    trust = config.trust_remote_code

    def load() -> Any:
        if info.bits < 16:
            return load_compressed(folder, dtype=dtype)
        return load_model(folder, dtype=dtype, trust_remote_code=trust)

    kind: Kind = "quantized" if info.bits < 16 else "merged"
    content = digest([content_sha256(quantize, scheme), str(dtype)])
    identity = Identity(scheme, kind, content)
    return LocalModel(identity, ChatTokenizer.load(folder), load, max_length=_longest(folder, config), cache=cache)


def in_memory(model: Any, tokenizer: ChatTokenizer, *, name: str, kind: Kind, max_length: int) -> LocalModel:
    """A model that somebody else has opened, without a cache: what it is made of is not known here."""
    return LocalModel(Identity(name, kind, ""), tokenizer, lambda: model, max_length=max_length)


def base_sha256(folder: Path) -> str:
    """Of weights, configuration, tokenizer and template of a model's folder."""
    parts = [source.weights_sha256(folder), ChatTokenizer.load(folder).template.sha256]
    for name in (CONFIG, "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        parts.append(files.sha256(folder / name) if (folder / name).exists() else "")
    return digest(parts)


def content_sha256(artifact: Artifact, part: str) -> str:
    """Of the files below `part` of an artifact, as its manifest has them."""
    records = sorted((file.path, file.sha256) for file in artifact.manifest.files if file.path.startswith(f"{part}/"))
    return digest(records)


def virtual_tokens(adapter: Path) -> int:
    """Positions of the context that a trained prefix takes; 0 for every other adapter."""
    try:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return int(settings["num_virtual_tokens"]) if settings["peft_type"] == "PREFIX_TUNING" else 0
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(
            "the adapter folder has no usable adapter_config.json", where=str(adapter), fix="train again"
        ) from None


def _longest(folder: Path, config: ModelConfig) -> int:
    own = ChatTokenizer.load(folder).max_length
    return min(own, config.max_length or own)
