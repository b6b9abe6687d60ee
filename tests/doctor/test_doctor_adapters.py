"""The check of the installed pair: it runs, and each way it can fail is said."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

import pytest

from tunewright.doctor import adapters
from tunewright.doctor.tested import TESTED

VERSIONS = {"peft": "0.99", "transformers": "9.0"}
RIGHT: dict[str, Any] = {"prefix": [], "lora": [], "ia3": [], "stock_prefix_generate": ""}


def test_the_installed_pair_is_right() -> None:
    (fact,) = adapters.adapter_facts()
    assert (fact.name, fact.verdict) == ("adapters", "ok")
    assert fact.fact.startswith("prefix, lora, ia3 are right in peft ")


def test_a_wrong_kind_fails_with_the_tested_pair_as_the_next_step() -> None:
    fact = adapters.adapter_fact({**RIGHT, "ia3": ["the merged adapter is another model"]}, VERSIONS)
    assert fact.verdict == "fail"
    assert fact.fact == "wrong in peft 0.99 with transformers 9.0: ia3: the merged adapter is another model"
    assert fact.fix == f"pip install peft=={TESTED['peft']} transformers=={TESTED['transformers']}"


def test_a_wrong_generate_of_peft_is_only_said() -> None:
    fact = adapters.adapter_fact({**RIGHT, "stock_prefix_generate": "it ignores the prefix"}, VERSIONS)
    assert fact.verdict == "ok"
    assert "peft's own generate() with a prefix: it ignores the prefix; tunewright does not use it" in fact.fact


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('no name X in peft')", "ImportError: no name X in peft"),
        ("import os; os._exit(9)", "code 9"),
    ],
)
def test_a_crash_is_a_finding(code: str, said: str) -> None:
    fact = adapters.adapter_fact(adapters._run([sys.executable, "-c", code]), VERSIONS)
    assert fact.verdict == "fail" and said in fact.fact


def test_a_proof_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "TIMEOUT_S", 0.3)
    found = adapters._run([sys.executable, "-c", "import time; time.sleep(60)"])
    assert found == {"check": ["it did not end within 0.3 s"]}


def test_without_the_train_extra_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(adapters, "PROOF", ["no-such-program"])
    assert adapters.adapter_facts() == []
