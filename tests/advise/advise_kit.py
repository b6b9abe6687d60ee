"""Facts by hand, and a small project whose rows a tiny model can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tunewright import project
from tunewright.advise.facts import DataFacts, Facts, MachineFacts
from tunewright.advise.shape import ModelFacts
from tunewright.core.runs import Artifact, Workspace
from tunewright.pipeline import Stages
from tunewright.project import ProjectConfig

LABELS = {"fee": "what does it cost", "card": "my card is gone", "loan": "lend me money"}
SMOLLM = ModelFacts(
    family="llama", parameters=134_515_008, hidden=576, layers=30, linear=106_168_320, lora_per_rank=305_280
)
"""SmolLM2-135M: 30 x (4 x 576 x 2 attention, with 192 for keys and values, + 3 x (576 + 1536)) sums of sides."""
DEEPSEEK = ModelFacts(
    family="llama", parameters=6_910_365_696, hidden=4096, layers=30, linear=6_071_255_040, lora_per_rank=2_342_400
)
"""deepseek-llm-7b-chat: 30 layers of four 4096 x 4096 and three 4096 x 11008 matrices: 30 x (4 x 8192 + 3 x 15104)."""

PROJECT = """\
# A comment at the top.
name: made
seed: 3
model: {path: "builtin:tiny", dtype: float32}
data:
  sources: [rows.jsonl]
  rules: [{name: roles}, {name: text}]
  max_leakage: {exact: null}
  split: {validation: 0.25, test: 0.25}
train:
  epochs: 4   # four passes
  learning_rate: 1e-3
  rows_per_step: 4
evaluate:
  metrics: [{name: intent}]
"""


def facts(model: ModelFacts = SMOLLM, *, memory_gb: float = 20, **data: Any) -> Facts:
    """500 rows of banking questions by default."""
    known: dict[str, Any] = {
        "rows": 500,
        "tokens": 21_376,
        "trained_tokens": 3_581,
        "median_tokens": 40,
        "longest_tokens": 122,
        "rows_cut": 0,
        "validation_rows": 200,
        "duplicates": 0,
        "labels": 20,
        "fewest_rows_of_a_label": 21,
        "han_share": 0.0,
    }
    machine = MachineFacts("a machine", round(memory_gb * 1e9), is_gpu=False)
    return Facts(DataFacts(**(known | data)), model, machine)


def write_project(folder: Path, text: str = PROJECT, rows: int = 120) -> Path:
    """A project file and its rows."""
    generator = random.Random(3)
    names = list(LABELS)
    lines = []
    for number in range(rows):
        label = names[number % len(names)]
        question = f"{LABELS[label]} {generator.choice(['please', 'now', 'today'])} {number}"
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": label}]
        lines.append(json.dumps({"conversation": turns, "metadata": {"intent": label}}))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path = folder / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def opened(path: Path, *overrides: str) -> tuple[ProjectConfig, Workspace, Artifact]:
    """The project, its workspace and its sealed data."""
    loaded = project.load(path, [*overrides])
    workspace = Workspace(path.parent, loaded.name)
    return loaded, workspace, Stages(loaded, workspace, path.name).run("data", {})
