"""Is the advice good? The rules' proposal against the best of a sweep, on validation rows and on the test split.

    python benchmarks/advise.py --data ../shared/data --task banking77 --sweep 8 [--minutes 120] [override ...]

banking77: the protocol of examples/finance/README.md (20 intents, at most 500 training rows). crosswoz_zh: the user
turns of Chinese service dialogues, labelled by what they ask for first (`user_acts`). fineva_zh: Chinese fund and
insurance questions with four choices, the answer is a letter; the public part has few answered rows.
The project starts from the default training settings. The sweep sees training and validation rows only; after it the
trial of the rules and the best trial, both at the full budget, answer the test rows. Prints the table and last a JSON
line. `--keep DIR` keeps the runs there, so that a stopped benchmark goes on. Asserts nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright import project
from tunewright.advise import advice, picture, result, score, sweep
from tunewright.core.chat import Conversation
from tunewright.core.machine import describe
from tunewright.core.runs import Artifact, Workspace
from tunewright.core.scoring import Measured, compare
from tunewright.evaluate import scorer
from tunewright.evaluate.compare import verdict
from tunewright.models import source
from tunewright.pipeline import Stages
from tunewright.project import ProjectConfig
from tunewright.train.config import TrainConfig

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "finance" / "banking77.yaml"
SYSTEM = {"crosswoz_zh": "说出用户想知道什么。", "fineva_zh": "选出正确的选项, 只回答字母。"}
FEWEST_TURNS, MOST_LABELS = 25, 20
PROJECT = """\
name: {name}
seed: 7
model: {{path: "builtin:smollm2-135m"}}
data:
  sources: [train.jsonl]
  system: {system}
  rules: [{{name: roles}}, {{name: text}}]
  max_leakage: {{exact: null}}
  split: {{test: 0, validation_sources: [dev.jsonl], test_sources: [test.jsonl]}}
  max_train_rows: 500
evaluate:
  metrics: [{{name: intent, label: metadata.intent}}]
  primary: intent.accuracy
"""


def main() -> None:
    """Runs one task."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the public data sets")
    parser.add_argument("--task", choices=("banking77", "crosswoz_zh", "fineva_zh"), required=True)
    parser.add_argument("--sweep", type=int, default=8)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--keep", type=Path, help="work here and leave the runs")
    parser.add_argument("override", nargs="*", help="section.key=value")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        loaded = task_project(arguments.task, arguments.data, folder, arguments.override)
        print(json.dumps(one_task(loaded, folder, count=arguments.sweep, minutes=arguments.minutes)))


def task_project(task: str, data: Path, folder: Path, overrides: list[str]) -> ProjectConfig:
    """The task's project with default training settings; its rows are linked or written to `folder`."""
    if task == "banking77":
        link = folder / "data"
        if not link.exists():
            link.symlink_to(data.resolve())
        loaded = project.load(EXAMPLE, overrides)
        return loaded if any(word.startswith("train.") for word in overrides) else with_defaults(loaded)
    rows = {split: list(rows_of(task, data / task / f"{split}.jsonl")) for split in ("train", "dev", "test")}
    if task == "crosswoz_zh":
        counts = Counter(row["metadata"]["intent"] for row in rows["train"])
        kept = {label for label, count in counts.most_common(MOST_LABELS) if count >= FEWEST_TURNS}
        rows = {split: [r for r in found if r["metadata"]["intent"] in kept] for split, found in rows.items()}
    for split, found in rows.items():
        random.Random(7).shuffle(found)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    path = folder / "project.yaml"
    path.write_text(PROJECT.format(name=task, system=json.dumps(SYSTEM[task], ensure_ascii=False)), encoding="utf-8")
    return project.load(path, overrides)


def with_defaults(loaded: ProjectConfig) -> ProjectConfig:
    """The example's training settings are good already; advice starts from the defaults."""
    return loaded.model_copy(update={"train": TrainConfig()})


def rows_of(task: str, path: Path) -> Iterator[dict[str, Any]]:
    """Rows with one question, one label as the answer, and the label in the metadata."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        metadata, turns = row["metadata"], row["conversation"]
        if task == "fineva_zh":
            if metadata["task"].startswith("intent") and metadata["answer"]:
                yield labelled(turns[0]["content"], metadata["answer"])
            continue
        users = [turn["content"] for turn in turns if turn["role"] == "user"]
        for text, acts in zip(users, metadata["user_acts"], strict=False):
            asked = [f"{act[1]}-{act[2]}" for act in acts if act[0] == "Request"]
            if asked:
                yield labelled(text, asked[0])


def labelled(question: str, label: str) -> dict[str, Any]:
    """One row in the product's own format."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": label}]
    return {"conversation": turns, "metadata": {"intent": label}}


def one_task(loaded: ProjectConfig, folder: Path, *, count: int, minutes: float | None) -> dict[str, Any]:
    """Advice, sweep, test; the table goes to stdout."""
    workspace = Workspace(folder, loaded.name)
    data = Stages(loaded, workspace, "project.yaml").run("data", {})
    advised = advice.advise(loaded, workspace, data, swept=None)
    print(advice.text(advised, "project.yaml"), "\n")
    done = sweep.run(advised, workspace, data, count=count, minutes=minutes)
    document = result.document(done, advised, data)
    print(result.table(document))
    print(f"picture: {result.write(document, picture.page(document, loaded.name), workspace)}\n")
    rules = next(trial for trial in done.trials if trial.candidate.origin == "rules")
    return {
        "task": loaded.name,
        "settings": count,
        "complete": done.complete,
        "sweep_seconds": round(done.seconds, 1),
        "chance": 1 / advised.facts.data.labels,
        **tested(loaded, workspace, data, best=done.best, rules=rules),
        "machine": describe().model_dump(),
    }


def tested(
    loaded: ProjectConfig, workspace: Workspace, data: Artifact, *, best: sweep.Trial, rules: sweep.Trial
) -> dict[str, Any]:
    """Test scores of the best trial and of the rules'. within_one_interval: the rules' score is not below the lower
    end of the best one's interval."""
    exam = score.prepare(loaded, data, source.resolve(loaded.model, workspace.root))
    assert exam is not None
    rows = [Conversation.from_row(row) for row in data.jsonl("test.jsonl")]
    on_test = dataclasses.replace(exam, rows=tuple(row for row in rows if scorer.applies_to(loaded.evaluate, row)))
    place = sweep.sweep_workspace(workspace).stage_directory("scores")
    answered: dict[str, Measured] = {}
    found: dict[str, Any] = {}
    for name, trial in (("best", best), ("advised", rules)):
        artifact = Artifact.open(workspace.root / trial.rungs[-1].path)
        answered[name] = score.measure(on_test, artifact, place)
        found[name] = {
            "trial": trial.candidate.number,
            "train": trial.candidate.train.model_dump(mode="json", exclude_defaults=True),
            "share": trial.rungs[-1].share,
            "validation": rounded(score.interval(score.measure(exam, artifact, place), loaded.seed)),
            "test": rounded(score.interval(answered[name], loaded.seed)),
        }
    difference = compare(answered["advised"], answered["best"], seed=loaded.seed)
    return {
        **found,
        "advised_minus_best": round(difference.difference, 4),
        "verdict": verdict(difference, higher_is_better=True),
        "within_one_interval": found["advised"]["test"]["value"] >= found["best"]["test"]["low"],
    }


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Four decimals."""
    return {key: round(value, 4) for key, value in values.items()}


if __name__ == "__main__":
    main()
