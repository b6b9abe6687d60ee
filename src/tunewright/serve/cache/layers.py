"""The answer cache of one server: memory first, then the store; a store that fails costs a hit, never an answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from tunewright.core.events import say
from tunewright.serve.cache.semantic import Semantic, open_semantic
from tunewright.serve.cache.stores import DiskStore, MemoryStore, SharedStore, Store
from tunewright.serve.config import CacheConfig
from tunewright.serve.reply import Reply

PAUSE_S = 10.0
"""After a failure the store is left alone for so long."""


class AnswerCache:
    """Replies by question key. All methods but `close` belong to one event loop; the store is used on threads."""

    def __init__(
        self,
        config: CacheConfig,
        store: Store | None,
        *,
        semantic: Semantic | None = None,
        tell: Callable[[str], None] = say,
    ) -> None:
        """store: None keeps answers in memory only; semantic: also finds questions that mean the same; `tell` gets a
        line when the store fails."""
        self.semantic = semantic
        self.sampled = config.sampled
        """Whether answers that were drawn without a seed are kept too."""
        self._ttl_s = config.ttl_s
        self._memory = MemoryStore(config.capacity)
        self._store, self._tell = store, tell
        self._paused_until = 0.0
        self._writes: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> Reply | None:
        """The kept reply, or None."""
        text = self._memory.get(key)
        if text is None and self._is_usable:
            text = await self._guarded(self._read, key)
            found = self._memory.get(key)  # a generation may have ended while the store was asked
            text = text if found is None else found
        return _reply(text) if text is not None else None

    def put(self, key: str, reply: Reply) -> None:
        """Keeps a reply: at once in memory, soon in the store."""
        text = reply.to_json()
        self._memory.put(key, text, self._ttl_s)
        if self._is_usable:
            task = asyncio.ensure_future(self._write(key, text))
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    async def get_alike(self, context: str, text: str) -> tuple[Reply | None, str]:
        """(the kept reply to a question that means the same as `text`, or None; how alike it is and what refused it, in
        the form of `Match.told`). context: the hash of all else, which must be the same."""
        assert self.semantic is not None
        while (match := await self.semantic.find(context, text)) is not None:
            if not match.key:
                return None, match.told
            reply = await self.get(match.key)
            self.semantic.used(match.key, is_there=reply is not None)
            if reply is not None:
                return reply, match.told
        return None, ""

    def close(self) -> None:
        """Gives back what the store holds open."""
        if self.semantic is not None:
            self.semantic.close()
        if self._store is not None:
            self._store.close()

    @property
    def _is_usable(self) -> bool:
        return self._store is not None and time.monotonic() >= self._paused_until

    async def _write(self, key: str, text: str) -> None:
        def write(_: str) -> None:
            assert self._store is not None
            self._store.put(key, text, self._ttl_s)

        await self._guarded(write, key)

    def _read(self, key: str) -> str | None:
        assert self._store is not None
        return self._store.get(key)

    async def _guarded(self, call: Callable[[str], str | None], key: str) -> str | None:
        """What the store says; None when it fails. Each client library has errors of its own: all mean no hit."""
        try:
            text = await asyncio.to_thread(call, key)
        except Exception as error:
            self._paused_until = time.monotonic() + PAUSE_S
            self._tell(f"serve: the answer cache's store failed ({type(error).__name__}); it rests for {PAUSE_S:g} s")
            return None
        return text


def open_cache(
    config: CacheConfig, folder: Path, *, root: Path = Path(), tell: Callable[[str], None] = say
) -> AnswerCache | None:
    """The cache that the project file asks for; None when it is off. `folder`: where the disk store lies; root: where
    a relative path of the embedder starts. Raises as `open_embedder`."""
    if config.store == "off":
        return None
    store: Store | None = None
    if config.store == "disk":
        store = DiskStore(folder, config.max_mb * 1_000_000)
    elif config.store != "memory":
        store = SharedStore(config.url())
    semantic = None
    if config.semantic is not None:
        # with a shared store each server knows its own questions only
        outlives = store if isinstance(store, DiskStore) else None
        semantic = open_semantic(config.semantic, root, outlives, ttl_s=config.ttl_s, tell=tell)
    return AnswerCache(config, store, semantic=semantic, tell=tell)


def _reply(text: str) -> Reply | None:
    """None for what another version of this program wrote."""
    try:
        return Reply.from_json(text)
    except (ValueError, TypeError):
        return None
