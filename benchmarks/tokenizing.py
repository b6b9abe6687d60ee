"""Microseconds of CPU a row of the token gate and of training's tokenizing, plain and quick, and from the cache.

    python benchmarks/tokenizing.py --data ../shared/data/banking77/train.jsonl [--rows 2000] [--model builtin:tiny]

Rows: {"conversation": [...]} a line; repeated questions are left out, a short system turn is put in front. Prints,
asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.machine import describe
from tunewright.core.runs import Workspace
from tunewright.data.tokens.check import TokenCheck
from tunewright.models.config import ModelConfig
from tunewright.models.source import resolve
from tunewright.models.token_cache import token_cache
from tunewright.models.tokens import ChatTokenizer, Example

SYSTEM = {"role": "system", "content": "Name the intent of the question."}


def main() -> None:
    """Measures in turn, each on rows that were not seen before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    arguments = parser.parse_args()
    folder = resolve(ModelConfig(path=arguments.model), Path())
    rows = read(arguments.data)[: arguments.rows]
    warm, rest = rows[:200], rows[200:]
    quick, plain = ChatTokenizer.load(folder), ChatTokenizer.load(folder)
    plain.segments.is_used = False
    results = {
        "gate_quick": gate(TokenCheck(quick, max_length=2048), warm, rest),
        "gate_plain": gate(TokenCheck(plain, max_length=2048, quick=False), warm, rest[:500]),
    }
    with tempfile.TemporaryDirectory() as root:
        results |= cached(ChatTokenizer.load(folder), folder, Path(root), rows)
    print(json.dumps({**results, "rows": len(rows), "unit": "CPU microseconds a row", "machine": describe().cpu}))


def read(path: Path) -> list[dict[str, Any]]:
    """Rows with distinct questions."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        turns = json.loads(line)["conversation"]
        if turns[0]["role"] == "user":
            row = {"id": f"row:{len(found)}", "conversation": [SYSTEM, *turns], "metadata": {}}
            found.setdefault(turns[0]["content"], row)
    return list(found.values())


def gate(check: TokenCheck, warm: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """`measure` and `notes` of each row."""

    def run(part: list[dict[str, Any]]) -> Callable[[], None]:
        conversations = [Conversation.from_row(row) for row in part]

        def walk() -> None:
            for conversation in conversations:
                check.measure(conversation)
                check.notes(conversation)

        return walk

    seconds(run(warm))
    return per_row(seconds(run(rows)), len(rows))


def cached(tokenizer: ChatTokenizer, folder: Path, root: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Training's way: rows of a file to examples, the first time and from the cache (median of five)."""
    split = root / "train.jsonl"
    split.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    cache = token_cache(Workspace(root, "bench"), tokenizer, folder, max_length=2048, label="bench")

    def make() -> list[Example]:
        lines = split.read_text(encoding="utf-8").splitlines()
        conversations = (Conversation.from_row(json.loads(line)) for line in lines)
        return [e for conversation in conversations for e in tokenizer.examples(conversation, max_length=2048)]

    first = seconds(lambda: cache.examples(split, make))
    again = sorted(seconds(lambda: cache.examples(split, make)) for _ in range(5))[2]
    return {
        "training_first": per_row(first, len(rows)),
        "training_from_cache": per_row(again, len(rows)),
        "times_faster": round(first / again, 1),
    }


def seconds(run: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    run()
    return time.process_time() - start


def per_row(taken: float, rows: int) -> float:
    """Microseconds."""
    return round(taken / max(rows, 1) * 1e6, 1)


if __name__ == "__main__":
    main()
