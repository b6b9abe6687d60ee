"""Whether two final answers are the same: as rationals, with percentages, ratios and times."""

from __future__ import annotations

from fractions import Fraction

from tunewright.core.text.answers.phrasing import Answer

TOLERANCE = Fraction(1, 10**6)
SMALL = Fraction(1, 100)


def agree(predicted: Answer, reference: Answer) -> bool:
    """Equal within 1e-6 (within 1e-4 of its size for a value below 0.01).

    95% equals 0.95, and equals 95 when the reference has no %. 3:2 equals 6:4 and 1.5; 3:30 as a time of day equals
    only itself.
    """
    if predicted.parts and reference.parts:
        return _same_parts(predicted, reference)
    if any(answer.parts and (answer.kind == "time" or _is_clock(answer.parts)) for answer in (predicted, reference)):
        return False
    wanted = _readings(reference)
    return any(near(value, other) for value in _readings(predicted, whole=not reference.percent) for other in wanted)


def _readings(answer: Answer, *, whole: bool = False) -> list[Fraction]:
    """whole: 95% may also be meant as 95."""
    found = [answer.value / 100 if answer.percent else answer.value, *answer.also]
    return [*found, answer.value] if whole and answer.percent else found


def near(first: Fraction, second: Fraction) -> bool:
    """Equal within the tolerance."""
    if abs(float(first) - float(second)) > 1e-3:  # the exact comparison is slow
        return False
    size = max(abs(first), abs(second))
    return abs(first - second) <= (TOLERANCE if size >= SMALL else size / 10**4)


def _same_parts(first: Answer, second: Answer) -> bool:
    if first.parts == second.parts:
        return True
    if len(first.parts) != len(second.parts):
        return False
    if "time" in (first.kind, second.kind) or (_is_clock(first.parts) and _is_clock(second.parts)):
        return False
    if not all(first.parts) or not all(second.parts):
        return False
    return len({a / b for a, b in zip(first.parts, second.parts, strict=True)}) == 1


def _is_clock(parts: tuple[Fraction, ...]) -> bool:
    """Hours and two-digit minutes."""
    return len(parts) >= 2 and parts[0] < 25 and 10 <= parts[1] < 60 and all(part.denominator == 1 for part in parts)
