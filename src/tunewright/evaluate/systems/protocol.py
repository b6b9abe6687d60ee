"""What every system that answers has in common, whether it is in memory, in another engine or behind HTTP.

Loads no torch. `local.LocalModel` (base, adapter beside the base, merged, full, compressed), `engine.EngineModel` (a
variant in llama.cpp) and `endpoint.Endpoint` are such systems; rivals without a chat model are too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tunewright.core.scoring import Sample
from tunewright.evaluate.prompts import Prompt

Kind = Literal["base", "adapter", "merged", "full", "quantized", "endpoint", "classifier"]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Asking:
    """How answers are made. Always greedy. labels: known ones, which bound the length of an answer that is a label."""

    max_new_tokens: int
    batch_size: int = 16
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """A greedy answer without its end token. finish: "stop" or "length"; seconds: since it was asked, the wait for a
    place in the batch included, and 0 for an answer from the cache; prompt_tokens: -1 where nobody counted them."""

    text: str
    new_tokens: int
    finish: str
    seconds: float = 0.0
    prompt_tokens: int = -1


@runtime_checkable
class ChatModel(Protocol):
    """A system that answers.

    name: for progress lines and tables. sha256: of everything that decides its answers (weights, adapter, template, or
    address and model name of an endpoint); the cache trusts it. gives_logits: whether `next_logits` works. chooses:
    whether `choose` does. tokenizer: None where the system renders messages itself and `Prompt.ids` may be empty.
    max_length: tokens of prompt and answer together, None where only the system knows.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def sha256(self) -> str: ...
    @property
    def gives_logits(self) -> bool: ...
    @property
    def chooses(self) -> bool: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def max_length(self) -> int | None: ...

    def answer(self, prompts: Sequence[Prompt], asking: Asking) -> list[Sample]:
        """One sample a prompt, in their order."""
        ...

    def choose(self, prompts: Sequence[Prompt], labels: Sequence[str], *, batch_size: int) -> list[str]:
        """For each prompt the label that is the most probable whole answer. Only where `chooses`."""
        ...

    def time_answer(self, prompt: Prompt, asking: Asking) -> float:
        """Wall seconds of one answer, asked alone and made now: never from the cache."""
        ...

    def next_logits(self, ids: Sequence[Sequence[int]]) -> Logits:
        """float32 [n, V]: the logits after each of the token sequences. Only where `gives_logits`."""
        ...

    def close(self) -> None:
        """Frees its memory; asked again, it opens again."""
        ...


OnAnswer = Callable[[int, Answer], None]
"""Called with the place of a question and its answer as soon as it is there."""


class Engine(Protocol):
    """An engine of another library over token ids; `quantize.engines.LlamaCppEngine` is one. A caller that may know
    both rooms hands over what opens it (`EngineModel`)."""

    def answers(self, prompts: Sequence[list[int]], *, max_new_tokens: int) -> Sequence[EngineAnswer]:
        """Greedy answers in the order of `prompts`."""
        ...

    def close(self) -> None:
        """Frees the memory."""
        ...


class EngineAnswer(Protocol):
    """What such an engine says of one prompt."""

    @property
    def text(self) -> str: ...
    @property
    def new_tokens(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def finish(self) -> str: ...
