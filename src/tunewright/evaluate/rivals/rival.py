"""What a rival is: a system with its questions, and why it is cheaper than training a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.evaluate.exam import Exam
from tunewright.evaluate.prompts import Prompt
from tunewright.evaluate.rivals.options import RIVALS, RivalOptions
from tunewright.evaluate.scorer import RowMetric
from tunewright.evaluate.systems.cache import AnswerCache
from tunewright.evaluate.systems.protocol import ChatModel

TAKEN = ("base", "tuned", "promoted")
"""Names that systems of the evaluation have already."""


@dataclass(frozen=True)
class Ground:
    """What rivals are built from. open_base: gives the base model under another name, not yet loaded; root: where
    relative paths start; where: the rival's place in the project file, for errors."""

    exam: Exam
    training: tuple[Conversation, ...]
    open_base: OpenBase
    cache: AnswerCache
    root: Path
    where: str = "evaluate.rivals"


class OpenBase(Protocol):
    """Gives the base model as a system of this name."""

    def __call__(self, name: str) -> ChatModel: ...


@dataclass(frozen=True)
class Price:
    """Of a million tokens; None where the project file does not say."""

    input: float | None
    output: float | None
    currency: str


@dataclass(frozen=True)
class Entrant:
    """A rival that is ready to answer; nothing is loaded yet. prompts: of the rows that it answers, in their order;
    why: what makes it cheaper, behind its name; signature: what else decides its numbers, behind each of them."""

    name: str
    kind: str
    system: ChatModel
    prompts: list[Prompt]
    why: str
    signature: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    price: Price | None = None


class Rival(Protocol):
    """A plug-in, made from its options."""

    def enter(self, ground: Ground) -> Entrant:
        """Raises ConfigError or ArtifactError for what cannot work, before anything is answered."""
        ...


def entrants(ground: Ground) -> list[Entrant]:
    """The rivals of the project file. Raises ConfigError for two of one name."""
    found: list[Entrant] = []
    for index, options in enumerate(ground.exam.config.rivals):
        where = f"evaluate.rivals.{index}"
        rival: Rival = RIVALS.target(options.name)(options)
        at = Ground(ground.exam, ground.training, ground.open_base, ground.cache, ground.root, where)
        entrant = rival.enter(at)
        if entrant.name in (*TAKEN, *(other.name for other in found)):
            raise ConfigError(
                f"there is another system named '{entrant.name}'", where=where, fix="give this rival a `title`"
            )
        found.append(entrant)
    return found


def title_of(options: RivalOptions, default: str) -> str:
    """How tables call the rival."""
    return options.title.strip() or default


def scoring(exam: Exam, prompts: Sequence[Prompt]) -> list[RowMetric]:
    """The metrics over answers whose rows were all asked, so that a difference is one on the same rows. A metric of
    recorded conversations says nothing of a system that answers."""
    asked = {prompt.conversation.id for prompt in prompts}
    chosen = []
    for metric in exam.metrics:
        rows = [row.id for row in exam.rows if metric.applies(row.metadata)]
        if rows and asked.issuperset(rows) and not getattr(metric, "of_recordings", False):
            chosen.append(metric)
    return chosen
