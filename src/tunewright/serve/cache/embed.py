"""Questions as vectors of length 1, computed on one thread of their own; what was asked a moment ago is not computed
again."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.models.config import ModelConfig
from tunewright.serve.cache.floor import floors

Vector = NDArray[np.float32]
"""[width], length 1."""
RECENT = 256
WHERE = "serve.cache.semantic.embedder"


class Model(Protocol):
    """What makes vectors; models/embedding.EmbeddingModel is one."""

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[texts, width], of any length but zero."""
        ...


class Embedder:
    """One model for one server. `vector` belongs to one event loop; identical texts share one computation.

    name: of the weights, so that vectors of another model are never compared with these.
    """

    def __init__(self, model: Model, name: str) -> None:
        """Raises ArtifactError for a model whose vectors are not finite."""
        self.name = name
        self._model = model
        self._thread = ThreadPoolExecutor(1, "embedder")
        self._recent: OrderedDict[str, asyncio.Future[Vector]] = OrderedDict()
        first = self._vector("?")
        if not np.isfinite(first).all():
            raise ArtifactError("the embedding model gives no numbers", where=WHERE, fix="choose another model")
        self.width = len(first)
        self.floors = floors(self._vector)
        """How alike unrelated questions are, by language."""

    async def vector(self, text: str) -> Vector:
        """Its vector; raises what the model raises. A caller that is cancelled does not cancel it for the others."""
        running = self._recent.get(text)
        if running is None or (running.done() and (running.cancelled() or running.exception() is not None)):
            loop = asyncio.get_running_loop()
            running = self._recent[text] = asyncio.ensure_future(loop.run_in_executor(self._thread, self._vector, text))
        self._recent.move_to_end(text)
        if len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return await asyncio.shield(running)

    def close(self) -> None:
        """Ends the thread after what it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _vector(self, text: str) -> Vector:
        found: Vector = self._model.vectors([text])[0]
        return found / max(float(np.linalg.norm(found)), 1e-12)


def open_embedder(path: str, root: Path) -> Embedder:
    """Loads the model at `path` (a folder, or `builtin:NAME`), relative to `root`. The network is never asked.

    Raises ConfigError for a path that is not on this machine, ArtifactError for a folder that holds no such model,
    ResourceError where memory does not suffice, MissingExtraError for a built-in model that is not installed.
    """
    from tunewright.models import source

    wanted = ModelConfig(path=path)
    if not source.is_local(wanted, root):
        raise ConfigError(
            f"there is no embedding model at {path}", where=WHERE, fix="give the folder of a model on this machine"
        )
    folder = source.resolve(wanted, root)
    from tunewright.models.embedding import EmbeddingModel, check_folder

    check_folder(folder, where=WHERE)
    name = hashlib.sha256(f"mean 1 {source.weights_sha256(folder)}".encode()).hexdigest()[:16]
    return Embedder(EmbeddingModel(folder, batch_size=1), name)
