"""Conversations a second of each rule of the data stage, on one core.

    python benchmarks/data_rules.py [FILE.jsonl ...] [--seconds 1.0]

Without files: rows written here, short support questions (no finding) and rows full of personal data. Times are CPU
seconds of the process, so that other load on the machine matters less. Prints a line a rule and a JSON line at the end.
Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from tunewright.core.chat import Message
from tunewright.core.machine import describe
from tunewright.data.config import RULES
from tunewright.data.draft import Draft, SampleRule
from tunewright.data.rules.options import DomainOptions, TextOptions, TurnsOptions

SHORT = [("I still have not received my new card, I ordered over a week ago.", "card_arrival")] * 500
FULL = [
    (f"您好，电话１３８１２３４{n:04}，卡号4111 1111 1111 1111，邮箱user{n}@example.com，帮我查一下37.5%的利率。" * 3,)
    * 2
    for n in range(500)
]
WORDS = tuple(f"词{n}" for n in range(500))


def main() -> None:
    """Measures every registered rule on every set of rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds a measurement")
    arguments = parser.parse_args()
    sets = {path.as_posix(): read(path) for path in arguments.files} or {"short": drafts(SHORT), "full": drafts(FULL)}
    chosen = [RULES.options(name)() for name in RULES.entries if name not in ("domain", "turns", "near_duplicate")]
    chosen += [TextOptions(preset="aggressive"), TurnsOptions(keep_turns=3), DomainOptions(vocabulary=WORDS)]
    results: dict[str, dict[str, float]] = {}
    for label, rows in sets.items():
        results[label] = {}
        for options in chosen:
            name = f"{options.name}:aggressive" if getattr(options, "preset", "") == "aggressive" else options.name
            speed = measure(RULES.target(options.name)(options), rows, seconds=arguments.seconds)
            results[label][name] = round(speed)
            print(f"{label:>12} {name:>18} {speed:>12,.0f} conversations/s", flush=True)
        together = 1 / sum(1 / speed for name, speed in results[label].items() if ":" not in name)
        print(f"{label:>12} {'all in a row':>18} {together:>12,.0f} conversations/s", flush=True)
    print(json.dumps({"rows_per_second": results, "machine": describe().model_dump()}))


def measure(rule: object, rows: list[Draft], *, seconds: float) -> float:
    """Rows a CPU second."""
    apply = rule.samples if isinstance(rule, SampleRule) else rule.apply  # type: ignore[attr-defined]
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        for row in rows:
            apply(row)
        done += len(rows)
    return done / spent


def drafts(pairs: list[tuple[str, str]]) -> list[Draft]:
    """Question and answer as drafts."""
    return [Draft((Message(role="user", content=q), Message(role="assistant", content=a)), {}) for q, a in pairs]


def read(path: Path) -> list[Draft]:
    """The first 2,000 conversations of a file in the project's own format."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:2000] if line.strip()]
    known = {"user", "assistant", "system", "tool"}
    return [
        Draft(tuple(Message(role=turn["role"], content=turn["content"]) for turn in row["conversation"]), {})
        for row in rows
        if all(turn["role"] in known for turn in row["conversation"])
    ]


if __name__ == "__main__":
    main()
