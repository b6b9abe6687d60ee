"""From link to link: each is opened, asked and closed before the next, and compared with the one it must equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tunewright.chain import agree, bounds, diagnose, judge
from tunewright.chain.agree import Agreement
from tunewright.chain.bounds import Bounds
from tunewright.chain.links import LocalLink, ServerLink
from tunewright.chain.questions import Question, Reply, sequences
from tunewright.chain.rendering import Rendering
from tunewright.chain.steps import Outcome, Step, Taken
from tunewright.core.errors import (
    ConfigError,
    GateError,
    Interrupted,
    MissingExtraError,
    ResourceError,
    TunewrightError,
)
from tunewright.core.scoring import Measured, Sample, compare, to_score
from tunewright.models.tokens import ChatTokenizer

Scorer = Callable[[Sequence[Sample]], Measured]
SHOWN_EXAMPLES, SHOWN_CHARS = 3, 200
_NOT_OF_THE_LINK = (ResourceError, Interrupted, ConfigError, GateError)
"""Faults of the machine or of the project; they end the chain and break no link."""


@dataclass(frozen=True)
class Task:
    """What all links share. reference: the name of the step that is the tuned model as it is used; dtype: its number
    format; trained: the rendering that training used."""

    questions: tuple[Question, ...]
    tokenizer: ChatTokenizer
    scorer: Scorer
    trained: Rendering
    reference: str
    dtype: str
    max_new_tokens: int
    seed: int


class Walk:
    """One proof. `bounds` are known once the reference was asked."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.bounds: Bounds | None = None
        self._sequences = sequences(task.questions)
        self._taken: dict[str, Taken] = {}
        self._links: dict[str, LocalLink] = {}

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Every step's outcome, in their order. Raises what is no fault of a link."""
        found = [self._take(step) for step in steps]
        against = self._taken.get(self.task.reference)
        for outcome in found:
            taken = self._taken.get(outcome.step.name)
            if taken and against and taken is not against and outcome.difference is None:
                outcome.difference = compare(taken.measured, against.measured, seed=self.task.seed)
        return found

    def _take(self, step: Step) -> Outcome:
        if step.faults:
            return Outcome(step, "broken" if step.accepted else "named", list(step.faults), rendering=step.rendering)
        if step.against and step.against not in self._taken:
            return Outcome(step, "not asked", [f"there is nothing to compare it with, as {step.against} was not asked"])
        try:
            return self._judged(step, self._ask(step))
        except _NOT_OF_THE_LINK:
            raise
        except MissingExtraError as error:
            return Outcome(step, "not asked", [error.problem])
        except TunewrightError as error:
            place = f" ({error.where})" if error.where else ""
            return Outcome(step, "broken", [f"it cannot be asked: {error.problem}{place}"])
        finally:
            step.link.close()
            if step.against in self._links:
                self._links[step.against].close()  # it may have been opened again to look where answers part

    def _ask(self, step: Step) -> Taken:
        task, link, logits = self.task, step.link, None
        if isinstance(link, LocalLink):
            logits = link.next_logits(self._sequences)
            self._links[step.name] = link
            if step.name == task.reference:
                self.bounds = self._measured_bounds(link, logits)
        replies = link.answers(task.questions, max_new_tokens=task.max_new_tokens)
        taken = Taken(replies, logits, task.scorer(self._samples(replies)))
        self._taken[step.name] = taken
        return taken

    def _measured_bounds(self, link: LocalLink, logits: Tensor) -> Bounds:
        prompts = [question.ids for question in self.task.questions[: bounds.NOISE_ROWS]]
        alone = link.next_logits(prompts, at_once=1)
        scale = float(logits.abs().max())
        return bounds.measured(self.task.dtype, together=logits[: len(prompts)], alone=alone, scale=scale)

    def _samples(self, replies: Sequence[Reply]) -> list[Sample]:
        return [
            Sample(
                id=question.row.id,
                prompt="",
                reference=question.row.reference,
                prediction=reply.text.strip(),
                finish=reply.finish,
                metadata=question.row.metadata,
            )
            for question, reply in zip(self.task.questions, replies, strict=True)
        ]

    def _judged(self, step: Step, taken: Taken) -> Outcome:
        task, other = self.task, self._taken.get(step.against)
        found = Outcome(step, "start", score=to_score(taken.measured, seed=task.seed), rendering=step.rendering)
        if isinstance(step.link, ServerLink):
            found.rendering = step.link.rendering
        if other is None:
            return found
        reference = self._taken.get(task.reference)
        if reference is not None and reference is not taken:
            found.difference = compare(taken.measured, reference.measured, seed=task.seed)
        found.bounds = self.bounds
        found.largest = _largest(taken.logits, other.logits)
        found.agreement = self._agreement(step, taken, other)
        found.weights = step.weights() if step.weights else None
        found.examples = self._examples(taken.replies, other.replies, found.agreement)
        causes = self._causes(step, taken, other, found.agreement)
        judge.decide(found, trained=task.trained, measured=taken.measured, limits=self.bounds, causes=causes)
        return found

    def _agreement(self, step: Step, taken: Taken, other: Taken) -> Agreement:
        is_exact = step.claim == "equal" and self.bounds is not None
        return agree.examine(
            taken.replies,
            other.replies,
            self.task.questions,
            tokenizer=self.task.tokenizer,
            reference=self._links.get(step.against) if is_exact else None,
            tie=self.bounds.tie if self.bounds else 0.0,
        )

    def _causes(self, step: Step, taken: Taken, other: Taken, agreement: Agreement) -> list[str]:
        """What can be found out about a server; a server is broken by what it is asked even where its answers agree."""
        if not isinstance(step.link, ServerLink):
            return []
        evidence = diagnose.Evidence(
            questions=self.task.questions,
            replies=taken.replies,
            references=other.replies,
            agreement=agreement if step.claim == "equal" else replace(agreement, different=()),
            reference=self._links.get(step.against),
            trained=self.task.trained,
            max_new_tokens=self.task.max_new_tokens,
        )
        return diagnose.causes(step.link, evidence, artifact=step.artifact)

    def _examples(self, replies: Sequence[Reply], others: Sequence[Reply], found: Agreement) -> list[dict[str, str]]:
        return [
            {
                "id": self.task.questions[row].row.id,
                "expected": others[row].text[:SHOWN_CHARS],
                "answer": replies[row].text[:SHOWN_CHARS],
            }
            for row in found.different[:SHOWN_EXAMPLES]
        ]


def _largest(logits: Tensor | None, other: Tensor | None) -> float | None:
    if logits is None or other is None or logits.shape != other.shape:
        return None
    return float((logits - other).abs().max())
