"""Several metrics at once: Holm's step-down correction."""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.core.scoring import Difference


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p values that keep the chance of any false "shown" among all of them at the level they are compared
    with (Holm 1979, Scandinavian Journal of Statistics 6, 65-70): the i-th smallest of m, times m - i + 1, never below
    the one before it and never above 1."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for place, key in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        highest = max(highest, min(1.0, p_values[key] * (len(p_values) - place)))
        adjusted[key] = highest
    return adjusted


def corrected(differences: Mapping[str, Difference], *, primary: str) -> dict[str, float]:
    """The p value that counts for each metric: the primary one's own, as it was named before the run; the others
    corrected for how many they are."""
    further = holm({key: found.p for key, found in differences.items() if key != primary})
    return {key: further.get(key, found.p) for key, found in differences.items()}
