"""What every link of the chain is asked: the same test rows, as messages for a server and as token ids for the rest."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.template import tools_of
from tunewright.models.tokens import IGNORED, ChatTokenizer

ROWS = 40
"""Most test rows; each one is answered by every link."""
REFERENCE_ROWS = 8
"""Rows whose reference answer is compared position by position as well."""
REFERENCE_POSITIONS = 7
"""Positions of such an answer, spread evenly."""
Messages = Callable[[Conversation], tuple[Message, ...]]


@dataclass(frozen=True)
class Question:
    """A test row. ids: the rendered prompt; reference_ids: the tokens of its right answer, end token included."""

    row: Conversation
    messages: tuple[Message, ...]
    ids: list[int]
    reference_ids: list[int]


@dataclass(frozen=True)
class Reply:
    """A greedy answer without its end token. finish: `stop` or `length`; ids: its tokens, None where only the text is
    known; prompt_tokens: as the system counts them, None where it does not say."""

    text: str
    finish: str
    ids: tuple[int, ...] | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True)
class Chosen:
    """The drawn questions, in file order, and how many rows could not be drawn, by reason."""

    questions: tuple[Question, ...]
    left_out: dict[str, int]


def choose(
    test: Sequence[Conversation],
    tokenizer: ChatTokenizer,
    *,
    applies: Callable[[Conversation], bool],
    ask: Messages,
    room: int,
    rows: int,
    seed: int,
) -> Chosen:
    """Up to `rows` questions, drawn with `seed` from the rows that every link can be asked in the same way. room:
    tokens that a prompt may have. Raises ArtifactError when no row is left."""
    fitting: list[Question] = []
    left_out: dict[str, int] = {}
    for row in test:
        found = _question(row, tokenizer, applies=applies, ask=ask, room=room)
        if isinstance(found, Question):
            fitting.append(found)
        else:
            left_out[found] = left_out.get(found, 0) + 1
    if not fitting:
        reasons = ", ".join(f"{count} rows: {reason}" for reason, count in left_out.items()) or "it has no rows"
        raise ArtifactError(
            f"no row of the test split can be asked through the chain ({reasons})",
            where="test.jsonl",
            fix="check evaluate.primary and evaluate.max_new_tokens",
        )
    drawn = random.Random(seed).sample(range(len(fitting)), min(rows, len(fitting)))  # noqa: S311 (no secret)
    return Chosen(tuple(fitting[index] for index in sorted(drawn)), left_out)


def _question(
    row: Conversation,
    tokenizer: ChatTokenizer,
    *,
    applies: Callable[[Conversation], bool],
    ask: Messages,
    room: int,
) -> Question | str:
    """The question, or why there is none. A server reads calls out of an answer's text and gives no text then, and it
    takes no prompt that was cut, so such rows cannot be compared."""
    if not applies(row):
        return "the primary metric does not score it"
    messages = ask(row)
    if tools_of(row.metadata) or any(turn.tool_calls or turn.role == "tool" or turn.name for turn in messages):
        return "it has tools"
    ids = tokenizer.prompt_ids(messages)
    if len(ids) > room:
        return "its prompt is too long"
    return Question(row, messages, ids, _reference_ids(row, messages, tokenizer))


def _reference_ids(row: Conversation, messages: tuple[Message, ...], tokenizer: ChatTokenizer) -> list[int]:
    answered = (*messages, Message(role="assistant", content=row.reference))
    example = tokenizer.examples(Conversation(id=row.id, messages=_context(answered)), max_length=10**9)[-1]
    labels = list(example.labels)
    start = next((len(labels) - place for place, label in enumerate(reversed(labels)) if label == IGNORED), 0)
    return labels[start:]


def _context(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same turns with only the last one trained."""
    return (*(turn.model_copy(update={"train": False}) for turn in messages[:-1]), messages[-1])


def sequences(questions: Sequence[Question]) -> list[list[int]]:
    """Token sequences behind which every link's next-token logits are compared: each whole prompt, and for the first
    rows the prompt with more and more of the reference answer."""
    found = [question.ids for question in questions]
    for question in questions[:REFERENCE_ROWS]:
        found += [question.ids + question.reference_ids[:cut] for cut in _cuts(len(question.reference_ids))]
    return found


def _cuts(length: int) -> list[int]:
    """Up to REFERENCE_POSITIONS places inside an answer of `length` tokens, behind its first and before its last."""
    inner = length - 1
    count = min(REFERENCE_POSITIONS, inner)
    return [round((place + 1) * inner / count) for place in range(count)]
