"""The quantize extra is not in every environment (`make test-latest`)."""

from __future__ import annotations

from importlib.util import find_spec

HAS_QUANTIZE = find_spec("llmcompressor") is not None
collect_ignore_glob = [] if HAS_QUANTIZE else ["test_*.py"]


def pytest_report_header() -> str:
    """Says what is left out and why."""
    return "" if HAS_QUANTIZE else "tests/quantize left out: the quantize extra (llmcompressor) is not installed"
