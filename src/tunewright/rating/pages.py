"""The pages as text: templates filled with what a rater may see. System names never enter a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tunewright.rating.design import Task
from tunewright.rating.store import Progress
from tunewright.rating.study import DIMENSIONS, LEVELS, PREFERENCES, SIDES, Item
from tunewright.rating.texts import LANGUAGES, TEXTS

FOLDER = Path(__file__).with_name("page")
LETTERS = {"left": "A", "right": "B"}
KEYS = {"left": "←", "right": "→", "tie": "T", "both_bad": "X"}


@dataclass(frozen=True)
class Visitor:
    """Who looks, and in which language. name, mark: empty before signing in."""

    language: str
    name: str = ""
    mark: str = ""


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(template: str, visitor: Visitor, **values: Any) -> str:
    """values: what the template names."""
    texts = TEXTS[visitor.language]
    other = next(name for name in LANGUAGES if name != visitor.language)
    shared = {"t": texts, "visitor": visitor, "other": other, "other_name": LANGUAGES[other]}
    return _templates().get_template(template).render(**shared, **values)


def sign_in(visitor: Visitor, *, by_token: bool, fault: str = "", given: str = "") -> str:
    """The first page. fault: the key of a text."""
    return _render("sign_in.html.j2", visitor, by_token=by_token, fault=fault, given=given)


def task(
    visitor: Visitor,
    shown: Task,
    item: Item,
    *,
    position: int,
    progress: Progress,
    form: Mapping[str, str],
    open_questions: Collection[str] = (),
    audience: str = "",
    show_reference: bool = True,
) -> str:
    """The rating page of one task. form: what was filled in; open_questions: what a sent form lacked."""
    systems = {"left": shown.left, "right": shown.right}
    answers = [
        {"side": side, "letter": LETTERS[side], "text": item.answers[systems[side]].replace("\r\n", "\n")}
        for side in SIDES
    ]
    return _render(
        "task.html.j2",
        visitor,
        answers=answers,
        turns=item.turns,
        reference=item.reference if show_reference else "",
        position=position,
        progress=progress,
        form=form,
        open_questions=open_questions,
        audience=audience,
        dimensions=DIMENSIONS,
        levels=LEVELS,
        preferences=PREFERENCES,
        keys=KEYS,
    )


def done(visitor: Visitor, progress: Progress) -> str:
    """The last page."""
    return _render("done.html.j2", visitor, progress=progress)


def guide(visitor: Visitor, *, audience: str) -> str:
    """Dimensions and levels with their anchors."""
    return _render("guide.html.j2", visitor, dimensions=DIMENSIONS, levels=LEVELS, audience=audience)


def fault(visitor: Visitor, key: str) -> str:
    """One sentence about what went wrong. key: of a text."""
    return _render("fault.html.j2", visitor, fault=key)
