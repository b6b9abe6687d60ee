"""Reading JSONL: MB/s of one core from file to rows, fast and strict side by side, by size of the row.

    python benchmarks/data_reader.py [--megabytes 20] [--rounds 5]

Rows are made up (UTF-8, one question and one answer, a little metadata; Latin and Han text). Measured is processor
time, which other work on the machine disturbs less than the clock. Each round runs both ways; printed is the median,
and last a JSON line. MB are 10^6 bytes. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from tunewright.data.reading.records import parse_record, read_records
from tunewright.data.reading.rows import inspect

MAX_CHARS = 1_000_000
WAYS = ("fast", "strict", "records", "inspect")
"""File to rows with orjson where it is proven; without; records only, unparsed; finding the layout."""
WORDS = {
    "latin": "the card that I ordered last week has not arrived yet, what should I do about it? ",
    "han": "我上周申请的银行卡还没有寄到，请问应该怎么办？谢谢。",
}


def main() -> None:
    """Measures every size and kind of text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("MB/s: text  row bytes" + "".join(f"{name:>10}" for name in WAYS))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in WORDS:
            for size in (200, 1_000, 4_000):
                path = Path(folder) / "rows.jsonl"
                path.write_bytes(rows(kind, size, options.megabytes * 1_000_000))
                found = measure(path, options.rounds)
                results[f"{kind}_{size}"] = found
                print(f"{kind:>10} {size:>10}" + "".join(f"{found[name]:>10}" for name in WAYS))
    print(json.dumps(results))


def rows(kind: str, size: int, total: int) -> bytes:
    """About `total` bytes of lines that have about `size` bytes each."""
    lines = []
    for number in range(total // size):
        frame = len(line(number, "", "").encode())
        text = WORDS[kind] * (size // len(WORDS[kind].encode()) + 1)
        text = text.encode()[: size - frame].decode(errors="ignore")
        half = len(text) // 2
        lines.append(line(number, text[:half], text[half:]))
    return "".join(lines).encode()


def line(number: int, question: str, answer: str) -> str:
    """One row, written as json.dumps does."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"conversation": turns, "metadata": {"n": number}}, ensure_ascii=False) + "\n"


def measure(path: Path, rounds: int) -> dict[str, float]:
    """Median MB/s of processor time a way of reading."""
    layout = inspect(path, max_chars=MAX_CHARS)

    def records() -> int:
        return sum(1 for _ in read_records(path, source="rows", layout=layout, max_chars=MAX_CHARS))

    def parsed(fast: bool) -> int:
        found = read_records(path, source="rows", layout=layout, max_chars=MAX_CHARS)
        return sum(1 for record in found if parse_record(record, fast=fast))

    ways = {
        "fast": lambda: parsed(True),
        "strict": lambda: parsed(False),
        "records": records,
        "inspect": lambda: inspect(path, max_chars=MAX_CHARS),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name].append(time.process_time() - start)
    return {name: round(path.stat().st_size / 1e6 / statistics.median(took), 1) for name, took in seconds.items()}


if __name__ == "__main__":
    main()
