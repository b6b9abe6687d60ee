"""Do the installed peft and transformers compute adapters rightly together? Asked in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.doctor.facts import Fact
from tunewright.doctor.libraries import version_of
from tunewright.doctor.tested import TESTED

_NEEDED = ("torch", "transformers", "peft", "accelerate", "safetensors")
_PAIR = ("peft", "transformers")
TIMEOUT_S = 180
PROOF = [sys.executable, "-W", "ignore", "-m", "tunewright.models.adapters_proof"]


def adapter_facts() -> list[Fact]:
    """One fact where the train extra is installed, none where it is not (the libraries' own lines say so)."""
    versions = {name: version for name in _NEEDED if (version := version_of(name))}
    if len(versions) < len(_NEEDED):
        return []
    return [adapter_fact(_run(PROOF), {name: versions[name] for name in _PAIR})]


def _run(command: Sequence[str]) -> dict[str, Any]:
    """What the proof found; where it did not end well, that is what it found."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"check": [f"it did not end within {TIMEOUT_S} s"]}
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    last = next(iter(reversed(done.stderr.strip().splitlines())), f"exit code {done.returncode}")
    return {"check": [last]}


def adapter_fact(found: Mapping[str, Any], versions: Mapping[str, str]) -> Fact:
    """found: what models/adapters_proof.findings gives. A wrong kind fails; a wrong generate() of peft's is only said,
    as nothing here uses it."""
    pair = " with ".join(f"{name} {version}" for name, version in versions.items())
    kinds = {kind: reasons for kind, reasons in found.items() if isinstance(reasons, list)}
    wrong = [f"{kind}: {'; '.join(reasons)}" for kind, reasons in kinds.items() if reasons]
    if wrong:
        fix = f"pip install {' '.join(f'{name}=={TESTED[name]}' for name in versions)}"
        return Fact(name="adapters", fact=f"wrong in {pair}: {'; '.join(wrong)}", verdict="fail", fix=fix)
    words = f"{', '.join(kinds)} are right in {pair}"
    if stock := found.get("stock_prefix_generate"):
        words += f" (not so peft's own generate() with a prefix: {stock}; tunewright does not use it)"
    return Fact(name="adapters", fact=words)
