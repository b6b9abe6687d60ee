"""The built-in file's planted rows: each ends with the code of its kind, and the report counts them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunewright.data import table

TOOLS = Path(__file__).resolve().parents[2] / "tools"

# What each kind of planted row (tools/build_builtin_data.py) ends as: (action, code); kinds that mix have a list.
PLANTED = {
    "dangling_user": ("repaired", "DANGLING_USER"),
    "first_assistant": ("kept", "FIRST_ASSISTANT"),
    "empty_assistant": ("quarantined", "EMPTY_TARGET"),
    "null_content": ("quarantined", "NULL_CONTENT"),
    "same_role": ("repaired", "SAME_ROLE"),
    "system_middle": ("repaired", "SYSTEM_MID"),
    "empty_conversation": ("quarantined", "MISSING"),
    "missing_conversation": ("quarantined", "MISSING"),
    "unknown_role": ("quarantined", "UNKNOWN_ROLE"),
    "role_alias": ("repaired", "ROLE_ALIAS"),
    "openai_messages": ("kept", None),
    "number_content": ("repaired", "TYPE"),
    "parts_text": ("repaired", "PARTS"),
    "parts_image": ("quarantined", "PARTS"),
    "nan_metadata": ("repaired", "NON_FINITE"),
    "zero_width": ("repaired", "ZERO_WIDTH"),
    "fullwidth": ("kept", "FULLWIDTH"),
    "special_token": ("kept", "SPECIAL_TOKEN"),
    "lone_surrogate": ("repaired", "SURROGATE"),
    "duplicate_key": ("quarantined", "DUP_KEY"),
    "exact_duplicate": ("quarantined", "DUPLICATE"),
    "bom": ("repaired", "BOM"),
    "crlf": ("kept", None),
    "invalid_utf8": ("quarantined", "BAD_UTF8"),
    "trailing_comma": ("repaired", "JSON_SYNTAX"),
    "truncated": ("quarantined", "JSON_SYNTAX"),
    "comment": ("quarantined", "JSON_SYNTAX"),
}


@pytest.fixture(scope="module")
def planted():
    """The built-in file's lines with their kind, None for a clean one."""
    sys.path.insert(0, str(TOOLS))
    try:
        import build_builtin_data
    finally:
        sys.path.remove(str(TOOLS))
    return build_builtin_data.build_lines()


def test_planted_rows_each_end_with_their_code(proven_gate, planted):
    outcomes = iter(proven_gate.outcomes(b"".join(line.data + b"\n" for line in planted)))
    for number, line in enumerate(planted, start=1):
        if not line.data.strip():
            assert line.kind == "blank"
            continue
        outcome = next(outcomes)
        action, code = PLANTED[line.kind] if line.kind else ("kept", None)
        assert outcome.action == action, (number, line.kind, outcome.findings)
        codes = {finding.code for finding in outcome.findings}
        assert codes == ({code} if code else set()), (number, line.kind)
        assert all(finding.line == number for finding in outcome.findings)
    assert next(outcomes, None) is None


def test_builtin_data_through_the_stage(bank, books, planted):
    artifact, report = bank
    books(report)
    kinds = [line.kind for line in planted if line.kind != "blank"]
    ends = [PLANTED[kind][0] if kind else "kept" for kind in kinds]
    assert report["read"] == len(ends)
    assert [report[name] for name in ("kept", "repaired", "quarantined")] == [
        ends.count(name) for name in ("kept", "repaired", "quarantined")
    ]
    assert report["duplicates"] == kinds.count("exact_duplicate")
    assert report["quarantined_share"] < 0.05
    quarantine = artifact.jsonl("quarantine.jsonl")
    assert len(quarantine) == report["quarantined"]
    assert artifact.manifest.facts["splits"] == report["splits"]
    for name, count in report["splits"].items():
        rows = artifact.jsonl(f"{name}.jsonl")
        assert len(rows) == count
        assert report["tokens"]["splits"][name]["rows"] == count
        assert set(report["tokens"]["splits"][name]["breaches"].values()) == {0}
    total = sum(report["splits"].values())
    assert report["splits"]["test"] / total == pytest.approx(0.2, abs=0.01)
    assert report["splits"]["validation"] / total == pytest.approx(0.1, abs=0.01)


def test_report_names_the_first_example(bank, planted):
    _, report = bank
    entry = report["by_code"]["JSON_SYNTAX"]
    lines = {kind: [n for n, line in enumerate(planted, 1) if line.kind == kind] for kind in PLANTED}
    assert (entry["action"], entry["count"]) == ("quarantined", 3)
    assert entry["example"]["line"] == min(lines["truncated"] + lines["comment"])
    assert entry["by_action"]["repaired"]["example"]["line"] == lines["trailing_comma"][0]
    data = b"".join(line.data + b"\n" for line in planted)
    offset = entry["by_action"]["repaired"]["example"]["byte_offset"]
    assert data[offset:].startswith(planted[lines["trailing_comma"][0] - 1].data)
    text = table.table(report)
    assert f"read {report['read']}" in text
    assert f"builtin:bank:{lines['bom'][0]}" in text
    assert all(code in text for code in report["by_code"])
