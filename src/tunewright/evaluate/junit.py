"""Gates as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.evaluate.gates import GateResult


@dataclass(frozen=True)
class Case:
    """One line of a CI's list of tests; `failure` is empty where it passed."""

    group: str
    name: str
    failure: str = ""
    output: str = ""


def cases(results: Sequence[GateResult], *, group: str = "gates.tuned") -> list[Case]:
    """A case each gate, with its sentence."""
    return [
        Case(group, found.condition, "" if found.passed else found.reason, found.reason if found.passed else "")
        for found in results
    ]


def document(name: str, found: Sequence[Case], *, seconds: float = 0.0, properties: Mapping[str, Any] = {}) -> str:
    """The XML text of one suite. seconds: what the work took. Characters that XML cannot hold become U+FFFD."""
    failed = sum(bool(case.failure) for case in found)
    counts = {"tests": str(len(found)), "failures": str(failed), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _plain(name), **counts, "time": f"{seconds:.3f}"})
    if properties:
        listed = ElementTree.SubElement(suite, "properties")
        for key, value in properties.items():
            ElementTree.SubElement(listed, "property", {"name": _plain(key), "value": _plain(str(value))})
    for case in found:
        names = {"classname": _plain(case.group), "name": _plain(case.name), "time": "0"}
        entry = ElementTree.SubElement(suite, "testcase", names)
        if case.failure:
            failure = ElementTree.SubElement(entry, "failure", {"message": _plain(case.failure), "type": "gate"})
            failure.text = _plain(case.failure)
        if case.output:
            ElementTree.SubElement(entry, "system-out").text = _plain(case.output)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _plain(text: str) -> str:
    return "".join(letter if _is_allowed(ord(letter)) else "\ufffd" for letter in text)


def _is_allowed(code: int) -> bool:
    """The characters of XML 1.0, section 2.2."""
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
