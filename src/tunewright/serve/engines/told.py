"""An answer whose tool calls another server has read already."""

from __future__ import annotations

from tunewright.serve.answers import Answer
from tunewright.serve.reply import Reply
from tunewright.serve.tools import ToolCall


class ToldAnswer(Answer):
    """An Answer with calls that were told, not read from its text."""

    told: tuple[ToolCall, ...] = ()

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
        )
