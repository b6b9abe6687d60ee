"""Rows that are one question and its answer: Alpaca, prompt and completion, columns of a table."""

from __future__ import annotations

from typing import Any

from tunewright.data.findings import Note, Rejection
from tunewright.data.formats.found import Found, as_context, history_turns, list_in, pair
from tunewright.data.formats.names import ANSWERS, QUESTIONS, find_column, role_name
from tunewright.data.reading.table_file import TableRow

_OUTPUTS = ("output", "response", "answer")
_INPUTS = ("input", "context")


def alpaca(row: dict[str, Any]) -> Found | Rejection | None:
    """`instruction`, `input` and `output`, joined by a line feed as LLaMA-Factory does; `history` before them. Dolly's
    `context` and `response` are the same."""
    output = next((name for name in _OUTPUTS if name in row), None)
    if row.get("instruction") is None or output is None:
        return None
    asked = instruction_turns(row)
    if isinstance(asked, Rejection):
        return asked
    answer = {"role": "assistant", "content": row[output]}
    return Found("alpaca", [*asked.turns, answer], asked.used | {output}, notes=asked.notes)


def instruction_turns(row: dict[str, Any]) -> Found | Rejection:
    """The turns up to the question of an Alpaca row."""
    earlier = history_turns(row)
    if isinstance(earlier, Rejection):
        return earlier
    name = next((name for name in _INPUTS if type(row.get(name)) is str), "")
    question = row["instruction"]
    if name and type(question) is str and row[name].strip():
        question = f"{question}\n{row[name]}" if question.strip() else row[name]
    used = frozenset({"instruction", "history", name})
    return Found("alpaca", [*earlier[0], {"role": "user", "content": question}], used, notes=earlier[1])


def prompt_completion(row: dict[str, Any]) -> Found | Rejection | None:
    """`prompt` and `completion` (or `response`), each a text or a list of turns; only the completion is trained."""
    answer = next((name for name in ("completion", "response") if name in row), None)
    if row.get("prompt") is None or answer is None:
        return None
    asked = prompt_turns(row, "prompt")
    if isinstance(asked, Rejection):
        return asked
    given = _turns(row[answer])
    turns = given if given is not None else [{"role": "assistant", "content": row[answer]}]
    return Found("prompt_completion", [*asked.turns, *turns], asked.used | {answer}, notes=asked.notes)


def prompt_turns(row: dict[str, Any], name: str) -> Found | Rejection:
    """The turns of a prompt, which is a text or a list of turns."""
    given = _turns(row[name])
    if given is not None:
        return Found("prompt_completion", as_context(given), frozenset({name}))
    earlier = history_turns(row)
    if isinstance(earlier, Rejection):
        return earlier
    turns = [*earlier[0], {"role": "user", "content": row[name]}]
    return Found("prompt_completion", turns, frozenset({name, "history"}), notes=earlier[1])


def _turns(value: Any) -> list[Any] | None:
    """A list of turns; a list of content parts, which have no role, is none."""
    items, _ = list_in(value, "turns")
    return items if items and all(role_name(item) is not None for item in items) else None


def question_answer(row: dict[str, Any]) -> Found | Rejection | None:
    """Columns with one of the usual names; of a table with two columns, whatever they are called."""
    question, answer = find_column(row, QUESTIONS), find_column(row, ANSWERS)
    notes: tuple[Note, ...] = ()
    if (question is None or answer is None) and isinstance(row, TableRow) and len(row) == 2:
        question, answer = _two_columns(row, question, answer)
        reason = f"the two columns '{question}' and '{answer}' are read as question and answer"
        notes = (Note("COLUMNS", "kept", reason),)
    if question is None or answer is None:
        return None
    earlier: tuple[list[Any], tuple[Note, ...]] | Rejection = ([], ())
    if isinstance(row.get("history"), list):
        earlier = history_turns(row)
    if isinstance(earlier, Rejection):
        return earlier
    used = frozenset({question, answer, *(["history"] if earlier[0] else [])})
    turns = [*earlier[0], *pair(row[question], row[answer])]
    return Found("question_answer", turns, used, notes=(*notes, *earlier[1]))


def _two_columns(row: TableRow, question: str | None, answer: str | None) -> tuple[str, str]:
    first, second = row
    if question == second or answer == first:
        return second, first
    return first, second
