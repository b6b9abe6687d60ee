"""What is said of a finding's code, and how its example is written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tunewright.data.findings import Action

_BYTE = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class Code:
    """One code of the reports.

    meaning: one sentence; action: the usual one, which the example has; example: a short input that shows it, where
    `\\xe9` stands for one byte (JSON itself has no such escape); next_step: what the user can do; needs: what must be
    set before the example shows it, empty where the default settings do.
    """

    meaning: str
    action: Action
    example: str
    next_step: str
    needs: str = ""

    @property
    def data(self) -> bytes:
        """The example as the bytes of a file."""
        return _BYTE.sub(lambda match: bytes.fromhex(match[1].decode()), self.example.encode())


def row(*turns: tuple[str, Any], **more: Any) -> str:
    """A line of JSONL with these (role, content) turns and other keys. A backslash in content begins an escape."""
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages, **more}, ensure_ascii=False).replace("\\\\", "\\")


def pair(question: Any, answer: Any, **more: Any) -> str:
    """A line with one question and its answer."""
    return row(("user", question), ("assistant", answer), **more)
