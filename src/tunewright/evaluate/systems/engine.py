"""A variant that runs in an engine of another library, behind `ChatModel`. Who knows that engine hands over its opener.

EngineModel(identity, tokenizer, lambda: LlamaCppEngine(path, tokenizer, context=4096), max_length=4096)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tunewright.core.events import say
from tunewright.core.scoring import Sample
from tunewright.evaluate.answers import label_room
from tunewright.evaluate.prompts import Prompt
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache, digest, through
from tunewright.evaluate.systems.local import Identity
from tunewright.evaluate.systems.protocol import Answer, Asking, Engine, EngineAnswer, Kind, Logits, OnAnswer
from tunewright.evaluate.systems.samples import sample_of
from tunewright.models.tokens import ChatTokenizer

WRITTEN_AFTER = 16
"""Answers between two writes to the cache."""


class EngineModel:
    """See `ChatModel`. It gives no logits and makes no constrained choice: such engines tell a few probabilities."""

    gives_logits = False
    chooses = False

    def __init__(
        self,
        identity: Identity,
        tokenizer: ChatTokenizer,
        open_engine: Callable[[], Engine],
        *,
        max_length: int,
        cache: AnswerCache = NO_CACHE,
    ) -> None:
        """identity.sha256: of the weights, and of the engine's name and version, which also decide the answers."""
        self.identity, self.tokenizer, self.max_length = identity, tokenizer, max_length
        self._open, self._cache = open_engine, cache
        self._engine: Engine | None = None

    @property
    def name(self) -> str:
        """For progress lines."""
        return self.identity.name

    @property
    def kind(self) -> Kind:
        """What it is."""
        return self.identity.kind

    @property
    def sha256(self) -> str:
        """Of weights and engine."""
        return self.identity.sha256

    @property
    def engine(self) -> Engine:
        """The engine, started now where it was not."""
        if self._engine is None:
            say(f"evaluate: opening the {self.name} model")
            self._engine = self._open()
        return self._engine

    def answer(self, prompts: Sequence[Prompt], asking: Asking) -> list[Sample]:
        """In the engine's own order; what is on disk is not asked again."""
        limits = self._limits(prompts, asking)
        keys = [digest(["answer", limit, prompt.ids]) for limit, prompt in zip(limits, prompts, strict=True)]

        def ask(places: list[int], on_answer: OnAnswer) -> None:
            for limit in sorted({limits[place] for place in places}):
                same = [place for place in places if limits[place] == limit]
                for start in range(0, len(same), WRITTEN_AFTER):
                    part = same[start : start + WRITTEN_AFTER]
                    ids = [prompts[place].ids for place in part]
                    for place, said in zip(part, self.engine.answers(ids, max_new_tokens=limit), strict=True):
                        on_answer(place, _answer(said, prompts[place]))

        book = self._cache.book({"system": self.sha256, "kind": self.kind, "sampling": "greedy"})
        answers, _ = through(book, keys, [prompt.conversation.id for prompt in prompts], ask)
        return [sample_of(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _limits(self, prompts: Sequence[Prompt], asking: Asking) -> list[int]:
        has_labels = any(prompt.is_intent for prompt in prompts)
        short = label_room(self.tokenizer, asking.labels, asking.max_new_tokens) if has_labels else 0
        return [short if prompt.is_intent else asking.max_new_tokens for prompt in prompts]

    def choose(self, prompts: Sequence[Prompt], labels: Sequence[str], *, batch_size: int) -> list[str]:
        """Not in such an engine."""
        raise NotImplementedError("an engine of another library makes no constrained choice")

    def time_answer(self, prompt: Prompt, asking: Asking) -> float:
        """Generated now, alone."""
        engine, (limit,) = self.engine, self._limits([prompt], asking)
        start = time.monotonic()
        engine.answers([prompt.ids], max_new_tokens=limit)
        return time.monotonic() - start

    def next_logits(self, ids: Sequence[Sequence[int]]) -> Logits:
        """Not in such an engine."""
        raise NotImplementedError("an engine of another library gives no logits")

    def close(self) -> None:
        """Stops the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _answer(said: EngineAnswer, prompt: Prompt) -> Answer:
    return Answer(said.text, said.new_tokens, said.finish, said.seconds, len(prompt.ids))
