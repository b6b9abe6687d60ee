"""The questions that have kept answers, found by their vectors. Plain numpy: one product with all of them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Known:
    """A question whose answer is kept. key: of the answer; context: the hash of all that must be the same; text: what
    is compared."""

    key: str
    context: str
    text: str


class VectorIndex:
    """At most `capacity` questions; the one that was not asked for longest goes first."""

    def __init__(self, capacity: int, width: int) -> None:
        """width: of the vectors."""
        self._vectors = np.zeros((capacity, width), np.float32)
        self._free = list(range(capacity - 1, -1, -1))
        self._places: OrderedDict[str, int] = OrderedDict()
        self._known: dict[int, Known] = {}
        self._in_context: defaultdict[str, set[int]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._places)

    def put(self, known: Known, vector: NDArray[np.float32]) -> None:
        """Adds a question, or replaces the one with its key. vector: [width], length 1."""
        self.remove(known.key)
        if not self._free:
            self.remove(next(iter(self._places)))
        place = self._free.pop()
        self._vectors[place] = vector
        self._places[known.key], self._known[place] = place, known
        self._in_context[known.context].add(place)

    def remove(self, key: str) -> None:
        """Forgets it; harmless for a key that is not there."""
        place = self._places.pop(key, None)
        if place is None:
            return
        context = self._known.pop(place).context
        self._in_context[context].discard(place)
        if not self._in_context[context]:
            del self._in_context[context]
        self._free.append(place)

    def touch(self, key: str) -> None:
        """It was asked again."""
        if key in self._places:
            self._places.move_to_end(key)

    def nearest(self, context: str, vector: NDArray[np.float32], count: int) -> list[tuple[Known, float]]:
        """The most alike questions of one context with their cosine, best first; of equal ones the older first."""
        places = np.array(sorted(self._in_context.get(context, ())), dtype=np.int64)
        if not len(places):
            return []
        cosines = self._vectors[places] @ vector
        best = np.argsort(-cosines, kind="stable")[:count]
        return [(self._known[int(places[at])], float(cosines[at])) for at in best]
