"""Every training method on banking77 (20 intents, 500 rows): accuracy, trained share, seconds, memory, adapter size,
latency beside the base and merged.

    python benchmarks/methods.py --data ../shared/data [--only lora ia3] [--test-rows 800] [--keep DIR] [key=value ...]

The protocol is that of benchmarks/banking77.py. Each method is trained in a process of its own (its peak memory is
its own), then its saved weights answer the test questions, merged where they merge. Latency: 200 tokens at batch 1,
median of alternating runs of the base, the adapter beside the base and the merged model. The learning rates are one
guess a method, not a search. Prints a JSON line a method; asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tunewright import pipeline, project
from tunewright.core.chat import Conversation
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import to_score
from tunewright.evaluate import exam
from tunewright.models import source, tuned
from tunewright.models.generate import Sampling, generate
from tunewright.models.load import choose_dtype, for_inference, load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.project import ProjectConfig

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "finance" / "banking77.yaml"
TEXT = "Name the intent of the bank customer's question in one word, as it stands in the list of intents."
METHODS: dict[str, tuple[dict[str, Any], float]] = {
    "lora": ({"name": "lora"}, 1e-3),
    "lora-qv": ({"name": "lora", "targets": ["q_proj", "v_proj"]}, 2e-3),
    "rslora": ({"name": "lora", "variant": "rslora"}, 5e-4),
    "dora": ({"name": "lora", "variant": "dora"}, 1e-3),
    "pissa": ({"name": "lora", "variant": "pissa"}, 3e-4),
    "lora-4bit": ({"name": "lora", "base_bits": 4}, 1e-3),
    "ia3": ({"name": "ia3"}, 3e-2),
    "prefix": ({"name": "prefix", "initial_text": TEXT}, 2e-2),
    "prefix-projection": ({"name": "prefix", "projection": True, "initial_text": TEXT}, 2e-4),
    "freeze": ({"name": "freeze", "layers": 10}, 3e-4),
    "full": ({"name": "full"}, 1e-4),
}
"""Options and learning rate of each row of the table."""
REPEATS = 5


def main() -> None:
    """Runs one process a method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds banking77/{train,dev,test}.jsonl")
    parser.add_argument("--only", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--test-rows", type=int, default=800)
    parser.add_argument("--keep", type=Path, help="folder for the runs; finished ones are not trained again")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("override", nargs="*", help="section.key=value")
    arguments = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.one:
            print(json.dumps(one(arguments.only[0], folder, arguments.test_rows, arguments.override)))
            return
        if not (folder / "data").exists():
            (folder / "data").symlink_to(arguments.data.resolve())
        for name in arguments.only:
            command = [sys.executable, __file__, "--data", str(arguments.data), "--keep", str(folder), "--one"]
            words = ["--test-rows", str(arguments.test_rows), "--only", name, "--", *arguments.override]
            found = subprocess.run([*command, *words], stdout=subprocess.PIPE, text=True)
            print(found.stdout.strip() or json.dumps({"method": name, "failed": found.returncode}), flush=True)


def one(name: str, folder: Path, test_rows: int, overrides: list[str]) -> dict[str, Any]:
    """Trains `name` and measures it."""
    options, rate = METHODS[name]
    words = [f"train.learning_rate={rate}", f"train.method={json.dumps(options)}", f"evaluate.max_rows={test_rows}"]
    loaded = project.load(EXAMPLE, [*words, *overrides])
    workspace = Workspace(folder, loaded.name)
    stages = pipeline.Stages(loaded, workspace, EXAMPLE.name)
    data = stages.run("data", {})
    train = stages.run("train", {"data": data})
    facts = train.manifest.facts
    weights = train.path / (tuned.ADAPTER if (train.path / tuned.ADAPTER).exists() else tuned.WEIGHTS)
    return {
        "method": name,
        "learning_rate": loaded.train.learning_rate,
        **accuracy(loaded, workspace, data, train),
        "trained_share": round(facts["trained_parameters"] / facts["total_parameters"], 5),
        "seconds": facts["seconds"],
        "peak_memory_bytes": facts["peak_memory_bytes"],
        "validation_loss": round(facts["validation_loss"], 4),
        "saved_bytes": sum(path.stat().st_size for path in weights.glob("*.safetensors")),
        "latency": latency(loaded, workspace, data, train),
    }


def accuracy(loaded: ProjectConfig, workspace: Workspace, data: Artifact, train: Artifact) -> dict[str, Any]:
    """Free greedy answers on the test rows, with the interval."""
    base = source.resolve(loaded.model, workspace.root)
    splits = {name: [Conversation.from_row(row) for row in data.jsonl(f"{name}.jsonl")] for name in ("train", "test")}
    metrics = tuple(metric for metric in loaded.evaluate.metrics if metric.name == "intent")
    config = loaded.evaluate.model_copy(update={"metrics": metrics})
    prepared = exam.prepare(config, splits["test"], splits["train"], seed=loaded.seed)
    tokenizer = ChatTokenizer.load(base)
    model = for_inference(tuned.open_tuned(train, loaded.model, base, dtype=choose_dtype(loaded.model.dtype)))
    taken = exam.take(prepared, model, tokenizer, system="tuned", max_length=tokenizer.max_length - 64)
    score = to_score(taken.measured["intent.accuracy"], seed=loaded.seed)
    return {key: round(getattr(score, key), 4) for key in ("value", "low", "high")} | {"n": score.n}


def latency(loaded: ProjectConfig, workspace: Workspace, data: Artifact, train: Artifact) -> dict[str, Any]:
    """Median seconds for 200 tokens at batch 1, and ratios to the base run by run."""
    base = source.resolve(loaded.model, workspace.root)
    dtype = choose_dtype(loaded.model.dtype)
    tokenizer = ChatTokenizer.load(base)
    models = {"base": load_model(base, dtype=dtype)}
    if (train.path / tuned.ADAPTER).exists():
        models["beside"] = tuned.open_tuned(train, loaded.model, base, dtype=dtype, merge=False)
    if tuned.merges(train):
        models["merged"] = tuned.open_tuned(train, loaded.model, base, dtype=dtype)
    models = {name: for_inference(model) for name, model in models.items()}
    row = Conversation.from_row(next(iter(data.jsonl("test.jsonl"))))
    prompt, sampling = tokenizer.prompt_ids(row.prompt), Sampling(max_new_tokens=200, ignore_end=True)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(REPEATS + 1):
        for name, model in models.items():
            start = time.perf_counter()
            generate(model, tokenizer, [prompt], sampling, batch_size=1)
            if repeat:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    ratios = {
        name: sorted(round(t / b, 3) for t, b in zip(times, seconds["base"], strict=True))
        for name, times in seconds.items()
        if name != "base"
    }
    return {
        "base_s": round(statistics.median(seconds["base"]), 3),
        **{f"{name}_ratio": [statistics.median(found), found[0], found[-1]] for name, found in ratios.items()},
    }


if __name__ == "__main__":
    main()
