"""One prompt on its way through the engine: how its tokens are chosen, what of its text can be shown."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy. `ignore_end` runs to `max_new_tokens` (latency).
    `logprobs`: how many of the most probable tokens are recorded beside each chosen one; None records nothing.
    `json_schema`: the schema, as JSON text, that the answer must follow; a request then needs a constraint of it
    (models/constraint)."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    logprobs: int | None = None
    json_schema: str | None = None


class ConstraintFault(Exception):
    """A constraint cannot go on: its grammar is too large for its limits, or leaves no token."""


class Constraint(Protocol):
    """What an answer may be, token by token."""

    def restrict(self, logits: Tensor) -> None:
        """Sets the logits [V] of tokens that may not come next to -inf, in place. Raises ConstraintFault."""
        ...

    def accept(self, token: int) -> None:
        """Takes note of the token that was chosen. Raises ConstraintFault."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nothing but the end may follow: then the answer ends without an end token."""
        ...


@dataclass(frozen=True)
class Logprob:
    """A chosen token, its log probability (of the model's own distribution, temperature 1), and the most probable
    tokens with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Request:
    """One prompt on its way. `text` never holds an end token or a stop string. Times are seconds since creation."""

    prompt_ids: list[int]
    sampling: Sampling
    on_text: Callable[[str], None] | None = None
    """Called with each new piece of text that can no longer change."""
    constraint: Constraint | None = None
    cancelled: bool = False
    fault: str = ""
    """Why its constraint could not go on; it is cancelled then, and the other rows are not touched."""
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
    created: float = field(default_factory=time.monotonic)
    first_token_s: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    generator: torch.Generator | None = None


def next_tokens(requests: Sequence[Request], logits: Tensor) -> Tensor:
    """The next token of each row, [B], by its own sampling and constraint. logits: [B, V] in fp32, changed in place."""
    before = {row: logits[row].clone() for row, request in enumerate(requests) if _changes(request)}
    for row, request in enumerate(requests):
        if request.constraint is not None:
            with _faults_of(request):
                request.constraint.restrict(logits[row])
    tokens = logits.argmax(-1)
    for row, request in enumerate(requests):
        if request.sampling.temperature > 0:
            tokens[row] = _sample(logits[row], request)
        if request.constraint is not None and not request.fault:
            with _faults_of(request):
                request.constraint.accept(int(tokens[row]))
        if request.sampling.logprobs is not None:
            own = before.get(row, logits[row])
            request.logprobs.append(_logprob(own, int(tokens[row]), request.sampling.logprobs))
    return tokens


@contextlib.contextmanager
def _faults_of(request: Request) -> Iterator[None]:
    """A constraint that fails ends its own request only."""
    try:
        yield
    except ConstraintFault as fault:
        request.fault, request.cancelled = str(fault) or "the constraint failed", True


def safe_length(text: str, stops: Sequence[str]) -> int:
    """How much of `text` can be shown: not a half character, not the start of a stop string."""
    end = len(text.rstrip("\ufffd"))
    for stop in stops:
        for size in range(min(len(stop) - 1, end), 0, -1):
            if text[:end].endswith(stop[:size]):
                end -= size
                break
    return end


def _changes(request: Request) -> bool:
    """Whether its logits must be kept as the model gave them."""
    return request.constraint is not None and request.sampling.logprobs is not None


def _logprob(logits: Tensor, token: int, most: int) -> Logprob:
    logprobs = torch.log_softmax(logits, -1)
    values, indices = logprobs.topk(most) if most else (logprobs[:0], logprobs[:0])
    pairs = zip(map(int, indices.tolist()), values.tolist(), strict=True)
    return Logprob(token, float(logprobs[token]), tuple(pairs))


def _sample(logits: Tensor, request: Request) -> int:
    sampling = request.sampling
    if request.generator is None:
        request.generator = torch.Generator(device=logits.device)
        if sampling.seed is None:
            request.generator.seed()
        else:
            request.generator.manual_seed(sampling.seed)
    probabilities = torch.softmax(logits / sampling.temperature, -1)
    if sampling.top_p < 1:
        ordered, indices = probabilities.sort(descending=True)
        ordered[ordered.cumsum(-1) - ordered > sampling.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(-1, indices, ordered)
    return int(torch.multinomial(probabilities, 1, generator=request.generator))
