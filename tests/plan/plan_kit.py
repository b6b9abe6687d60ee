"""A small project with sealed rows, and the target's config.json."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tunewright import project
from tunewright.core.runs import Artifact, Workspace
from tunewright.pipeline import Stages
from tunewright.project import ProjectConfig

TARGET: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 102400,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
"""deepseek-llm-7b-chat's config.json."""
PARAMETERS = 6_910_365_696
"""Its weights, as its card counts them."""
PROJECT = """\
name: made
seed: 3
model: {path: "builtin:tiny", dtype: float32}
data:
  sources: [rows.jsonl]
  rules: [{name: roles}, {name: text}]
  max_leakage: {exact: null}
  split: {validation: 0.25, test: 0.25}
train:
  epochs: 2
  learning_rate: 1e-3
  rows_per_step: 4
evaluate:
  metrics: [{name: bleu}]
quantize:
  variants: [{name: bf16}]
"""


def target_config(folder: Path) -> Path:
    """config.json alone: no weights, no tokenizer."""
    (folder / "config.json").write_text(json.dumps(TARGET))
    return folder / "config.json"


def write_project(folder: Path, *, rows: int = 48, seed: int = 5) -> Path:
    """The project file beside its raw rows."""
    draw = random.Random(seed)
    (folder / "made.yaml").write_text(PROJECT)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as handle:
        for number in range(rows):
            words = " ".join(draw.choices(("fee", "card", "loan", "late", "pay"), k=12))
            turns = [{"role": "user", "content": f"{number} {words}"}, {"role": "assistant", "content": words[:20]}]
            handle.write(json.dumps({"conversation": turns}) + "\n")
    return folder / "made.yaml"


def opened(path: Path) -> tuple[ProjectConfig, Workspace, Artifact]:
    """The project with its data stage run."""
    loaded = project.load(path, [])
    workspace = Workspace(path.resolve().parent, loaded.name)
    return loaded, workspace, Stages(loaded, workspace, path.name).run("data", {})
