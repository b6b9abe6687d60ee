"""What is known before advice is given: the sealed rows, the model's shape, the machine. Loads no torch."""

from __future__ import annotations

import statistics
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import psutil

from tunewright.advise.shape import ModelFacts, model_facts
from tunewright.core import machine
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError
from tunewright.core.runs import Artifact, Workspace
from tunewright.evaluate.labels import has_label, normalize
from tunewright.evaluate.metrics.characters import han_share
from tunewright.evaluate.rows import drawn, metadata_value
from tunewright.evaluate.scorer import intent_options
from tunewright.models import source
from tunewright.models.tokens import ChatTokenizer
from tunewright.project import ProjectConfig

REPORT = "report.json"
SAMPLED_ROWS = 400
"""Rows the median length is taken from, drawn with the project's seed."""


@dataclass(frozen=True)
class DataFacts:
    """The training split and what stands beside it. trained_tokens: tokens with a label, of one epoch; median_tokens,
    longest_tokens: of a row; labels: 0 where no intent metric is chosen; han_share: Han characters among letters."""

    rows: int
    tokens: int
    trained_tokens: int
    median_tokens: int
    longest_tokens: int
    rows_cut: int
    validation_rows: int
    duplicates: int
    labels: int
    fewest_rows_of_a_label: int
    han_share: float

    @property
    def mean_tokens(self) -> float:
        """Tokens of a row on average."""
        return self.tokens / max(1, self.rows)


@dataclass(frozen=True)
class MachineFacts:
    """Where training would run. memory_bytes: free on the CPU, of the largest GPU else."""

    name: str
    memory_bytes: int
    is_gpu: bool


@dataclass(frozen=True)
class Facts:
    """Everything the rules read."""

    data: DataFacts
    model: ModelFacts
    machine: MachineFacts


def collect(project: ProjectConfig, workspace: Workspace, data: Artifact) -> Facts:
    """Reads the sealed data artifact and the headers of the model's weights.

    Raises ArtifactError where the artifact has no report or the model cannot be read.
    """
    folder = source.resolve(project.model, workspace.root)
    return Facts(data_facts(project, data, folder), model_facts(folder), machine_facts())


def data_facts(project: ProjectConfig, data: Artifact, folder: Path) -> DataFacts:
    """folder: the model's, for its tokenizer."""
    report = data.json(REPORT)
    train = report["tokens"]["splits"]["train"]
    if not train["rows"]:
        raise ArtifactError("the training split has no rows", where=str(data.path), fix="add rows, run data again")
    rows = [Conversation.from_row(row) for row in data.jsonl("train.jsonl")]
    counts = label_counts(project, rows)
    return DataFacts(
        rows=train["sequences"],
        tokens=train["tokens"],
        trained_tokens=train["trained_tokens"],
        median_tokens=_median_length(rows, ChatTokenizer.load(folder), project),
        longest_tokens=train["max_tokens"],
        rows_cut=train["rows_cut"],
        validation_rows=report["samples"]["validation"],
        duplicates=report["duplicates"],
        labels=len(counts),
        fewest_rows_of_a_label=min(counts.values(), default=0),
        han_share=han_share([row.reference for row in rows] + [_text(row) for row in rows]),
    )


def label_counts(project: ProjectConfig, rows: Sequence[Conversation]) -> Counter[str]:
    """Rows of each label of the project's intent metric; empty where it has none."""
    options = intent_options(project.evaluate)
    if options is None:
        return Counter()
    found = (metadata_value(row.metadata, options.label) for row in rows if has_label(options, row.metadata))
    return Counter(normalize(label or "") for label in found)


def _text(row: Conversation) -> str:
    return " ".join(message.content or "" for message in row.prompt)


def _median_length(rows: Sequence[Conversation], tokenizer: ChatTokenizer, project: ProjectConfig) -> int:
    limit = min(tokenizer.max_length, project.model.max_length or tokenizer.max_length)
    examples = [
        example
        for row in drawn(rows, SAMPLED_ROWS, seed=project.seed)
        for example in tokenizer.examples(row, max_length=limit)
    ]
    return round(statistics.median(len(example.input_ids) for example in examples))


def machine_facts() -> MachineFacts:
    """The largest GPU that the driver names, else the CPU with the memory that is free now."""
    gpus = _gpus()
    if gpus:
        name, size = max(gpus, key=lambda gpu: gpu[1])
        return MachineFacts(name, size, is_gpu=True)
    return MachineFacts(
        f"{machine.cpu_name()}, {machine.usable_cores()} cores", int(psutil.virtual_memory().available), is_gpu=False
    )


def _gpus() -> list[tuple[str, int]]:
    """(name, bytes) a GPU, from nvidia-smi; none where it is not there or does not answer."""
    tool = which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.rpartition(",") for line in done.stdout.splitlines() if line.strip()]
    return [(name.strip(), int(size) << 20) for name, _, size in found if size.strip().isdigit()]


def shown(facts: Facts) -> dict[str, Any]:
    """The facts in words and numbers, for the head of the advice."""
    data, model, place = facts.data, facts.model, facts.machine
    return {
        "training rows": f"{data.rows:,}, {data.trained_tokens:,} trained tokens of {data.tokens:,} an epoch",
        "row length": f"median {data.median_tokens} tokens, longest {data.longest_tokens}",
        "labels": f"{data.labels}, at least {data.fewest_rows_of_a_label} rows each" if data.labels else "none",
        "validation rows": f"{data.validation_rows:,}",
        "language": "mostly Chinese" if data.han_share >= 0.5 else "mostly not Chinese",
        "model": f"{model.parameters / 1e6:,.1f} M weights, {model.layers} layers, hidden {model.hidden}, "
        f"{model.family}",
        "machine": f"{place.name}, {place.memory_bytes / 1e9:.1f} GB {'' if place.is_gpu else 'free'}".strip(),
    }
