"""What each system is asked. The base model is shown the labels, so that "better" is no trick of the answer's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.evaluate.config import EvaluateConfig, IntentOptions
from tunewright.evaluate.labels import has_label
from tunewright.evaluate.scorer import intent_options
from tunewright.models.template import tools_of
from tunewright.models.tokens import ChatTokenizer

System = Literal["base", "tuned"]
INSTRUCTION = "Answer with exactly one of these labels and nothing else: {labels}."
SHORTEST_PROMPT = 16


@dataclass(frozen=True)
class Prompt:
    """One question as token ids. `is_intent`: the intent metric scores the answer. `cut_tokens` are missing on the
    left. `group`: prompts of one group begin alike, so their start is computed once. `messages`: the same question for
    a system that renders by itself; the ids are empty where there is no tokenizer."""

    conversation: Conversation
    ids: list[int]
    is_intent: bool
    shows_labels: bool
    cut_tokens: int
    group: str
    messages: tuple[Message, ...] = ()


def shows_labels(options: IntentOptions | None, system: System) -> bool:
    """Whether this system's intent prompts list the labels."""
    return options is not None and options.labels_in_prompt in ("all", system)


def messages_for(
    config: EvaluateConfig, labels: Sequence[str], conversation: Conversation, *, system: System
) -> tuple[Message, ...]:
    """The messages before the answer, with the labels in the system turn where this system is shown them."""
    options = intent_options(config)
    if options and labels and shows_labels(options, system) and has_label(options, conversation.metadata):
        return with_labels(conversation.prompt, labels)
    return conversation.prompt


def with_labels(messages: Sequence[Message], labels: Sequence[str]) -> tuple[Message, ...]:
    """`messages` with the list of labels at the end of the first system turn, or as one of its own."""
    text = INSTRUCTION.format(labels=", ".join(labels))
    for index, message in enumerate(messages):
        if message.role == "system":
            longer = message.model_copy(update={"content": f"{message.content}\n{text}"})
            return (*messages[:index], longer, *messages[index + 1 :])
    return (Message(role="system", content=text), *messages)


def build_prompts(
    config: EvaluateConfig,
    labels: Sequence[str],
    rows: Sequence[Conversation],
    tokenizer: ChatTokenizer | None,
    *,
    system: System,
    room: int | None,
) -> list[Prompt]:
    """A prompt for each row, at most `room` tokens long, cut on the left as in training; messages alone, whole, where
    there is no tokenizer."""
    prompts = []
    for row in rows:
        messages = messages_for(config, labels, row, system=system)
        prompts.append(prompt_of(config, row, messages, tokenizer, room=room, shows_labels=messages != row.prompt))
    return prompts


def prompt_of(
    config: EvaluateConfig,
    row: Conversation,
    messages: tuple[Message, ...],
    tokenizer: ChatTokenizer | None,
    *,
    room: int | None,
    shows_labels: bool,
) -> Prompt:
    """The row asked with `messages`, which may be others than its own."""
    options = intent_options(config)
    is_intent = options is not None and has_label(options, row.metadata)
    turn = next((message.content or "" for message in messages if message.role == "system"), "")
    ids: list[int] = []
    cut = 0
    if tokenizer is not None:
        assert room is not None, "a tokenizer comes with a limit"
        whole = tokenizer.prompt_ids(messages, tools=tools_of(row.metadata))
        ids, cut = cut_left(whole, room, bos=begin_token(tokenizer))
    group = f"{'intent' if is_intent else 'answer'}:{turn}"
    return Prompt(row, ids, is_intent, shows_labels, cut, group, messages)


def begin_token(tokenizer: ChatTokenizer) -> int:
    """Id of the token that begins a sequence, -1 for none: one that opens every turn is no begin of the sequence."""
    return -1 if tokenizer.bos_marks_turns else tokenizer.bos_id


def cut_left(ids: list[int], room: int, *, bos: int) -> tuple[list[int], int]:
    """The last `room` ids, and how many are gone. bos: the begin token, which stays in front as in training."""
    cut = max(0, len(ids) - room)
    if cut and ids[0] == bos:
        return [bos, *ids[cut + 1 :]], cut
    return ids[cut:], cut


def prompt_room(max_length: int, new_tokens: int, *, where: str) -> int:
    """Tokens a prompt may have; raises ConfigError when `new_tokens` leave no place for one."""
    room = max_length - new_tokens
    if room < SHORTEST_PROMPT:
        raise ConfigError(
            f"{new_tokens} new tokens leave {max(room, 0)} of the model's {max_length} for the prompt",
            where=where,
            fix=f"use at most {max_length - SHORTEST_PROMPT}",
        )
    return room


def shown_text(messages: Sequence[Message]) -> str:
    """The question for readers: a lone user turn as it is, else `role: text` lines without system turns."""
    turns = [message for message in messages if message.role != "system"]
    if len(turns) == 1:
        return turns[0].content or ""
    return "\n".join(f"{turn.role}: {turn.content or ''}" for turn in turns)
