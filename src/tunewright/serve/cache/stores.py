"""Where answers are kept: memory, disk, or a Redis or Valkey that several servers share. Values are JSON text."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from tunewright.core.errors import ConfigError

REDIS_TIMEOUT_S = 1.0
"""A cache that answers later than this is no help: the request goes to the model."""
DISK_TIMEOUT_S = 1.0
PREFIX = "tunewright:answer:"


class Store(Protocol):
    """Texts by key, each for a limited time."""

    def get(self, key: str) -> str | None:
        """The text, or None; may raise the store's own error."""
        ...

    def put(self, key: str, text: str, ttl_s: float) -> None:
        """Keeps it for `ttl_s` seconds; may raise the store's own error."""
        ...

    def close(self) -> None:
        """Gives back files and connections."""
        ...


class MemoryStore:
    """The `capacity` texts used last; one event loop's own."""

    def __init__(self, capacity: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._clock = capacity, clock
        self._texts: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, key: str) -> str | None:
        """The text while its time lasts."""
        ends, text = self._texts.get(key, (0.0, ""))
        if ends <= self._clock():
            self._texts.pop(key, None)
            return None
        self._texts.move_to_end(key)
        return text

    def put(self, key: str, text: str, ttl_s: float) -> None:
        """Keeps it; the text that was not used for longest goes."""
        self._texts[key] = (self._clock() + ttl_s, text)
        self._texts.move_to_end(key)
        if len(self._texts) > self._capacity:
            self._texts.popitem(last=False)

    def close(self) -> None:
        """Nothing to give back."""


class DiskStore:
    """Texts in a folder (diskcache), at most `max_bytes`. Entries are JSON, never pickles: whoever can write into the
    folder must not be able to run code here."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        from diskcache import Cache, JSONDisk

        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self._cache: Any = Cache(
            str(folder),
            disk=JSONDisk,
            size_limit=max_bytes,
            eviction_policy="least-recently-used",
            timeout=DISK_TIMEOUT_S,
        )

    def get(self, key: str) -> str | None:
        """The text while its time lasts."""
        text = self._cache.get(key)
        return text if isinstance(text, str) else None

    def put(self, key: str, text: str, ttl_s: float) -> None:
        """Keeps it on disk."""
        self._cache.set(key, text, expire=ttl_s)

    def listed(self, prefix: str) -> Iterator[str]:
        """All texts whose key begins so, in the order in which they came."""
        for key in self._cache:
            if isinstance(key, str) and key.startswith(prefix) and (text := self.get(key)) is not None:
                yield text

    def close(self) -> None:
        """Closes the database."""
        self._cache.close()


class SharedStore:
    """Texts in Redis or Valkey; its `maxmemory` bounds the size."""

    def __init__(self, url: str) -> None:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        try:
            self._client: Any = redis.Redis.from_url(
                url,
                socket_timeout=REDIS_TIMEOUT_S,
                socket_connect_timeout=REDIS_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                decode_responses=True,
            )
        except ValueError as error:
            raise ConfigError(f"this is no Redis address: {error}", where="serve.cache.store") from None

    def get(self, key: str) -> str | None:
        """The text while its time lasts; raises redis.RedisError."""
        text = self._client.get(PREFIX + key)
        return text if isinstance(text, str) else None

    def put(self, key: str, text: str, ttl_s: float) -> None:
        """Keeps it; raises redis.RedisError."""
        self._client.set(PREFIX + key, text, px=max(1, round(1000 * ttl_s)))

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()
