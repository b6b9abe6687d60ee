"""Python's search for cyclic garbage, seldom: rows are made of objects without cycles, a dozen of them a row stay, and
looking through all that is there every seven hundred objects takes a tenth of the time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_OBJECTS = 100_000
"""New objects that stay, between two searches; those of a cycle are gone after the next one."""


@contextmanager
def seldom_collected() -> Iterator[None]:
    """For the body, or for a function that it decorates."""
    before = gc.get_threshold()
    gc.set_threshold(max(_OBJECTS, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
