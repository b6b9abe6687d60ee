"""Which model answers a request: by its name, and for a share of the main model's requests a canary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunewright.serve import wire
from tunewright.serve.config import CanaryConfig
from tunewright.serve.desk import Desk
from tunewright.serve.wire import ApiError

_BUCKETS = 10_000


@dataclass(frozen=True)
class Served:
    """A model that answers. scores: what it reached in evaluation, by metric, for the log."""

    model: wire.Model
    desk: Desk
    scores: Mapping[str, float] = field(default_factory=dict)


class Switch:
    """`main` answers under its own name; `named` under theirs."""

    def __init__(self, main: Served, canary: CanaryConfig | None = None) -> None:
        self.main = main
        self.named: dict[str, Served] = {}
        self._canary = canary

    def find(self, name: str, key: str) -> Served:
        """The model of this name; under the main name the canary for its share of the keys. Raises ApiError (404)."""
        if name == self.main.model.id:
            canary = self._canary
            if canary is not None and canary.name in self.named and in_share(key, canary.percent):
                return self.named[canary.name]
            return self.main
        self.check(name)
        return self.named[name]

    def check(self, name: str) -> None:
        """Raises ApiError (404) for a model that is not served."""
        if name != self.main.model.id and name not in self.named:
            raise ApiError(404, f"The model `{name[:200]}` does not exist.", param="model", code="model_not_found")

    def models(self) -> list[wire.Model]:
        """What /v1/models lists."""
        return [self.main.model, *(served.model for served in self.named.values())]

    def facts(self, served: Served) -> dict[str, object]:
        """What a request's log line says of the model that answered: which, and with a canary the scores of both."""
        if not self.named:
            return {}
        said: dict[str, object] = {"served": served.model.id}
        if self._canary is not None and self._canary.name in self.named:
            both = {"main": self.main.scores, "canary": self.named[self._canary.name].scores}
            said |= {f"{who}_score": scores for who, scores in both.items() if scores}
        return said


def in_share(key: str, percent: float) -> bool:
    """Whether `key` belongs to the given share of all keys: always the same ones, and no others when it grows."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return number % _BUCKETS < percent / 100 * _BUCKETS
