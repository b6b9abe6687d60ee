"""The usual names of roles, and of the columns that hold a question or its answer."""

from __future__ import annotations

from typing import Any

from tunewright.core.chat import Role
from tunewright.data.reading.strict_json import NonFinite, SourceNumber

TURN_KEYS = ("conversation", "messages", "conversations")
"""Keys of a list of turns: our own, OpenAI's and ShareGPT's."""
NATIVE: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SHAREGPT: dict[str, Role] = {"human": "user", "gpt": "assistant", "observation": "tool"}
_USER = "human prompter customer client patient student question 用户 客户 顾客 患者 病人 学生 问 提问者"
_ASSISTANT = "gpt chatgpt bot ai model agent doctor teacher tutor answer 助手 客服 机器人 坐席 医生 老师 答 回答者"
ALIASES: dict[str, Role] = {
    **dict.fromkeys(_USER.split(), "user"),
    **dict.fromkeys(_ASSISTANT.split(), "assistant"),
    **dict.fromkeys(["developer", "系统"], "system"),
    **dict.fromkeys(["observation", "function", "ipython", "tool_response", "工具"], "tool"),
}
CALLERS = ("function_call", "tool_call")
"""Roles whose content is a call: they become the assistant's tool_calls."""
_QUESTIONS = "question query ask prompt input q user human 问题 提问 用户问题 咨询 咨询内容 问句 问 context"
_ANSWERS = "answer response reply completion output a assistant gpt bot 回答 答案 回复 答复 答句 答"
QUESTIONS = tuple(_QUESTIONS.split())
ANSWERS = tuple(_ANSWERS.split())
"""Columns, the better known first; compared without case and outer white space."""
MEDIA = ("images", "image", "audios", "audio", "videos", "video")
"""Keys beside the turns whose files the text refers to; without them the text would be trained blind."""


def role_of(named: str) -> Role | None:
    """The role of a name as it stands in the source, None for an unknown one."""
    bare = named.strip().casefold()
    return "assistant" if bare in CALLERS else NATIVE.get(bare, ALIASES.get(bare))


def role_name(turn: Any) -> Any:
    """What a raw turn says of its role."""
    return turn.get("role", turn.get("from")) if isinstance(turn, dict) else None


def is_answer(turn: Any) -> bool:
    """Whether a raw turn is one of the assistant."""
    named = role_name(turn)
    return isinstance(named, str) and role_of(named) == "assistant"


def find_column(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """The row's own name of the first of `names` that it has, with a value."""
    own = {name.strip().casefold(): name for name in reversed(row) if row[name] is not None}
    return next((own[name] for name in names if name in own), None)


def kind(value: Any) -> str:
    """What a value is, for a reason."""
    names = (
        (bool, "true or false"),
        (SourceNumber, "a number"),
        (NonFinite, "NaN"),
        (dict, "an object"),
        (list, "a list"),
    )
    if value is None:
        return "null"
    return next(
        (name for type_, name in names if isinstance(value, type_)), "a list" if isinstance(value, list) else "a text"
    )
