"""The value of a written calculation, exactly."""

from __future__ import annotations

from fractions import Fraction

Token = Fraction | str
"""A number, or one of + - * / ^ ( )."""
HIGHEST_POWER = 20
MOST_BITS = 2000


def value_of(tokens: list[Token]) -> Fraction | None:
    """The value; None for what is no whole calculation, divides by zero or grows beyond MOST_BITS bits."""
    if not tokens:
        return None
    reader = _Reader(tokens)
    try:
        value = reader.sum()
    except (_Broken, ZeroDivisionError, RecursionError):
        return None
    return value if reader.place == len(tokens) else None


class _Broken(Exception):
    """The tokens are no calculation."""


class _Reader:
    """Recursive descent: sum of products of powers; the sign binds weaker than the power."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.place = tokens, 0

    def sum(self) -> Fraction:
        value = self.product()
        while (sign := self._next("+-")) is not None:
            other = self.product()
            value = _bounded(value + other if sign == "+" else value - other)
        return value

    def product(self) -> Fraction:
        value = self.power()
        while True:
            sign = self._next("*/")
            if sign is None:
                if self._peek() != "(":
                    return value
                sign = "*"  # 2(3 + 4)
            other = self.power()
            value = _bounded(value * other if sign == "*" else value / other)

    def power(self) -> Fraction:
        if (sign := self._next("+-")) is not None:
            value = self.power()
            return -value if sign == "-" else value
        base = self.operand()
        if self._next("^") is None:
            return base
        exponent = self.power()
        if exponent.denominator != 1 or abs(exponent) > HIGHEST_POWER:
            raise _Broken
        return _bounded(base ** int(exponent))

    def operand(self) -> Fraction:
        found = self._peek()
        self.place += 1
        if isinstance(found, Fraction):
            return found
        if found != "(":
            raise _Broken
        value = self.sum()
        if self._next(")") is None:
            raise _Broken
        return value

    def _peek(self) -> Token | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def _next(self, signs: str) -> str | None:
        token = self._peek()
        if isinstance(token, str) and token in signs:
            self.place += 1
            return token
        return None


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > MOST_BITS:
        raise _Broken
    return value
