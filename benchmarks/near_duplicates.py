"""Near duplicates and leakage: time a document, and the share of edited texts that is detected.

    python benchmarks/near_duplicates.py [FILE.jsonl ...]

Times are CPU seconds of this process on one core (set OMP_NUM_THREADS=1), the reading of the files apart. The files
hold rows with a `conversation`; without files only the edited texts are measured.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path

from tunewright.core.chat import Conversation
from tunewright.data.duplicates.near import find_near
from tunewright.data.duplicates.text import comparable, conversation_text, grams, jaccard
from tunewright.data.splits.leakage import KINDS, document, leakage_table

RATES = (0.01, 0.02, 0.05, 0.10, 0.20)
ORIGINALS = 300
HAN = [chr(point) for point in range(0x4E00, 0x4E00 + 800)]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--threshold", type=float, default=0.7)
    options = parser.parse_args()
    for path in options.files:
        measure(path, options.threshold)
    detection(options.threshold)


def measure(path: Path, threshold: float) -> None:
    rows = [
        Conversation(id=f"{path.name}:{number}", messages=json.loads(line)["conversation"])
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    ]
    texts = [conversation_text(row) for row in rows]
    print(f"{path}: {len(texts)} rows, {statistics.mean(map(len, texts)):.0f} characters on average")
    for use_rensa in (False, True):
        start = time.process_time()
        found = find_near(texts, threshold=threshold, seed=7, use_rensa=use_rensa)
        used = (time.process_time() - start) / len(texts)
        print(
            f"  near, {found.engine:6}: {used * 1e3:.3f} ms a row; {len(found.clusters)} clusters, "
            f"{len(found.twins)} duplicates, {found.estimated} pairs estimated, {found.verified} verified"
        )
    documents = [document(row) for row in rows]
    border = len(documents) * 4 // 5
    start = time.process_time()
    table = leakage_table(documents[:border], {"last fifth": documents[border:]}, threshold=threshold, seed=7)
    used = (time.process_time() - start) / len(documents)
    shown = ", ".join(f"{kind} {table['sets']['last fifth'][kind]['rows']}" for kind in KINDS)
    print(f"  leakage      : {used * 1e3:.3f} ms a row; last fifth against the rest: {shown}")


def edited(text: str, rate: float, draw: random.Random, alphabet: list[str]) -> str:
    """A share of the characters replaced by others."""
    return "".join(draw.choice(alphabet) if draw.random() < rate else character for character in text)


def detection(threshold: float) -> None:
    """One edited copy a text; detected: in one cluster with its original; possible: at or above the threshold."""
    draw = random.Random(7)
    words = ["".join(draw.choices(LETTERS, k=draw.randrange(2, 10))) for _ in range(400)]
    for language in ("zh", "en"):
        print(f"{language}: {ORIGINALS} texts of 60 to 200 characters, replaced characters, threshold {threshold:g}")
        for rate in RATES:
            texts = []
            for _ in range(ORIGINALS):
                size = draw.randrange(60, 200)
                zh = language == "zh"
                text = "".join(draw.choices(HAN, k=size)) if zh else " ".join(draw.choices(words, k=size))[:size]
                texts += [text, edited(text, rate, draw, HAN if zh else LETTERS)]
            values = [
                jaccard(grams(comparable(one)), grams(comparable(two)))
                for one, two in zip(texts[::2], texts[1::2], strict=True)
            ]
            cluster = find_near(texts, threshold=threshold, seed=7).cluster_of()
            detected = [cluster.get(row, -1) == cluster.get(row + 1, -2) for row in range(0, len(texts), 2)]
            possible = [found for found, value in zip(detected, values, strict=True) if value >= threshold]
            recall = f"{sum(possible) / len(possible):7.1%}" if possible else "      -"
            print(
                f"  edits {rate:4.0%}: mean Jaccard {statistics.mean(values):.3f}, at or above the threshold "
                f"{len(possible) / ORIGINALS:6.1%}, of those found {recall}, detected {sum(detected) / ORIGINALS:6.1%}"
            )


if __name__ == "__main__":
    main()
