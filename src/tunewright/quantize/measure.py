"""What is measured of a variant: speed, memory, answers and their score, perplexity."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.scoring import Floats, Measured, Sample
from tunewright.models.row_loss import row_losses
from tunewright.models.speed import Latency
from tunewright.models.template import tools_of
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example
from tunewright.quantize.engines import BATCH, Answer, Engine
from tunewright.quantize.memory import PeakMemory

Scorer = Callable[[Sequence[Sample]], Measured]
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
    batch_tokens: int
    seed: int

    @property
    def context(self) -> int:
        """Tokens of the longest prompt and what is generated behind it."""
        generated = max(self.exam.max_new_tokens, self.latency_tokens, self.batch_tokens)
        return max(map(len, self.prompts)) + generated + 8

    @property
    def batch(self) -> list[list[int]]:
        """Eight prompts; the first ones again where there are fewer."""
        return [self.prompts[place % len(self.prompts)] for place in range(BATCH)]


@dataclass(frozen=True)
class Result:
    """What was measured of one variant."""

    engine: str
    bytes: int
    latency: Latency
    answers: list[Answer]
    measured: Measured
    perplexity: Measured
    perplexity_engine: str
    batch_tokens_per_second: float
    """Of eight answers together."""
    peak_bytes: int
    """Memory while the engine loaded it and generated."""
    build: str
    """The engine's version."""
    seconds: dict[str, float]
    """What each measurement took."""
    logit_error: float = 0.0
    """Relative distance of its logits from the 16-bit model's."""
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


def measure(
    task: Task,
    open_engine: Callable[[], Engine],
    *,
    size: int,
    text_model: Callable[[Engine], Any],
    prove: Callable[[Any], float],
) -> Result:
    """Opens the engine, runs the task in it, and the perplexity in transformers.

    size: bytes of the weight files. text_model: the model whose perplexity is measured, opened when llama.cpp has done
    its part. prove: its distance from the 16-bit model; raises when it is another model.
    """
    clock = [time.monotonic()]
    with ExitStack() as stack:
        with PeakMemory() as peak:
            engine = open_engine()
            stack.callback(engine.close)
            if engine.process_id is not None:
                peak.follow(engine.process_id)
            clock.append(time.monotonic())
            latency = engine.latency(task.prompts[0], new_tokens=task.latency_tokens, repeats=task.latency_repeats)
            clock.append(time.monotonic())
            batch = engine.throughput(task.batch, new_tokens=task.batch_tokens)
            clock.append(time.monotonic())
            answers = engine.answers(task.prompts, max_new_tokens=task.exam.max_new_tokens)
            clock.append(time.monotonic())
        model = text_model(engine)
    error, text = prove(model), perplexity(model, task.text)
    clock.append(time.monotonic())
    answered = samples(task, answers)
    took = [round(end - start, 3) for start, end in pairwise(clock)]
    return Result(
        engine=engine.name,
        bytes=size,
        latency=latency,
        answers=answers,
        measured=task.exam.scorer(answered),
        perplexity=text,
        perplexity_engine=engine.name if engine.name == "transformers" else DEQUANTIZED,
        batch_tokens_per_second=batch,
        peak_bytes=peak.bytes,
        build=engine.build,
        seconds=dict(zip(("open_s", "latency_s", "batch_s", "task_s", "perplexity_s"), took, strict=True)),
        logit_error=error,
        refusal=task.exam.judge(answered) if task.exam.judge else "",
    )


def perplexity(model: Any, text: Sequence[Example]) -> Measured:
    """exp of the mean cross entropy over all labels; a line a conversation, so that models compare on the same rows."""
    losses = row_losses(model, text, label="perplexity")
    counts = [example.trained for example in text]
    statistics = np.array([losses, counts], dtype=np.float64).T
    return Measured("perplexity", 1, statistics, _exp_of_mean, higher_is_better=False)


def _exp_of_mean(statistics: Floats) -> Floats:
    """[R, n, (sum of losses, number of labels)] -> [R]."""
    sums = statistics.sum(axis=1)
    found: Floats = np.exp(sums[:, 0] / sums[:, 1])
    return found


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
