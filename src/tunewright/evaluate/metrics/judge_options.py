"""Options of the metric `judge`; imports core only, so that `evaluate.config` can import it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.evaluate.metrics.options import RowMetricOptions
from tunewright.evaluate.systems.options import Address


class JudgeOptions(RowMetricOptions):
    """A language model compares the answers with the base model's, by any OpenAI-compatible service.

    Questions
    and answers are sent there; nothing is sent before this metric is chosen."""

    name: Literal["judge"] = "judge"
    address: Address
    """The service: `base_url`, `model` and, where it wants a key, `api_key_env`. The judge should be another model than
    those it judges."""
    rows: int = Field(default=100, ge=2)
    """At most this many answers, drawn with the project's seed; each costs two questions."""
    language: Literal["auto", "zh", "en"] = "auto"
    """Language in which the judge is asked; `auto`: that of the question."""
    criteria: str = ""
    """What a better answer is, in your words; default: right, complete, useful and safe."""
    shows_reference: bool = True
    """Whether the judge sees the right answer of a row that has one."""
    agreement: str = ""
    """Pairs that people have decided: the file that `tunewright rate --export preferences` writes, from the project
    file's folder. The judge decides them too, and how often it agrees is printed. Without it no gate may name
    `judge.win_rate`."""
    agreement_rows: int = Field(default=100, ge=20)
    """At most this many of those pairs; each costs two questions."""
    max_tokens: int = Field(default=512, ge=16)
    """Longest reply of the judge. One that thinks before it answers needs more."""

    @property
    def named_files(self) -> tuple[str, ...]:
        """Files whose content decides the numbers."""
        return (self.agreement,) if self.agreement else ()
