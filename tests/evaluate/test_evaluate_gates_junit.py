"""JUnit XML of gates: what a CI reads."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from tunewright.evaluate.gates import GateResult
from tunewright.evaluate.junit import cases, document


def _result(passed: bool, reason: str) -> GateResult:
    return GateResult(
        metric="intent.accuracy", when=">= base + 0.05", on=("tuned",), significant=True, passed=passed, reason=reason
    )


def test_failures_are_counted_named_and_escaped() -> None:
    found = cases([_result(True, "fine"), _result(False, 'is 0.4 < 0.5 & "not shown" \x00')])
    text = document("bank evaluate", found, seconds=1.5, properties={"rows": 84})
    root = ElementTree.fromstring(text)
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "0")
    suite = root.find("testsuite")
    assert suite is not None and (suite.get("name"), suite.get("time")) == ("bank evaluate", "1.500")
    passed, failed = suite.findall("testcase")
    assert passed.get("classname") == "gates.tuned" and passed.get("name") == "intent.accuracy >= base + 0.05"
    assert passed.find("failure") is None and passed.findtext("system-out") == "fine"
    failure = failed.find("failure")
    assert failure is not None and failure.get("message") == 'is 0.4 < 0.5 & "not shown" \ufffd'
    assert [(p.get("name"), p.get("value")) for p in suite.iter("property")] == [("rows", "84")]


def test_no_gates_make_an_empty_suite() -> None:
    root = ElementTree.fromstring(document("p", []))
    assert root.get("tests") == "0" and list(root.iter("testcase")) == []
