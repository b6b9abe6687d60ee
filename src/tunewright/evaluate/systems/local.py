"""A model in this process behind `ChatModel`: base, adapter beside it, merged, full, or a compressed variant.

It is opened when it is first asked something that is not on disk, so an evaluation whose answers are all known opens no
model at all.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core import files
from tunewright.core.events import say
from tunewright.core.scoring import Sample
from tunewright.evaluate.answers import choose_labels, free_answers, groups, label_room
from tunewright.evaluate.prompts import Prompt
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache, Book, digest, through
from tunewright.evaluate.systems.protocol import Answer, Asking, Kind, Logits, OnAnswer
from tunewright.evaluate.systems.samples import sample_of
from tunewright.models.generate import Request
from tunewright.models.tokens import ChatTokenizer

CHOSEN_AT_ONCE = 4
"""Batches of constrained choices between two writes."""
LOGITS_AT_ONCE = 8
"""Sequences whose logits are computed together."""


@dataclass(frozen=True)
class Identity:
    """name: for progress lines; sha256: of weights, configuration, tokenizer, template and number format together."""

    name: str
    kind: Kind
    sha256: str


class LocalModel:
    """See `ChatModel`. Not thread-safe."""

    gives_logits = True
    chooses = True

    def __init__(
        self,
        identity: Identity,
        tokenizer: ChatTokenizer,
        load: Callable[[], Any],
        *,
        max_length: int,
        cache: AnswerCache = NO_CACHE,
    ) -> None:
        """load: gives a fresh model, as it was stored, which is made ready to generate here; max_length: tokens of
        prompt and answer, without the positions of a trained prefix."""
        self.identity, self.tokenizer, self.max_length = identity, tokenizer, max_length
        self.load, self._cache = load, cache
        self._model: Any = None
        self._books: dict[int, Book] = {}

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
        """Of everything that decides its answers."""
        return self.identity.sha256

    @property
    def model(self) -> Any:
        """The torch model, opened now where it was not: for metrics of the model itself."""
        if self._model is None:
            from tunewright.models.load import for_inference

            say(f"evaluate: opening the {self.name} model")
            self._model = for_inference(self.load())
        return self._model

    def answer(self, prompts: Sequence[Prompt], asking: Asking) -> list[Sample]:
        """Batched and sorted by length; what is on disk is not asked again."""
        limits = self._limits(prompts, asking)
        keys = [digest(["answer", limit, prompt.ids]) for limit, prompt in zip(limits, prompts, strict=True)]

        def ask(places: list[int], on_answer: OnAnswer) -> None:
            self._generate([prompts[place] for place in places], asking, lambda i, one: on_answer(places[i], one))

        row_ids = [prompt.conversation.id for prompt in prompts]
        answers, known = through(self._book(asking.batch_size), keys, row_ids, ask)
        if known:
            say(f"evaluate: {known} of {len(prompts)} answers of {self.name} were made before")
        return [sample_of(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _limits(self, prompts: Sequence[Prompt], asking: Asking) -> list[int]:
        has_labels = any(prompt.is_intent for prompt in prompts)
        short = label_room(self.tokenizer, asking.labels, asking.max_new_tokens) if has_labels else 0
        return [short if prompt.is_intent else asking.max_new_tokens for prompt in prompts]

    def _generate(self, prompts: Sequence[Prompt], asking: Asking, on_answer: OnAnswer) -> None:
        free_answers(
            self.model,
            self.tokenizer,
            prompts,
            labels=asking.labels,
            max_new_tokens=asking.max_new_tokens,
            batch_size=asking.batch_size,
            name=self.name,
            on_finish=lambda place, request: on_answer(place, _answer(request)),
        )

    def _book(self, batch_size: int) -> Book:
        """The stored answers. The batch size is part of what decides an answer: sums of a 16-bit format depend on it
        in their last digits."""
        if batch_size not in self._books:
            self._books[batch_size] = self._cache.book(
                {
                    "system": self.sha256,
                    "kind": self.kind,
                    "engine": _engine() if self._cache.folder else "",
                    "sampling": "greedy",
                    "batch_size": batch_size,
                }
            )
        return self._books[batch_size]

    def choose(self, prompts: Sequence[Prompt], labels: Sequence[str], *, batch_size: int) -> list[str]:
        """The most probable label of each prompt; what is on disk is not asked again."""
        book, named = self._book(batch_size), digest(list(labels))
        keys = [digest(["choice", named, prompt.ids]) for prompt in prompts]
        chosen: dict[int, str] = {
            place: label for place, key in enumerate(keys) if (label := book.choice(key)) is not None
        }
        for part in self._parts(prompts, [place for place in range(len(prompts)) if place not in chosen], batch_size):
            ids = [prompts[place].ids for place in part]
            found = choose_labels(self.model, self.tokenizer, ids, labels, batch_size=batch_size, name=self.name)
            for place, label in zip(part, found, strict=True):
                chosen[place] = label
                book.keep_choice(keys[place], prompts[place].conversation.id, label)
        return [chosen[place] for place in range(len(prompts))]

    def _parts(self, prompts: Sequence[Prompt], missing: Sequence[int], batch_size: int) -> list[list[int]]:
        """The missing places that begin alike and are of like length; without a cache a whole group at a time."""
        size = CHOSEN_AT_ONCE * batch_size if self._cache.folder else max(1, len(missing))
        parts = []
        for group in groups([prompts[place] for place in missing]):
            places = sorted((missing[row] for row in group), key=lambda place: len(prompts[place].ids))
            parts += [places[start : start + size] for start in range(0, len(places), size)]
        return parts

    def time_answer(self, prompt: Prompt, asking: Asking) -> float:
        """Generated now, alone."""
        opened, found = self.model, []
        start = time.monotonic()
        self._generate([prompt], asking, lambda _, answer: found.append(answer))
        assert found and opened is self.model
        return time.monotonic() - start

    def next_logits(self, ids: Sequence[Sequence[int]]) -> Logits:
        """float32 [n, V] after each sequence, computed as the first token of an answer is."""
        from tunewright.models.generate import RunningBatch

        batch = RunningBatch(self.model, self.tokenizer)
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        rows: dict[int, Any] = {}
        for start in range(0, len(order), LOGITS_AT_ONCE):
            places = order[start : start + LOGITS_AT_ONCE]
            logits, _, _ = batch.prefill([list(ids[place]) for place in places])
            rows |= zip(places, logits.cpu().numpy(), strict=True)
        return np.stack([rows[place] for place in range(len(ids))])

    def close(self) -> None:
        """Forgets the model and gives its memory back."""
        import torch

        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _answer(request: Request) -> Answer:
    return Answer(
        text=request.text,
        new_tokens=len(request.output_ids),
        finish=request.finish or "length",
        seconds=request.seconds,
        prompt_tokens=len(request.prompt_ids),
    )


@cache
def _engine() -> dict[str, str]:
    """Libraries, device and our own engine's code: their kernels decide the last digits."""
    from importlib.metadata import version

    from tunewright import models
    from tunewright.models.load import device

    places = sorted(Path(models.__file__ or "").parent.rglob("*"))
    sources = [place for place in places if place.is_file() and place.suffix not in (".pyc", ".so")]
    code = digest([[place.name, files.sha256(place)] for place in sources])
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
    return {**libraries, "device": device().type, "code": code}
