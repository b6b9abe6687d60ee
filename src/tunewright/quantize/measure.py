"""One row of the table for each variant: size, speed, task score against 16 bits, perplexity, agreement."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.scoring import Difference, Measured, Sample, Score, compare, to_score
from tunewright.models.loss import mean_loss
from tunewright.models.speed import Latency
from tunewright.models.template import tools_of
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example
from tunewright.quantize.engines import Answer, Engine

Scorer = Callable[[Sequence[Sample]], Measured]
Row = dict[str, Any]
WEIGHTS = ("*.safetensors", "*.gguf")
DEQUANTIZED = "transformers, dequantized weights"


@dataclass(frozen=True)
class Exam:
    """The task score of the project, handed over by the pipeline so that stages need not meet. `applies` picks the test
    rows, `judge` gives the reason why a variant with these answers is refused (an empty text: none), `name` says what
    is scored: another one makes the stage run again."""

    scorer: Scorer
    applies: Callable[[Conversation], bool]
    max_new_tokens: int
    batch_size: int
    name: str = ""
    judge: Callable[[Sequence[Sample]], str] | None = None


@dataclass(frozen=True)
class Task:
    """What every variant is asked. prompts: token ids, one list a row; text: all-token examples for the perplexity."""

    rows: tuple[Conversation, ...]
    prompts: tuple[list[int], ...]
    text: tuple[Example, ...]
    exam: Exam
    latency_tokens: int
    latency_repeats: int
    seed: int

    @property
    def context(self) -> int:
        """Tokens of the longest prompt and what is generated behind it."""
        return max(map(len, self.prompts)) + max(self.exam.max_new_tokens, self.latency_tokens) + 8


@dataclass(frozen=True)
class Result:
    """What was measured of one variant."""

    engine: str
    bytes: int
    latency: Latency
    answers: list[Answer]
    measured: Measured
    perplexity: float
    perplexity_engine: str
    seconds: dict[str, float]
    """What each measurement took."""
    refusal: str = ""
    """Why a gate refuses it."""


def choose_rows(
    test: Sequence[Conversation], applies: Callable[[Conversation], bool], *, limit: int, seed: int
) -> list[Conversation]:
    """Up to `limit` test rows the task metric scores, drawn with `seed`, in file order.

    Raises ArtifactError when it scores none.
    """
    fitting = [row for row in test if applies(row)]
    if not fitting:
        raise ArtifactError(
            "the primary metric scores no row of the test split", where="test.jsonl", fix="check evaluate.primary"
        )
    drawn = random.Random(seed).sample(range(len(fitting)), min(limit, len(fitting)))  # noqa: S311 (no secret)
    return [fitting[index] for index in sorted(drawn)]


def prompts_of(rows: Sequence[Conversation], tokenizer: ChatTokenizer, *, room: int) -> list[list[int]]:
    """The token ids a server would get, cut on the left to `room` tokens."""
    assert room > 0, room
    return [tokenizer.prompt_ids(row.prompt, tools=tools_of(row.metadata))[-room:] for row in rows]


def all_token_examples(
    test: Sequence[Conversation], tokenizer: ChatTokenizer, *, tokens: int, max_length: int
) -> list[Example]:
    """Rendered conversations with a label on every token but the first, until `tokens` labels are there."""
    examples: list[Example] = []
    left = tokens
    for row in test:
        if left <= 0:
            break
        ids = tokenizer.messages_ids(row.messages)[: min(max_length, left + 1)]
        if len(ids) > 1:
            examples.append(Example(tuple(ids), (IGNORED, *ids[1:]), row.id))
            left -= len(ids) - 1
    return examples


def weight_bytes(folder: Path) -> int:
    """Size of a variant's weight files."""
    return sum(path.stat().st_size for pattern in WEIGHTS for path in folder.glob(pattern))


