"""Answers of the built-in model: batches of 8 against one by one, and a second run from the cache, alternating, median.

    python benchmarks/generation.py [--rows 32] [--new-tokens 64] [--rounds 3] [--dtype float32]

Two jobs of the same size: questions of one length, answered to the last token ("even": what a batch can gain at most),
and the questions of the built-in data set, which differ in length and stop where the model stops ("asked": what an
evaluation gains). Both sides go through `evaluate.systems`, the way every evaluation does. Texts are compared: they
are the same in float32; in 16-bit formats a sum depends on the shape of the batch in its last digits, and a model that
is unsure goes another way. Prints a line a round; the last line is JSON. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tunewright.core.chat import Conversation, Message
from tunewright.core.machine import describe
from tunewright.evaluate.prompts import Prompt
from tunewright.evaluate.systems import open as systems
from tunewright.evaluate.systems.cache import AnswerCache
from tunewright.evaluate.systems.local import LocalModel
from tunewright.evaluate.systems.protocol import Asking
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.generate import Sampling, generate
from tunewright.models.load import choose_dtype

BANK = Path(__file__).resolve().parent.parent / "src" / "tunewright" / "builtin_data" / "bank.jsonl"
BATCH = 8


def questions(system: LocalModel, rows: int) -> list[Prompt]:
    """Rows of the built-in data set as prompts; rows that are broken on purpose are left out."""
    texts = [text for line in BANK.read_bytes().split(b"\n") if (text := _question(line))]
    found = []
    for number, text in enumerate(texts[:: max(1, len(texts) // rows)][:rows]):
        messages = (Message(role="user", content=text), Message(role="assistant", content="-"))
        row = Conversation(id=str(number), messages=messages)
        found.append(Prompt(row, system.tokenizer.prompt_ids(row.prompt), False, False, 0, "answer:", row.prompt))
    return found


def _question(line: bytes) -> str:
    """The first user turn of a well-formed row, else nothing."""
    try:
        turns = json.loads(line)["conversation"]
        return next(str(turn["content"]) for turn in turns if turn["role"] == "user")
    except (ValueError, KeyError, TypeError, StopIteration):
        return ""


def even(system: LocalModel, prompts: Sequence[Prompt], new_tokens: int, batch: int) -> tuple[float, list[Any]]:
    """(seconds, token ids) of prompts of one length, each answered with exactly `new_tokens` tokens."""
    length = min(len(prompt.ids) for prompt in prompts)
    ids = [prompt.ids[-length:] for prompt in prompts]
    start = time.perf_counter()
    sampling = Sampling(max_new_tokens=new_tokens, ignore_end=True)
    found = generate(system.model, system.tokenizer, ids, sampling, batch_size=batch)
    return time.perf_counter() - start, [request.output_ids for request in found]


def asked(system: LocalModel, prompts: Sequence[Prompt], new_tokens: int, batch: int) -> tuple[float, list[str]]:
    """(seconds, texts) of an evaluation's way to ask."""
    start = time.perf_counter()
    samples = system.answer(prompts, Asking(new_tokens, batch))
    return time.perf_counter() - start, [sample.prediction for sample in samples]


def main() -> None:
    """Every round asks one by one and in batches, in alternating order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    given = parser.parse_args()
    config = ModelConfig(path=given.model, dtype=given.dtype)
    folder, dtype = source.resolve(config, Path.cwd()), choose_dtype(config.dtype)
    system = systems.base(folder, config, dtype=dtype)
    prompts = questions(system, given.rows)
    print(describe().model_dump_json(), f"threads {torch.get_num_threads()} {dtype}")
    even(system, prompts[:BATCH], 4, BATCH)
    ratios: dict[str, list[float]] = {}
    same: dict[str, float] = {}
    for number in range(given.rounds):
        for name, job in (("even", even), ("asked", asked)):
            order = (1, BATCH) if number % 2 == 0 else (BATCH, 1)
            times, texts = {}, {}
            for batch in order:
                times[batch], texts[batch] = job(system, prompts, given.new_tokens, batch)
            ratios.setdefault(name, []).append(times[1] / times[BATCH])
            same[name] = sum(a == b for a, b in zip(texts[1], texts[BATCH], strict=True)) / len(prompts)
            print(f"round {number + 1} {name:6} one by one {times[1]:6.2f} s  batch 8 {times[BATCH]:6.2f} s  "
                  f"{ratios[name][-1]:.2f}x  same answers {same[name]:.2f}", flush=True)  # fmt: skip
    print(json.dumps(summary(ratios, same) | {"cached_s": cached(folder, config, prompts, given.new_tokens)}))


def cached(folder: Path, config: ModelConfig, prompts: Sequence[Prompt], new_tokens: int) -> dict[str, float]:
    """Seconds of a first and a second run through a cache, each with a system of its own, loading included."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for name in ("first", "second"):
            start = time.perf_counter()
            fresh = systems.base(folder, config, dtype=choose_dtype(config.dtype), cache=AnswerCache(Path(place)))
            fresh.answer(prompts, Asking(new_tokens, BATCH))
            found[name] = round(time.perf_counter() - start, 3)
    return found


def summary(ratios: dict[str, list[float]], same: dict[str, float]) -> dict[str, Any]:
    """Median and range of both jobs; the first key is the evaluation's."""
    spread = {
        name: {
            "median": round(statistics.median(values), 2),
            "low": round(min(values), 2),
            "high": round(max(values), 2),
            "same_answers": round(same[name], 3),
        }
        for name, values in ratios.items()
    }
    return {"batch8_vs_one_by_one": spread["asked"]["median"], **spread}


if __name__ == "__main__":
    main()
