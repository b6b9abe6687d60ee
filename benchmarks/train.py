"""tunewright's training loop beside transformers' Trainer + peft and TRL: wall time, peak memory, loss curves.

    python benchmarks/train.py --data ../shared/data [--steps 8] [--rounds 3] [--trl PYTHON] [--llamafactory PYTHON]
        [--quick]

Every system trains the same tokenized rows (banking77 with the example's prompt, dialogues of crosswoz_zh and
messy_irc; a second set has rows of about one length) from the same weights: the built-in model in bf16, LoRA r=16 on
q and v, effective batch 16, AdamW, constant learning rate, no evaluation, no checkpoint. Each run is its own process,
so its peak memory is its own; rounds alternate between the systems. Rivals sweep micro-batch sizes, TRL also
padding_free. `--trl` and `--llamafactory` name Pythons that have them (benchmarks/setup/*.sh make one). transformers
imports whatever is installed: memory is compared best in an environment of `pip install 'tunewright[train]'` alone.
Prints a table of medians and ranges, and ends with one JSON line of ratios (time: theirs / ours, above 1 is in our
favour; memory: ours / theirs).
Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train_rows import mixed_rows, uniform_rows
from tunewright.models import source
from tunewright.models.config import ModelConfig

BATCH = 16
TRAINER = {"trainer 1x16": ("trainer", 1), "trainer 2x8": ("trainer", 2), "trainer 4x4": ("trainer", 4)}
TRL = {"trl 1x16": ("trl", 1), "trl 4x4": ("trl", 4), "trl free 4x4": ("trl-free", 4)}
FACTORY = {"llamafactory 1x16": ("llamafactory", 1), "llamafactory 4x4": ("llamafactory", 4)}
OURS = {"tunewright": ("ours", 0), "tunewright, no shared prefix": ("ours-apart", 0)}
RUNNER = Path(__file__).with_name("train_one.py")


def main() -> None:
    """Makes the rows, runs every system in turn, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trl", type=Path, help="a Python with TRL")
    parser.add_argument("--llamafactory", type=Path, help="a Python with LLaMA-Factory")
    parser.add_argument("--quick", action="store_true", help="the rivals' best settings alone, and no uniform set")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        found: dict[str, Any] = {}
        sets = {"mixed": mixed_rows, **({} if arguments.quick else {"uniform": uniform_rows})}
        for name, make in sets.items():
            rows = make(arguments.data, arguments.steps * BATCH)
            (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            runs = measure(place / f"{name}.jsonl", arguments)
            print(table(name, rows, runs), flush=True)
            found[name] = ratios(runs)
        print(json.dumps({**found["mixed"], **({"uniform": found["uniform"]} if "uniform" in found else {})}))


def measure(rows: Path, arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Runs by system, `rounds` of each, alternating."""
    systems = {**OURS, **TRAINER, **(TRL if arguments.trl else {}), **(FACTORY if arguments.llamafactory else {})}
    pythons = {"trl": arguments.trl, "trl-free": arguments.trl, "llamafactory": arguments.llamafactory}
    if arguments.quick:
        systems = {name: how for name, how in systems.items() if how[1] in (0, 1)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    for number in range(arguments.rounds):
        for name, (kind, micro) in systems.items():
            if number and micro == 4:
                continue  # four times as slow: once is enough to know it
            runs[name].append(one(str(pythons.get(kind, sys.executable)), kind, micro, rows))
            seconds, peak = runs[name][-1]["seconds"], runs[name][-1]["peak_bytes"] / 1e9
            print(f"  {name}: {seconds:.1f} s, {peak:.2f} GB", file=sys.stderr, flush=True)
    return runs


def one(python: str, kind: str, micro: int, rows: Path) -> dict[str, Any]:
    """One training in a process of its own."""
    command = [python, str(RUNNER), kind, str(micro), str(rows)]
    model = str(source.resolve(ModelConfig(), Path()))
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "BENCHMARK_MODEL": model}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=quiet, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(name: str, rows: list[dict[str, Any]], runs: dict[str, list[dict[str, Any]]]) -> str:
    """Medians and ranges, a line a system."""
    tokens = sum(len(row["input_ids"]) for row in rows)
    lines = [f"{name}: {len(rows)} rows, {tokens} tokens, {max(len(row['input_ids']) for row in rows)} in the longest"]
    lines.append("| system | s, median (range) | tokens/s | peak GB | last loss |\n| --- | --- | --- | --- | --- |")
    for system, found in runs.items():
        seconds = sorted(run["seconds"] for run in found)
        middle = statistics.median(seconds)
        peak = statistics.median(run["peak_bytes"] for run in found) / 1e9
        spread = f"{middle:.1f} ({seconds[0]:.1f}-{seconds[-1]:.1f})"
        lines.append(f"| {system} | {spread} | {tokens / middle:.0f} | {peak:.2f} | {found[0]['losses'][-1]:.3f} |")
    return "\n".join(lines)


def ratios(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """What the last line holds. best: the rival's fastest setting."""
    time = {name: statistics.median(run["seconds"] for run in found) for name, found in runs.items()}
    peak = {name: statistics.median(run["peak_bytes"] for run in found) for name, found in runs.items()}
    ours, apart = OURS
    result = {"mfu": statistics.median(run["mfu"] for run in runs[ours])}
    for rival, systems in (("trainer", TRAINER), ("trl", TRL), ("llamafactory", FACTORY)):
        known = [name for name in systems if name in runs]
        if known:
            best = min(known, key=time.__getitem__)
            result |= {f"vs_{rival}_best": time[best] / time[ours]}
            result |= {f"vs_{rival}_best_no_shared_prefix": time[best] / time[apart]}
            result |= {f"rss_vs_{rival}_best": peak[ours] / peak[best]}
        padded = f"{rival} 4x4"
        if padded in runs:
            result |= {
                f"vs_{rival}_padded4": time[padded] / time[ours],
                f"rss_vs_{rival}_padded4": peak[ours] / peak[padded],
            }
    return dict(_rounded(result))


def _rounded(found: dict[str, float]) -> Iterator[tuple[str, float]]:
    for key, value in found.items():
        yield {"rss_vs_trainer_padded4": "rss_vs_padded4"}.get(key, key), round(value, 3)


if __name__ == "__main__":
    main()