def measure(task: Task, engine: Engine, *, size: int, perplexity_model: Any, perplexity_engine: str) -> Result:
    """Runs the task in `engine` and the perplexity in transformers. size: bytes of the weight files."""
    clock = [time.monotonic()]
    latency = engine.latency(task.prompts[0], new_tokens=task.latency_tokens, repeats=task.latency_repeats)
    clock.append(time.monotonic())
    answers = engine.answers(task.prompts, max_new_tokens=task.exam.max_new_tokens)
    clock.append(time.monotonic())
    loss, _ = mean_loss(perplexity_model, task.text, label="perplexity")
    clock.append(time.monotonic())
    answered = samples(task, answers)
    took = [round(end - start, 3) for start, end in pairwise(clock)]
    return Result(
        engine=engine.name,
        bytes=size,
        latency=latency,
        answers=answers,
        measured=task.exam.scorer(answered),
        perplexity=math.exp(loss),
        perplexity_engine=perplexity_engine,
        seconds=dict(zip(("latency_s", "task_s", "perplexity_s"), took, strict=True)),
        refusal=task.exam.judge(answered) if task.exam.judge else "",
    )


def samples(task: Task, answers: Sequence[Answer]) -> list[Sample]:
    """The rows with their answers, as the scorer takes them."""
    return [
        Sample(
            id=row.id,
            prompt=row.prompt[-1].content or "" if row.prompt else "",
            reference=row.reference,
            prediction=answer.text,
            seconds=answer.seconds,
            new_tokens=answer.new_tokens,
            finish=answer.finish,
            metadata=row.metadata,
        )
        for row, answer in zip(task.rows, answers, strict=True)
    ]


def agreement(answers: Sequence[Answer], reference: Sequence[Answer]) -> float:
    """Share of rows whose greedy text is the 16-bit model's, to the letter."""
    same = sum(answer.text == other.text for answer, other in zip(answers, reference, strict=True))
    return same / len(reference)


def loss_of(difference: Difference, measured: Measured) -> float:
    """How much of the task score is lost, as a share of the whole scale (points are hundredths); negative is a gain."""
    lost = -difference.difference if measured.higher_is_better else difference.difference
    return lost / 100 if measured.unit == "points" else lost


def table_row(scheme: str, result: Result, reference: Result, *, max_loss: float, seed: int, note: str) -> Row:
    """The row of table.json. A variant that loses more than `max_loss`, or that
    a gate refuses, is not accepted, and the note says why."""
    score = to_score(result.measured, seed=seed)
    difference = compare(result.measured, reference.measured, seed=seed)
    loss = loss_of(difference, result.measured)
    is_close = loss <= max_loss + 1e-9
    reason = "" if is_close else f"refused: loses {loss:.3f} of {score.metric}, the limit is {max_loss:.3f}"
    return {
        "scheme": scheme,
        "bytes": result.bytes,
        "ratio": result.bytes / reference.bytes,
        "engine": result.engine,
        "tokens_per_second": result.latency.tokens_per_second,
        "latency_s": result.latency.p50_s,
        **_task_columns(score, difference),
        "perplexity": result.perplexity,
        "perplexity_engine": result.perplexity_engine,
        "agreement": agreement(result.answers, reference.answers),
        "accepted": is_close and not result.refusal,
        "note": "; ".join(part for part in (reason, result.refusal, note) if part),
    }


def _task_columns(score: Score, difference: Difference) -> Row:
    return {
        "task_metric": score.metric,
        "task_score": score.value,
        "task_low": score.low,
        "task_high": score.high,
        "task_change": difference.difference,
        "task_p": difference.p,
    }


def speed_note(result: Result, reference: Result, *, compressed: bool) -> str:
    """What the speed column does not say by itself."""
    factor = result.latency.tokens_per_second / max(reference.latency.tokens_per_second, 1e-9)
    if compressed:
        return (
            f"transformers multiplies dequantized weights, so the format gains no speed here: {factor:.2f} times the "
            "16-bit speed; engines with integer kernels (vLLM) gain"
        )
    if result.engine == reference.engine:
        return ""
    return (
        f"{factor:.2f} times the 16-bit speed of {reference.engine}; llama.cpp also rounds activations to 8 bits, "
        "which score and same text see and the perplexity does not"
    )
