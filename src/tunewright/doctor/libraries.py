"""Installed libraries against the tested set and the declared ranges: metadata only, nothing is imported."""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata

from tunewright import __version__
from tunewright.doctor.facts import Fact
from tunewright.doctor.tested import PYTHON, TESTED

_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*([0-9][0-9.]*)")
_REQUIREMENT = re.compile(r"^([A-Za-z0-9_.\-]+)(?:\[[^\]]*\])?\s*([^;]*)(?:;(.*))?$")


@dataclass(frozen=True)
class Declared:
    """A requirement of the package: `ranges` such as '>=2.6', `extra` that brings it ('' for always)."""

    ranges: str
    extra: str


def release(version: str) -> tuple[int, ...]:
    """'2.13.0+cpu' -> (2, 13): the numbers, without trailing zeros and without what follows them."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found[0].split(".")] if found else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def inside(version: str, ranges: str) -> bool:
    """Whether `version` meets every clause of `ranges` ('>=2.6,<3'); an empty range allows all."""
    return all(_COMPARE[sign](release(version), release(bound)) for sign, bound in _CLAUSE.findall(ranges))


def declared(requirements: Iterable[str]) -> dict[str, Declared]:
    """By library name, from the lines of the package's metadata ('torch>=2.6; extra == "train"')."""
    found = {}
    for line in requirements:
        match = _REQUIREMENT.match(line)
        if match:
            extra = re.search(r"extra\s*==\s*[\"']([^\"']+)", match[3] or "")
            found[match[1].lower()] = Declared(match[2].strip(), extra[1] if extra else "")
    return found


def python_fact(version: tuple[int, int, int] = sys.version_info[:3]) -> Fact:
    """The interpreter: below the declared range fails, another than the tested one is said."""
    words = ".".join(map(str, version))
    if version[:2] < PYTHON:
        return Fact(name="Python", fact=words, verdict="fail", fix=f"use Python {PYTHON[0]}.{PYTHON[1]} or newer")
    note = "" if version[:2] == PYTHON else f" (tested with {PYTHON[0]}.{PYTHON[1]})"
    return Fact(name="Python", fact=words + note)


def library_facts() -> list[Fact]:
    """tunewright itself, then every library of the tested set."""
    try:
        installed, requirements = metadata.version("tunewright"), metadata.requires("tunewright") or []
    except metadata.PackageNotFoundError:
        missing = "runs from a source tree: its declared ranges are not known"
        return [Fact(name="tunewright", fact=missing, verdict="warn", fix="pip install -e .")]
    facts = [_own_fact(installed)]
    ranges = declared(requirements)
    return facts + [library_fact(name, version_of(name), ranges.get(name)) for name in TESTED]


def _own_fact(installed: str) -> Fact:
    if installed == __version__:
        return Fact(name="tunewright", fact=installed)
    words = f"{__version__} is running, {installed} is installed"
    return Fact(name="tunewright", fact=words, verdict="warn", fix="pip install -e . in the source tree")


def library_fact(name: str, version: str | None, needs: Declared | None) -> Fact:
    """One library. Not installed: warn (its extra is optional) or fail; outside the declared range: fail;
    outside the tested version: warn."""
    tested, extra = TESTED[name], needs.extra if needs else ""
    package = f"tunewright[{extra}]" if extra else "tunewright"
    if version is None:
        words = f"not installed{f' (extra {extra})' if extra else ''}"
        return Fact(name=name, fact=words, verdict="warn" if extra else "fail", fix=f"pip install '{package}'")
    if needs and not inside(version, needs.ranges):
        words = f"{version}, outside the declared range {needs.ranges}"
        return Fact(name=name, fact=words, verdict="fail", fix=f"pip install '{name}{needs.ranges}'")
    if release(version) != release(tested):
        words = f"{version}, tested with {tested}"
        return Fact(name=name, fact=words, verdict="warn", fix=f"pip install {name}=={tested} if something fails")
    return Fact(name=name, fact=version)


def version_of(name: str) -> str | None:
    """The installed version of a library, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
