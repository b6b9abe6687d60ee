"""Predicted against measured peak memory of training the built-in model: every method, with and without checkpointing.

    python benchmarks/plan.py [--only lora full] [--tokens 2048] [--rows 24] [--constants]

Each case trains a few steps in a process of its own on made-up rows, in two or more micro-batches a step; its peak is
the one that the train stage records. --constants instead measures the program without a model's weight, and says what
share of the activations each case's heap held beside them (footprint/predict.py: PROGRAM, HOLES). Prints a table and a
JSON line; asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.tokens import ChatTokenizer

CASES: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora"},
    "lora-qv": {"name": "lora", "targets": ["q_proj", "v_proj"]},
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "layers": 6},
    "prefix": {"name": "prefix"},
    "ia3": {"name": "ia3"},
}
WORDS = [
    "card",
    "bank",
    "fee",
    "loan",
    "money",
    "account",
    "transfer",
    "limit",
    "pin",
    "cash",
    "app",
    "phone",
    "number",
    "please",
    "help",
    "me",
    "with",
    "my",
    "the",
    "a",
    "to",
    "is",
    "in",
    "of",
    "and",
    "not",
    "what",
    "how",
    "when",
    "lost",
    "stolen",
    "blocked",
    "pay",
    "paid",
    "late",
    "early",
    "rate",
]


def main() -> None:
    """One process a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--tokens", type=int, default=2048, help="train.micro_batch_tokens")
    parser.add_argument("--rows", type=int, default=16, help="rows of a step, of about 270 tokens each")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", default="builtin:smollm2-135m")
    parser.add_argument("--dtype", default="auto", help="model.dtype")
    parser.add_argument("--constants", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(json.loads(arguments.one))))
    elif arguments.constants:
        print(json.dumps(constants(arguments)))
    else:
        print(json.dumps(table(arguments)))


def table(arguments: argparse.Namespace) -> dict[str, Any]:
    """A line a case; ratio is predicted / measured."""
    print(f"{'case':<22} {'predicted GB':>12} {'measured GB':>12} {'ratio':>7}")
    ratios = {}
    for name, found in results(arguments):
        ratios[name] = round(found["predicted"] / found["measured"], 3)
        print(
            f"{name:<22} {found['predicted'] / 1e9:>12.2f} {found['measured'] / 1e9:>12.2f} {ratios[name]:>7.3f}",
            flush=True,
        )
    return {"ratios": ratios, "worst": max(ratios.values(), key=lambda ratio: abs(ratio - 1))}


def results(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, what its child printed) of each case."""
    for name in arguments.only:
        for checkpointing in (False, True):
            case = {
                "train": {
                    "method": CASES[name],
                    "gradient_checkpointing": checkpointing,
                    "micro_batch_tokens": arguments.tokens,
                    "rows_per_step": arguments.rows,
                    "steps": arguments.steps,
                },
                "model": arguments.model,
                "dtype": arguments.dtype,
                "rows": arguments.rows * 2,
            }
            label = f"{name}{', checkpointing' if checkpointing else ''}"
            yield label, child(case)


def constants(arguments: argparse.Namespace) -> dict[str, Any]:
    """program: peak bytes of training a model of 0.1 M weights; holes: share of activations, by case."""
    small = {
        "train": {"method": CASES["lora"], "rows_per_step": 8, "steps": 2},
        "model": "builtin:tiny",
        "rows": 8,
        "words": 16,
    }
    program = child(small)["measured"]
    holes = {}
    for name, found in results(arguments):
        parts = found["parts"]
        rest = found["measured"] - program - sum(v for k, v in parts.items() if k not in ("program", "allocator"))
        holes[name] = round(rest / found["heap"], 3)
        print(name, holes[name], file=sys.stderr, flush=True)
    return {"program": program, "holes": holes, "median": statistics.median(holes.values())}


def child(case: dict[str, Any]) -> dict[str, Any]:
    """Runs one case in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", json.dumps(case)], stdout=subprocess.PIPE, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one(case: dict[str, Any]) -> dict[str, Any]:
    """Trains; its prediction is made after its peak is known, so that it adds nothing to it."""
    from tunewright.train import memory, precision, stage
    from tunewright.train.config import TrainConfig
    from tunewright.train.footprint.parts import PARTS
    from tunewright.train.methods.options import METHODS
    from tunewright.train.plan import plan_steps

    settings = TrainConfig.model_validate(
        {"learning_rate": 1e-4, "evaluations_per_epoch": 1, "check_memory": False, **case["train"]}
    )
    model = ModelConfig(path=case["model"], dtype=case.get("dtype", "auto"))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), "plan")
        data = made_data(workspace, case["rows"], words=case.get("words", 120))
        done = stage.run(workspace, settings, model=model, seed=7, data=data)
        measured = done.manifest.facts["peak_memory_bytes"]
        base = source.resolve(model, workspace.root)
        tokenizer = ChatTokenizer.load(base)
        rows = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    examples = [e for row in rows for e in tokenizer.examples(row, max_length=tokenizer.max_length)]
    plan = plan_steps(examples, steps=settings.steps, rows_per_step=settings.rows_per_step, seed=7)
    formats = precision.choose(model.dtype, kind=METHODS.target(settings.method.name)(settings.method).kind)
    planned = memory.Planned(base, formats, [[examples[row] for row in step] for step in plan.steps])
    found = planned.need(settings, device="cpu")
    parts = {part: getattr(found, part) for part in PARTS}
    return {"measured": measured, "predicted": found.bytes, "parts": parts, "heap": found.heap}


def made_data(workspace: Workspace, count: int, *, words: int) -> Artifact:
    """Splits of conversations of twice about `words` words, half of them answer; the lengths vary by a third."""
    output = begin(workspace, "data", {"made": count}, ())
    assert isinstance(output, Output)
    for split, rows, seed in (("train", count, 0), ("validation", 8, 1), ("test", 2, 2)):
        draw = random.Random(seed)
        made = [made_row(f"{split}:{number}", draw, words) for number in range(rows)]
        files.write_jsonl(output.path / f"{split}.jsonl", [row.to_row() for row in made])
    return output.seal()


def made_row(name: str, draw: random.Random, words: int) -> Conversation:
    """A question and an answer of random words."""
    question, answer = (" ".join(draw.choices(WORDS, k=draw.randint(words * 2 // 3, words * 4 // 3))) for _ in range(2))
    turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
    return Conversation(id=name, messages=turns, metadata={})


if __name__ == "__main__":
    main()
