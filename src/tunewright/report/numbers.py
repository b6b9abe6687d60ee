"""How numbers are written on the page: unit, decimals, intervals and p values."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import Any

HUNDRED_POINT_METRICS = ("bleu", "chrf", "rouge")
_JOINERS = "\u200d\ufe0f"


@dataclass(frozen=True)
class Scale:
    """One axis that metrics share. Values are multiplied by `factor` and written with `decimals` and `suffix`."""

    unit: str
    factor: float = 1.0
    decimals: int = 2
    suffix: str = ""
    difference_suffix: str = ""
    ends: tuple[float, float] | None = None

    def show(self, value: float) -> str:
        """0.913 -> '91.3 %'."""
        return f"{value * self.factor:.{self.decimals}f}{self.suffix}"

    def interval(self, low: float, high: float) -> str:
        """'87.0 to 94.3 %'."""
        return f"{low * self.factor:.{self.decimals}f} to {self.show(high)}"

    def change(self, value: float) -> str:
        """Signed: '+49.6 points'; a true minus sign."""
        return _minus(f"{value * self.factor:+.{self.decimals}f}{self.difference_suffix}")

    def changes(self, low: float, high: float) -> str:
        """'+43.0 to +56.1', in the unit of `change`."""
        return _minus(f"{low * self.factor:+.{self.decimals}f} to {high * self.factor:+.{self.decimals}f}")


PERCENT = Scale("percent of rows", 100, 1, " %", " points", (0.0, 100.0))
POINTS = Scale("points, 0 to 100", 1, 1, "", " points", (0.0, 100.0))


def scale_of(metric: str, unit: str = "") -> Scale:
    """The scale of a metric key. Rates are 0..1 and BLEU, chrF, ROUGE 0..100 by definition; others carry a unit."""
    if metric.startswith(HUNDRED_POINT_METRICS):
        return POINTS
    if unit in ("s", "seconds") or metric.endswith("_s"):
        return Scale("seconds", 1, 3, " s", " s")
    if metric.endswith("tokens_per_second") or unit == "tokens/s":
        return Scale("tokens per second", 1, 1, " tok/s", " tok/s")
    if unit == "min":
        return Scale("minutes", 1, 2, " min", " min")
    if unit == "tokens":
        return Scale("tokens", 1, 1, " tokens", " tokens")
    if unit in ("nats", "perplexity"):
        return Scale("nats per token" if unit == "nats" else "perplexity", 1, 3)
    if unit in ("", "rate", "share", "%"):
        return PERCENT
    return Scale(unit, 1, 2, f" {unit}", f" {unit}")


def p_value(p: float) -> str:
    """'p < 0.001' or 'p = 0.031'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def money(value: float, currency: str) -> str:
    """1.5, "USD" -> '1.50 USD'; small sums keep two digits that count: '0.0042 USD'."""
    decimals = 2 if value == 0 or abs(value) >= 0.1 else min(8, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f} {currency}".strip()


def count(value: float) -> str:
    """1234567 -> '1,234,567'."""
    return f"{value:,.0f}"


def brief(value: float) -> str:
    """Seconds of one answer: 0.0001 -> '0.10 ms'; 0.53 -> '0.530 s'."""
    return f"{value:.3f} s" if value >= 0.01 else f"{value * 1000:.2f} ms"


def seconds(value: float) -> str:
    """93.4 -> '93.4 s'; 4000 -> '66.7 min'."""
    return f"{value:.1f} s" if value < 600 else f"{value / 60:.1f} min"


def readable(text: Any, limit: int = 2000) -> str:
    """`text` without what would break or bend the page: control and format characters become ‹U+200B›, the rest
    stays as it is. Longer text is cut, and the cut is said."""
    whole = str(text)
    shown = "".join(_visible(letter) for letter in whole[:limit])
    return shown + (f" … ({len(whole) - limit:,} more characters)" if len(whole) > limit else "")


def _visible(letter: str) -> str:
    if letter in "\n\t" or letter in _JOINERS:
        return letter
    is_hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co")
    return f"‹U+{ord(letter):04X}›" if is_hidden else letter


def _minus(text: str) -> str:
    return text.replace("-", "−")
