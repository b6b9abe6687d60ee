"""An OpenAI-compatible endpoint behind `ChatModel`: our own server, another one, or an API that costs money."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tunewright.core.events import Progress, say
from tunewright.core.scoring import Sample
from tunewright.evaluate.prompts import Prompt
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache, digest, through
from tunewright.evaluate.systems.http_client import HttpClient
from tunewright.evaluate.systems.options import Address
from tunewright.evaluate.systems.protocol import Answer, Asking, Kind, Logits, OnAnswer
from tunewright.evaluate.systems.samples import sample_of
from tunewright.models.template import tools_of


@dataclass(frozen=True)
class Usage:
    """Tokens of the answers asked last, as the endpoint counts them. counted: answers that it told the tokens of."""

    answers: int = 0
    counted: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0


class Endpoint:
    """See `ChatModel`. It renders messages itself, gives no logits and makes no constrained choice.

    Its answers are kept under address and model name: nobody outside can see whether another model stands behind them.
    """

    kind: Kind = "endpoint"
    gives_logits = False
    chooses = False
    tokenizer: Any = None
    max_length: int | None = None

    def __init__(self, address: Address, *, name: str, where: str, cache: AnswerCache = NO_CACHE) -> None:
        """where: the place in the project file, for errors. Raises ConfigError when the key's variable is not set."""
        self.address, self.name = address, name
        self.sha256 = digest([address.base_url, address.model])
        self.usage = Usage()
        self._client = HttpClient(address, where=where)
        self._cache = cache

    def answer(self, prompts: Sequence[Prompt], asking: Asking) -> list[Sample]:
        """Several at a time; what is on disk is not asked again. Raises ConfigError, ResourceError (`HttpClient`)."""
        bodies = [self._body(prompt, asking) for prompt in prompts]
        keys = [digest(body) for body in bodies]

        def ask(places: list[int], on_answer: OnAnswer) -> None:
            self._ask([(place, bodies[place]) for place in places], on_answer)

        about = {"system": self.sha256, "kind": self.kind, "address": self.address.base_url, "sampling": "greedy"}
        row_ids = [prompt.conversation.id for prompt in prompts]
        answers, known = through(self._cache.book(about), keys, row_ids, ask)
        if known:
            say(f"evaluate: {known} of {len(prompts)} answers of {self.name} were made before")
        self.usage = _usage(answers)
        return [sample_of(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]

    def _body(self, prompt: Prompt, asking: Asking) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.address.model,
            "messages": [message.to_template() for message in prompt.messages],
            self.address.limit_key: asking.max_new_tokens,
        }
        if self.address.sends_temperature:
            body["temperature"] = 0
        tools = tools_of(prompt.conversation.metadata)
        return body | {"tools": tools} if tools else body

    def _ask(self, bodies: Sequence[tuple[int, dict[str, Any]]], on_answer: OnAnswer) -> None:
        """Answers are handed over from this thread as they come; the first fault ends the asking, and what was under
        way is still kept."""
        pending = iter(bodies)
        with (
            Progress(f"{self.name}: answers", len(bodies)) as progress,
            ThreadPoolExecutor(self.address.concurrency) as pool,
        ):
            running = {pool.submit(self._one, body): place for place, body in islice(pending, self.address.concurrency)}
            fault: BaseException | None = None
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    place = running.pop(future)
                    fault = fault or future.exception()
                    if future.exception() is None:
                        on_answer(place, future.result())
                        progress.advance()
                for place, body in islice(pending, 0 if fault else len(done)):
                    running[pool.submit(self._one, body)] = place
        if fault:
            raise fault

    def _one(self, body: dict[str, Any]) -> Answer:
        said = self._client.complete(body)
        return Answer(said.text, max(said.new_tokens, 0), said.finish, said.seconds, said.prompt_tokens)

    def choose(self, prompts: Sequence[Prompt], labels: Sequence[str], *, batch_size: int) -> list[str]:
        """Not over HTTP."""
        raise NotImplementedError("an endpoint makes no constrained choice")

    def time_answer(self, prompt: Prompt, asking: Asking) -> float:
        """Asked now, alone; waits between tries do not count."""
        return self._one(self._body(prompt, asking)).seconds

    def next_logits(self, ids: Sequence[Sequence[int]]) -> Logits:
        """Not over HTTP."""
        raise NotImplementedError("an endpoint gives no logits")

    def close(self) -> None:
        """Holds nothing open."""


def _usage(answers: Sequence[Answer]) -> Usage:
    counted = [answer for answer in answers if answer.prompt_tokens >= 0]
    return Usage(
        len(answers),
        len(counted),
        sum(answer.prompt_tokens for answer in counted),
        sum(answer.new_tokens for answer in counted),
    )
