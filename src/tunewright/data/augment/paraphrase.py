"""Paraphrase through a chat endpoint: each copy is asked for in another style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunewright.data.augment.augmenter import Text, derived
from tunewright.data.augment.chat_client import ChatClient, Request
from tunewright.data.augment.options import ParaphraseOptions
from tunewright.data.augment.prompts import PARAPHRASE, paraphrase_prompt, read_answer


class Paraphrase:
    """The augmenter `paraphrase`, for Chinese and English."""

    def __init__(self, options: ParaphraseOptions, root: Path) -> None:
        self._copies, self._temperature = options.copies, options.temperature
        self._client = ChatClient(options.server, where="data.augment (paraphrase)")

    def variants(self, texts: Sequence[Text]) -> list[list[str]]:
        """`copies` wordings each, not yet checked; none for texts in other languages."""
        plan = [(row, copy) for row, text in enumerate(texts) if text.language in PARAPHRASE for copy in self._draws]
        answers = self._client.ask([self._request(texts[row], copy) for row, copy in plan])
        found: list[list[str]] = [[] for _ in texts]
        for (row, _), answer in zip(plan, answers, strict=True):
            found[row].append(read_answer(answer, texts[row].content))
        return found

    @property
    def _draws(self) -> range:
        return range(self._copies)

    def _request(self, text: Text, copy: int) -> Request:
        return Request(
            system=paraphrase_prompt(text.language, copy),
            user=text.content,
            temperature=self._temperature,
            seed=derived(text.seed, copy),
        )
