"""An answer whose tool calls and log probabilities another server has told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunewright.models.request import Request
from tunewright.serve.answers import Answer
from tunewright.serve.calls import CallReader
from tunewright.serve.engines.speech import Piece
from tunewright.serve.logprobs import TokenLogprob
from tunewright.serve.reply import Reply
from tunewright.serve.tools import ToolCall


class ToldAnswer(Answer):
    """An Answer with calls and log probabilities that were told, not read from its text and tokens."""

    def __init__(self, request: Request, wake: Callable[[], None], calls: CallReader | None = None) -> None:
        super().__init__(request, wake, calls)
        self.told: tuple[ToolCall, ...] = ()
        self._logprobs: list[TokenLogprob] = []

    def hear(self, piece: Piece) -> None:
        """Takes what an event brought, before its text is shown."""
        self.told = piece.calls or self.told
        self._logprobs += piece.logprobs

    def told_logprobs(self) -> Sequence[TokenLogprob]:
        """All entries so far."""
        return self._logprobs

    @property
    def reply(self) -> Reply:
        """What an answer that has ended by itself says and calls."""
        finish = self.request.finish
        assert finish in ("stop", "length"), finish
        text = self.request.text
        content = None if self.told and not text else text
        return Reply(
            content,
            self.told,
            "tool_calls" if self.told else finish,
            self.prompt_tokens,
            self.completion_tokens,
            self.logprobs_of(content),
        )
