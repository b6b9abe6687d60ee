"""Opt-in: a kept answer for a question that means the same. The embedder proposes, the guards decide.

Similar vectors are no proof: in our measurement a question and its negation were 0.986 alike, a true paraphrase 0.866.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tunewright.core.events import say
from tunewright.serve.cache.embed import Embedder, Vector, open_embedder
from tunewright.serve.cache.floor import in_words, least_cosines
from tunewright.serve.cache.guards.objections import objections
from tunewright.serve.cache.guards.words import language
from tunewright.serve.cache.index import Known, VectorIndex
from tunewright.serve.cache.stores import DiskStore
from tunewright.serve.config import SemanticConfig

PATIENCE_S = 5.0
"""An embedder that takes longer is no help: the request goes to the model."""
PAUSE_S = 10.0
"""After a failure nothing is compared for so long."""
CANDIDATES = 8
"""Kept questions that are put before the guards; the ninth best is no paraphrase."""
RECORD = "question:"
VERSION = 1


@dataclass(frozen=True)
class Match:
    """What came of a look. key: of the kept answer, empty when none may be given; similarity: the cosine to the kept
    question, or to the most alike one; refused: the guard that refused that one, empty where it is not alike enough."""

    key: str
    similarity: float
    refused: str = ""

    @property
    def told(self) -> str:
        """Parameters of the X-Cache header and of the log line."""
        refused = f";refused={self.refused}" if self.refused else ""
        return f";similarity={self.similarity:.3f}{refused}"


class Semantic:
    """Kept questions in memory, and on disk beside their answers. Its methods belong to one event loop."""

    def __init__(
        self,
        config: SemanticConfig,
        embedder: Embedder,
        store: DiskStore | None,
        *,
        ttl_s: float,
        tell: Callable[[str], None] = say,
    ) -> None:
        """store: where the questions outlive the server, None for memory alone; ttl_s: as their answers."""
        self._config, self._embedder, self._store = config, embedder, store
        self._ttl_s, self._tell = ttl_s, tell
        self._rests_until = 0.0
        self.least = least_cosines(config.threshold, embedder.floors)
        """The cosine from which on questions are put before the guards, by language."""
        self._index = VectorIndex(config.capacity, embedder.width)
        self._works: set[asyncio.Task[None]] = set()
        self._load()

    async def find(self, context: str, text: str) -> Match | None:
        """The kept question that means the same as `text`, all else (`context`) being the same; None where nothing
        could be compared."""
        least = self.least.get(language(text) or "")
        if least is None or not self._is_short(text) or time.monotonic() < self._rests_until:
            return None
        try:
            vector = await asyncio.wait_for(self._embedder.vector(text), PATIENCE_S)
        except Exception as error:  # torch has errors of its own: all mean no match, and the model is asked
            self._rest(f"the embedder failed ({type(error).__name__})")
            return None
        nearest = self._index.nearest(context, vector, CANDIDATES)
        return await asyncio.to_thread(_judged, text, nearest, least)  # milliseconds a candidate: streams go on

    def used(self, key: str, *, is_there: bool) -> None:
        """A match was followed to its answer: it is remembered longer, or forgotten when the answer is gone."""
        if is_there:
            self._index.touch(key)
        else:
            self._index.remove(key)

    def put(self, key: str, context: str, text: str) -> None:
        """Remembers, soon, that `key` has the answer to `text`."""
        if self._is_short(text) and time.monotonic() >= self._rests_until:
            task = asyncio.ensure_future(self._put(Known(key, context, text)))
            self._works.add(task)
            task.add_done_callback(self._works.discard)

    def close(self) -> None:
        """Ends the embedder's thread."""
        self._embedder.close()

    def _is_short(self, text: str) -> bool:
        return bool(text.strip()) and len(text) <= self._config.max_chars

    async def _put(self, known: Known) -> None:
        try:
            vector = await self._embedder.vector(known.text)
            self._index.put(known, vector)
            if self._store is not None:
                text = _record(known, vector)
                await asyncio.to_thread(self._store.put, self._prefix + known.key, text, self._ttl_s)
        except Exception as error:  # the answer itself is kept already
            self._rest(f"a question could not be kept for comparison ({type(error).__name__})")

    def _rest(self, why: str) -> None:
        self._rests_until = time.monotonic() + PAUSE_S
        self._tell(f"serve: {why}; questions are not compared for {PAUSE_S:g} s")

    @property
    def _prefix(self) -> str:
        return f"{RECORD}{self._embedder.name}:"

    def _load(self) -> None:
        """What earlier servers kept with this embedder."""
        if self._store is None:
            return
        try:
            for text in self._store.listed(self._prefix):
                known, vector = _read(text)
                if len(vector) == self._embedder.width:
                    self._index.put(known, vector)
        except Exception as error:  # a damaged store costs matches, never the start
            self._tell(f"serve: kept questions could not be read ({type(error).__name__}); they are asked again")


def open_semantic(
    config: SemanticConfig, root: Path, store: DiskStore | None, *, ttl_s: float, tell: Callable[[str], None] = say
) -> Semantic:
    """Loads the embedder; raises as `open_embedder`. root: where a relative path starts."""
    semantic = Semantic(config, open_embedder(config.embedder, root), store, ttl_s=ttl_s, tell=tell)
    tell(in_words(semantic.least))
    return semantic


def _judged(text: str, nearest: Sequence[tuple[Known, float]], least: float) -> Match | None:
    """The first that is alike enough and that no guard refuses; else what is to be said of the most alike one."""
    first: Match | None = None
    for known, similarity in nearest:
        refused = next(iter(objections(text, known.text)), "") if similarity >= least else ""
        if similarity >= least and not refused:
            return Match(known.key, similarity)
        first = first or Match("", similarity, refused)
    return first


def _record(known: Known, vector: Vector) -> str:
    """Half precision: the cosine stays true to 0.001, and the store small."""
    packed = base64.b64encode(vector.astype(np.float16).tobytes()).decode()
    return json.dumps([VERSION, known.key, known.context, known.text, packed], ensure_ascii=False)


def _read(text: str) -> tuple[Known, Vector]:
    """Raises ValueError for what another version wrote."""
    version, key, context, asked, packed = json.loads(text)
    if version != VERSION:
        raise ValueError(f"version {version}")
    return Known(key, context, asked), np.frombuffer(base64.b64decode(packed), np.float16).astype(np.float32)
