"""Every code of the data stage's findings, explained once: for the reference page, the reports and `data show`."""

from __future__ import annotations

from tunewright.data.codes.code import Code
from tunewright.data.codes.content import CONTENT
from tunewright.data.codes.reading import READING
from tunewright.data.codes.sets import SETS
from tunewright.data.codes.turns import TURNS

__all__ = ["CODES", "Code"]

CODES: dict[str, Code] = dict(sorted({**READING, **TURNS, **CONTENT, **SETS}.items()))
"""By code, in the order of the alphabet."""
