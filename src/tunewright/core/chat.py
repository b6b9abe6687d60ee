"""Conversations: the one form in which every stage reads, writes and renders dialogue."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["system", "user", "assistant", "tool"]


class Message(BaseModel):
    """One turn. `content` is None only beside `tool_calls`. `train` None means: assistant turns are trained.

    Reasoning stands at the beginning of `content` as a `<think>` block, so that every rule sees it; templates that have
    a key for it get it there (models/turn_form.py). tool_call_id, name: of a tool's turn, which call it answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str | None
    train: bool | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @property
    def trained(self) -> bool:
        """Whether this turn's tokens get labels."""
        return self.role == "assistant" and self.train is not False

    def to_template(self) -> dict[str, Any]:
        """The dict that chat templates expect."""
        shown: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            shown["tool_calls"] = list(self.tool_calls)
        if self.tool_call_id is not None:
            shown["tool_call_id"] = self.tool_call_id
        if self.name is not None:
            shown["name"] = self.name
        return shown

    def to_row(self) -> dict[str, Any]:
        """The same as `model_dump(exclude_defaults=True)`, in half the time; calls are shared, not copied."""
        values = self.__dict__
        turn = {"role": values["role"], "content": values["content"]}
        for name, default in _OPTIONAL:
            if values[name] != default:
                turn[name] = values[name]
        return turn


_OPTIONAL = tuple((name, field.default) for name, field in Message.model_fields.items() if not field.is_required())


class Conversation(BaseModel):
    """A dialogue with its metadata, which is kept to the end. `id` is stable: source name and line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    messages: tuple[Message, ...]
    metadata: dict[str, Any] = Field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The JSONL form `{"id", "conversation", "metadata"}`; what a turn leaves at its default is not in it."""
        turns = [message.to_row() for message in self.messages]
        return {"id": self.id, "conversation": turns, "metadata": self.metadata}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Conversation:
        """Reads a row that `to_row` wrote (a sealed artifact's row: no repair happens here)."""
        return cls(id=row["id"], messages=row["conversation"], metadata=row["metadata"])

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last trained turn: what a server would be asked."""
        return self.messages[: self._last_trained]

    @property
    def reference(self) -> str:
        """The text of the last trained turn."""
        return self.messages[self._last_trained].content or ""

    @property
    def _last_trained(self) -> int:
        return max(index for index, message in enumerate(self.messages) if message.trained)
