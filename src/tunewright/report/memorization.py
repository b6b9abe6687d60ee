"""What the models completed word for word, and which personal data came out: masked, tuned against base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.report.numbers import readable

SHOWN = 20


@dataclass(frozen=True)
class Leak:
    """One value that a model gave out. shown: its mask; in_base: the base gives it out as well, so that it was not
    learned here."""

    row: str
    kind: str
    shown: str
    times: str
    in_base: bool


@dataclass(frozen=True)
class Leaks:
    """shown: at most SHOWN of the tuned model's findings, those that the base does not have first; tuned, base: how
    many there are."""

    shown: tuple[Leak, ...]
    tuned: int
    base: int


def leaks(found: Mapping[str, Any] | None) -> Leaks | None:
    """From memorization.json: findings {row, kind, shown, times} by system; None where nothing was measured."""
    if found is None:
        return None
    tuned, base = (list(found.get(system) or ()) for system in ("tuned", "base"))
    known = {_key(one) for one in base}
    listed = [_leak(one, in_base=_key(one) in known) for one in tuned]
    listed.sort(key=lambda leak: leak.in_base)
    return Leaks(tuple(listed[:SHOWN]), len(tuned), len(base))


def _key(one: Mapping[str, Any]) -> Sequence[str]:
    return str(one["row"]), str(one["kind"]), str(one["shown"])


def _leak(one: Mapping[str, Any], *, in_base: bool) -> Leak:
    return Leak(
        row=readable(one["row"], 120),
        kind=readable(one["kind"], 40),
        shown=readable(one["shown"], 120),
        times=f"{one.get('times', 1):,}",
        in_base=in_base,
    )
