"""Is what was trained what the server sends? Token by token, on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.models.template import tools_of
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

_NOTHING = -1


def prove_rendering(
    rows: Sequence[Conversation], rendered: Sequence[Example], tokenizer: ChatTokenizer
) -> dict[str, list[Example]]:
    """{row id: its examples} of the rows that were rendered whole: a prompt that was cut to fit has no counterpart on a
    server, which would refuse it.

    rendered: the rows as training has them. tokenizer: the one that is served. Each trained answer must stand behind
    exactly the ids that the server sends for the messages before it, and be the ids that the model must write there,
    end token included. Raises ArtifactError that names the first row and token where this is not so.
    """
    by_row: dict[str, list[Example]] = {}
    for example in rendered:
        by_row.setdefault(example.row_id, []).append(example)
    whole = {}
    for row in rows:
        examples = by_row.get(row.id, [])
        if not any(example.cut_prompt_tokens for example in examples):
            _prove_row(row, examples, tokenizer)
            whole[row.id] = examples
    return whole


def served_ids(tokenizer: ChatTokenizer, row: Conversation, turn: int) -> tuple[list[int], list[int]]:
    """(the prompt that the server sends for the messages before `turn`, the ids the model must write then)."""
    tools = tools_of(row.metadata)
    prompt = tokenizer.prompt_ids(row.messages[:turn], tools=tools)
    told = tokenizer.messages_ids(row.messages[: turn + 1], tools=tools)
    if told[: len(prompt)] == prompt:
        answer = told[len(prompt) :]
    else:  # prompt and answer would share a token: the model starts behind the one that was sent
        own = tokenizer.layout(row.model_copy(update={"messages": row.messages[: turn + 1]})).turns[-1]
        answer = own.own.ids[own.start : own.end]
    end = next((place + 1 for place, token in enumerate(answer) if token in tokenizer.end_ids), len(answer))
    return prompt, answer[:end]


def _prove_row(row: Conversation, examples: Sequence[Example], tokenizer: ChatTokenizer) -> None:
    turns = [index for index, message in enumerate(row.messages) if message.trained]
    spans = [(example, *span) for example in examples for span in _spans(example)]
    if len(spans) != len(turns):
        raise _differs(f"{len(spans)} answers are trained, the conversation has {len(turns)}", row)
    for turn, (example, start, end) in zip(turns, spans, strict=True):
        prompt, answer = served_ids(tokenizer, row, turn)
        trained, served = list(example.input_ids[:end]), prompt + answer
        if trained != served:
            raise _differs(_first_difference(trained, served, tokenizer), row)
        if start != len(prompt):
            raise _differs(f"the answer is trained from token {start + 1}, the server sends {len(prompt)} tokens", row)


def _spans(example: Example) -> list[tuple[int, int]]:
    """(start, end) of each trained answer."""
    is_trained = [False, *(label != IGNORED for label in example.labels), False]
    edges = [place for place in range(len(is_trained) - 1) if is_trained[place] != is_trained[place + 1]]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _first_difference(trained: list[int], served: list[int], tokenizer: ChatTokenizer) -> str:
    pairs = enumerate(zip_longest(trained, served, fillvalue=_NOTHING))
    place, (ours, theirs) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])

    def shown(token: int) -> str:
        return "nothing" if token == _NOTHING else f"{tokenizer.decode([token], keep_special=True)!r} ({token})"

    return f"the first difference is token {place + 1}: trained {shown(ours)}, served {shown(theirs)}"


def _differs(detail: str, row: Conversation) -> ArtifactError:
    return ArtifactError(
        f"training renders this row in another way than the server: {detail}",
        where=row.id,
        fix="train with the tokenizer and the chat template that are served",
    )
