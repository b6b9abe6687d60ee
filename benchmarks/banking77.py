"""banking77 with the built-in model: exact-match accuracy of free greedy answers, base against tuned.

    python benchmarks/banking77.py --data ../shared/data --seeds 7 8 9 [--all-intents] [--base-rows 300]

Protocol in examples/finance/README.md: 20 intents, at most 500 training rows, all test rows of these intents for tuned
models; the base (shown the labels) on a seeded sample of the test rows, since its answers do not depend on the seed.
Prints one line a seed, the median, and last a JSON line. Asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from tunewright import pipeline, project
from tunewright.core.chat import Conversation
from tunewright.core.machine import describe
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import to_score
from tunewright.evaluate import exam
from tunewright.models import source
from tunewright.models.load import choose_dtype, for_inference, load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.models.tuned import open_tuned
from tunewright.project import ProjectConfig

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "finance"
KEYS = ("intent.accuracy", "intent.macro_f1", "intent_choice.accuracy")


def main() -> None:
    """Runs the protocol."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds banking77/{train,dev,test}.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--all-intents", action="store_true")
    parser.add_argument("--base-rows", type=int, default=300)
    parser.add_argument("override", nargs="*", help="section.key=value")
    arguments = parser.parse_args()
    name = "banking77_all.yaml" if arguments.all_intents else "banking77.yaml"
    results = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(arguments.data.resolve())
        for seed in arguments.seeds:
            loaded = project.load(EXAMPLES / name, [f"seed={seed}", *arguments.override])
            results.append(one_seed(loaded, Workspace(Path(folder), loaded.name)))
            print(json.dumps({"seed": seed, **results[-1]}), flush=True)
        base = examine_base(loaded, Workspace(Path(folder), loaded.name), arguments.base_rows)
    accuracies = [result["intent.accuracy"]["value"] for result in results]
    summary = {
        "median_accuracy": statistics.median(accuracies),
        "range": [min(accuracies), max(accuracies)],
        "train_seconds": [result["train_seconds"] for result in results],
        "base": base,
        "machine": describe().model_dump(),
    }
    print(json.dumps(summary))


def one_seed(loaded: ProjectConfig, workspace: Workspace) -> dict[str, Any]:
    """Data, training and the tuned model's exam on every test row."""
    stages = pipeline.Stages(loaded, workspace, "banking77.yaml")
    data = stages.run("data", {})
    train = stages.run("train", {"data": data})
    base = source.resolve(loaded.model, workspace.root)
    model = open_tuned(train, loaded.model, base, dtype=choose_dtype(loaded.model.dtype))
    facts = train.manifest.facts
    return {
        **examine(loaded, data, for_inference(model), base, system="tuned"),
        "train_seconds": facts["seconds"],
        "train_tokens": facts["tokens"],
        "computed_tokens": facts["computed_tokens"],
        "validation_loss": facts["validation_loss"],
    }


def examine_base(loaded: ProjectConfig, workspace: Workspace, rows: int) -> dict[str, Any]:
    """The base with the labels in its prompt."""
    base = source.resolve(loaded.model, workspace.root)
    model = for_inference(load_model(base, dtype=choose_dtype(loaded.model.dtype)))
    limited = loaded.model_copy(update={"evaluate": loaded.evaluate.model_copy(update={"max_rows": rows})})
    return examine(limited, workspace.newest("data"), model, base, system="base")


def examine(loaded: ProjectConfig, data: Artifact, model: Any, base: Path, *, system: Any) -> dict[str, Any]:
    """Scores with intervals of one system, without timings."""
    splits = {name: [Conversation.from_row(row) for row in data.jsonl(f"{name}.jsonl")] for name in ("train", "test")}
    metrics = tuple(metric for metric in loaded.evaluate.metrics if metric.name == "intent")
    config = loaded.evaluate.model_copy(update={"metrics": metrics})
    prepared = exam.prepare(config, splits["test"], splits["train"], seed=loaded.seed)
    tokenizer = ChatTokenizer.load(base)
    taken = exam.take(prepared, model, tokenizer, system=system, max_length=tokenizer.max_length)
    scores = {key: to_score(taken.measured[key], seed=loaded.seed) for key in KEYS}
    return {key: {k: round(getattr(s, k), 4) for k in ("value", "low", "high", "n")} for key, s in scores.items()}


if __name__ == "__main__":
    main()
