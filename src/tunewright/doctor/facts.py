"""One line of the doctor: what was found, whether that is well, what to do."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Verdict = Literal["ok", "warn", "fail"]


class Fact(BaseModel):
    """`fact` in words with units; `fix` is the next step where the verdict is not ok."""

    model_config = ConfigDict(frozen=True)

    name: str
    fact: str
    verdict: Verdict = "ok"
    fix: str = ""


def table(facts: Sequence[Fact]) -> str:
    """Aligned lines, the fix below its fact, and the counts at the end."""
    width = max((_width(fact.name) for fact in facts), default=0)
    lines = []
    for fact in facts:
        lines.append(f"{fact.verdict:<5} {fact.name}{' ' * (width - _width(fact.name))}  {fact.fact}")
        if fact.fix:
            lines.append(f"{' ' * (width + 8)}next step: {fact.fix}")
    counts = {verdict: sum(fact.verdict == verdict for fact in facts) for verdict in ("ok", "warn", "fail")}
    return "\n".join([*lines, "", ", ".join(f"{count} {verdict}" for verdict, count in counts.items())])


def failed(facts: Sequence[Fact]) -> bool:
    """Whether any check failed: exit code 1."""
    return any(fact.verdict == "fail" for fact in facts)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
