"""The links: a model in transformers, a GGUF file in llama.cpp, a server over HTTP.

`evaluate/systems` has the same systems for scoring; here the token ids of an answer and logits at any place are needed,
and nothing may come from a cache.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tunewright.chain import rendering
from tunewright.chain.door import Door
from tunewright.chain.questions import Question, Reply
from tunewright.chain.rendering import Rendering
from tunewright.core.events import say
from tunewright.models.generate import RunningBatch, Sampling, generate
from tunewright.models.tokens import ChatTokenizer

AT_ONCE = 8
"""Sequences whose logits are computed together."""


class Link(Protocol):
    """Anything that answers the chain's questions; a `LocalLink` gives logits as well."""

    name: str

    def answers(self, questions: Sequence[Question], *, max_new_tokens: int) -> list[Reply]:
        """Greedy answers in the order of `questions`."""
        ...

    def close(self) -> None:
        """Frees the memory; asked again, it opens again."""
        ...


class Engine(Protocol):
    """Answers token ids; `quantize.engines.LlamaCppEngine` is one."""

    def answers(self, prompts: Sequence[list[int]], *, max_new_tokens: int) -> Sequence[Any]:
        """Greedy answers with `text` and `finish`, in the order of `prompts`."""
        ...

    def close(self) -> None:
        """Frees the memory."""
        ...


class LocalLink:
    """A model in memory, opened when it is first asked and again after `close`. Not thread-safe."""

    def __init__(self, name: str, tokenizer: ChatTokenizer, load: Callable[[], Any], *, batch_size: int) -> None:
        """load: gives the model ready to generate."""
        self.name, self.tokenizer = name, tokenizer
        self._load, self._batch_size = load, batch_size
        self._model: Any = None

    @property
    def model(self) -> Any:
        """The torch model."""
        if self._model is None:
            say(f"chain: opening {self.name}")
            self._model = self._load()
        return self._model

    def answers(self, questions: Sequence[Question], *, max_new_tokens: int) -> list[Reply]:
        """Greedy answers, batched as in evaluation and in the server."""
        requests = generate(
            self.model,
            self.tokenizer,
            [question.ids for question in questions],
            Sampling(max_new_tokens=max_new_tokens),
            batch_size=self._batch_size,
            label=f"{self.name}: answers",
        )
        return [
            Reply(request.text, request.finish or "length", tuple(request.output_ids), len(request.prompt_ids))
            for request in requests
        ]

    def next_logits(self, ids: Sequence[list[int]], *, at_once: int = AT_ONCE) -> Tensor:
        """float32 [n, V] on the CPU: the logits after each sequence, computed as an answer's first token is."""
        batch = RunningBatch(self.model, self.tokenizer)
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        rows: dict[int, Tensor] = {}
        for start in range(0, len(order), at_once):
            places = order[start : start + at_once]
            logits, _, _ = batch.prefill([list(ids[place]) for place in places])
            rows |= zip(places, logits.float().cpu(), strict=True)
        return torch.stack([rows[place] for place in range(len(ids))])

    def close(self) -> None:
        """Frees the memory."""
        if self._model is None:
            return
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class EngineLink:
    """A file in another engine over token ids, which gives answers and no logits."""

    def __init__(self, name: str, path: Path, open_engine: Callable[[Path], Engine]) -> None:
        self.name, self._path, self._open_engine = name, path, open_engine

    def answers(self, questions: Sequence[Question], *, max_new_tokens: int) -> list[Reply]:
        """Greedy answers, one after the other."""
        say(f"chain: opening {self.name}")
        engine = self._open_engine(self._path)
        try:
            found = engine.answers([question.ids for question in questions], max_new_tokens=max_new_tokens)
        finally:
            engine.close()
        return [Reply(answer.text, answer.finish) for answer in found]

    def close(self) -> None:
        """Nothing is open between calls."""


class ServerLink:
    """A server, running or started for these questions. `rendering`, `about`: what it showed of itself, once asked."""

    def __init__(
        self, name: str, start: Callable[[], AbstractContextManager[tuple[Door, ChatTokenizer | None]]]
    ) -> None:
        """start: gives the open door, and the tokenizer that the server renders with where it is known."""
        self.name, self._start = name, start
        self.rendering = Rendering()
        self.about: dict[str, Any] = {}

    def answers(self, questions: Sequence[Question], *, max_new_tokens: int) -> list[Reply]:
        """Greedy answers over HTTP, several at a time."""
        with self._start() as (door, tokenizer):
            self.about = door.about
            self.rendering = rendering.of_metadata(door.about)
            if tokenizer is not None:
                rendered = [tokenizer.prompt_ids(question.messages) for question in questions]
                self.rendering = rendering.of_tokenizer(tokenizer, rendered)
            return door.answers(questions, max_new_tokens=max_new_tokens)

    def close(self) -> None:
        """It runs only while it is asked, or belongs to somebody else."""
