"""The whole data stage on rows like banking77's, on one core: conversations a second.

    python benchmarks/data_pipeline.py [--rows 20000] [--data FOLDER with banking77/train.jsonl]

Without --data the rows are made here (short questions of varied wording, one label). Prints rows a second of processor
time, and by the clock, for the stage as a whole, startup included; the median and range of three runs. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

from tunewright.core.machine import describe
from tunewright.core.runs import Workspace
from tunewright.data import stage
from tunewright.data.config import DataConfig
from tunewright.models.config import ModelConfig

RULES = ("roles", "text", "redact", "forged_turns", "secrets", "near_duplicate")
TEXT = """
card account transfer fee refund limit balance payment cash machine app code pin branch loan rate statement salary
holiday phone shop online late wrong twice missing blocked frozen new old lost stolen change cancel open close see
"""
WORDS = TEXT.split()


def main() -> None:
    """Runs the stage three times on the same rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "rows.jsonl"
        lines = published(arguments.data, arguments.rows) if arguments.data else made(arguments.rows)
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        rates, clock = [], []
        for number in range(3):
            config = DataConfig.model_validate(
                {"sources": [source.name], "rules": [{"name": name} for name in RULES], "workers": 1}
            )
            start, begun = time.process_time(), time.perf_counter()
            stage.run(
                Workspace(Path(folder), f"run{number}"), config, model=ModelConfig(path=arguments.model), seed=number
            )
            rates.append(len(lines) / (time.process_time() - start))
            clock.append(len(lines) / (time.perf_counter() - begun))
    for name, found in (("of processor time", rates), ("by the clock", clock)):
        middle, low, high = statistics.median(found), min(found), max(found)
        print(f"{len(lines)} rows: {middle:,.0f} ({low:,.0f}-{high:,.0f}) conversations/s {name}")
    print(json.dumps({"rows": len(lines), "rates": rates, "clock": clock, "machine": describe().model_dump()}))


def published(folder: Path, rows: int) -> list[str]:
    """The rows of banking77, repeated with a number behind each question so that none is a duplicate."""
    lines = (folder / "banking77" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for number in range(rows):
        row = json.loads(lines[number % len(lines)])
        if number >= len(lines):
            row["conversation"][0]["content"] += f" (my reference is {number * 7919:08d}, branch {number % 97})"
        found.append(json.dumps(row, ensure_ascii=False))
    return found


def made(rows: int) -> list[str]:
    """Questions of eight to fourteen words with one of 77 labels."""
    draw = random.Random(7)
    found = []
    for _ in range(rows):
        question = " ".join(draw.choice(WORDS) for _ in range(draw.randint(8, 14))).capitalize() + "?"
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": f"label_{draw.randrange(77)}"}]
        found.append(json.dumps({"conversation": turns, "metadata": {"intent": turns[1]["content"]}}))
    return found


if __name__ == "__main__":
    main()
