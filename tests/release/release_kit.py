"""A small project for the tests of release/: a base, rows, an adapter that learned something, and its evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunewright import project as projects
from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.core.scoring import Measured, Sample
from tunewright.evaluate import stage
from tunewright.evaluate.exam import Exam, Taken
from tunewright.evaluate.metrics.latency import percentile
from tunewright.models import source, tiny
from tunewright.models.config import ModelInfo
from tunewright.models.load import load_model
from tunewright.models.tokens import IGNORED, ChatTokenizer
from tunewright.project import ProjectConfig

PROJECT = """
name: bank
model: {path: base, dtype: float32}
data: {sources: [rows.jsonl]}
evaluate:
  metrics:
    - {name: intent, where: {metadata.task: intent}}
    - {name: exact, where: {metadata.task: general}}
    - {name: toxicity}
    - {name: latency, new_tokens: 4, repeats: 2}
  primary: intent.accuracy
  gates:
    - {metric: intent.accuracy, when: ">= base + 0.5", significant: true}
    - {metric: exact, when: ">= base - 0.1"}
    - {metric: toxicity.rate, when: "<= base"}
    - {metric: latency.p50_s, when: "<= 5"}
  max_new_tokens: 8
"""
SIGNED = ("--by", "Mei", "--why", "better on the test rows")
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def conversation(index: int, split: str) -> Conversation:
    """Three intent rows in four, most of them with the label `fee`; the rest are general questions."""
    is_intent = index % 4 != 3
    label = "card" if index % 5 == 4 else "fee"
    messages = (
        Message(role="user", content=f"{'what is this' if is_intent else 'is it so'} {split} {index}?"),
        Message(role="assistant", content=label if is_intent else "yes"),
    )
    metadata = {"task": "intent", "intent": label} if is_intent else {"task": "general"}
    return Conversation(id=f"{split}:{index}", messages=messages, metadata=metadata)


class Shop:
    """A project folder with its artifacts."""

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / "project.yaml"
        self.workspace = Workspace(root, "bank")

    @classmethod
    def make(cls, root: Path) -> Shop:
        """Base, project file and data artifact."""
        shop = cls(root)
        (root / "base").mkdir(parents=True)
        tiny.write(root / "base")
        shop.file.write_text(PROJECT, encoding="utf-8")
        shop.data()
        return shop

    def copy(self, root: Path) -> Shop:
        """The same project in another folder, to be spoiled."""
        shutil.copytree(self.root, root)
        return Shop(root)

    @property
    def project(self) -> ProjectConfig:
        return projects.load(self.file, [])

    @property
    def tokenizer(self) -> ChatTokenizer:
        return ChatTokenizer.load(self.root / "base")

    def data(self, *, mark: str = "", rows: int = 40) -> Artifact:
        output = started(begin(self.workspace, "data", {"mark": mark}, ()))
        for split, count in (("train", 12), ("validation", 12), ("test", rows)):
            found = [conversation(index, split + mark).to_row() for index in range(count)]
            files.write_jsonl(output.path / f"{split}.jsonl", found)
        output.facts = {"read": 64, "kept": 64, "repaired": 0, "quarantined": 0, "splits": {"train": 12, "test": rows}}
        return output.seal()

    def train(
        self, answer: str = "fee", *, steps: int = 120, with_end: bool = True, mark: str = "", facts: Any = None
    ) -> Artifact:
        """An adapter that has learned to say `answer`, whatever is asked. with_end: whether the end token is trained.
        steps: 0 leaves the adapter at its start, where it changes nothing."""
        settings = {"answer": answer, "steps": steps, "with_end": with_end, "mark": mark}
        newest = self.workspace.newest("data")
        output = started(begin(self.workspace, "train", settings, (self.workspace.reference(newest),)))
        write_adapter(self.root / "base", output.path / "adapter", answer, steps=steps, with_end=with_end)
        files.write_json(output.path / "model.json", self.info().model_dump())
        files.write_json(output.path / "curve.json", {"train": [], "validation": []})
        output.facts = {"method": "lora", **(facts or {})}
        return output.seal()

    def info(self) -> ModelInfo:
        return ModelInfo(
            kind="adapter",
            base="base",
            base_revision="main",
            base_sha256=source.weights_sha256(self.root / "base"),
            method="lora",
            dtype="float32",
            bits=32,
            chat_template_sha256=self.tokenizer.template.sha256,
            max_length=512,
        )

    def newest(self, name: str) -> Artifact:
        return self.workspace.finished(name)[-1]

    def evaluate(self, train: Artifact, *overrides: str, data: Artifact | None = None) -> Artifact:
        """The stage itself, with the models' own answers. Raises GateError like the stage."""
        project = projects.load(self.file, list(overrides))
        return stage.run(
            self.workspace,
            project.evaluate,
            model=project.model,
            seed=project.seed,
            data=data or self.newest("data"),
            train=train,
        )

    def plant(
        self,
        train: Artifact,
        answers: Any = None,
        *overrides: str,
        seconds: float = 1.0,
        data: Artifact | None = None,
        tokenizer_sha256: str | None = None,
    ) -> Artifact:
        """An evaluation of answers that no model gave, scored and decided by the stage's own code. answers: from a
        row's conversation to the tuned model's answer; by default `fee` and `yes`, as they should be."""
        project = projects.load(self.file, list(overrides))
        data = data or self.newest("data")
        settings = {
            "model": project.model.model_dump(mode="json"),
            "seed": project.seed,
            "evaluate": project.evaluate.model_dump(mode="json"),
        }
        inputs = (self.workspace.reference(data), self.workspace.reference(train))
        output = started(begin(self.workspace, "evaluate", settings, inputs))
        prepared, _ = stage._prepare(project.evaluate, data, project.seed, root=self.root, max_length=None)
        stated = stage._state(output, prepared, data)
        output.facts |= {
            "base_sha256": self.info().base_sha256,
            "tokenizer_sha256": tokenizer_sha256 or files.sha256(self.root / "base" / "tokenizer.json"),
            "chat_template_sha256": self.tokenizer.template.sha256,
            "long_references": 0,
        }
        taken = {
            "base": _taken(prepared, lambda row: "yes", seconds=1.0),
            "tuned": _taken(prepared, answers or _right, seconds=seconds),
        }
        return output.seal(passed=stage._write(output, prepared, stated, taken))


def _right(row: Conversation) -> str:
    return "fee" if row.metadata["task"] == "intent" else "yes"


def _taken(prepared: Exam, answer: Any, *, seconds: float) -> Taken:
    samples = [
        Sample(id=row.id, prompt="", reference=row.reference, prediction=answer(row), metadata=row.metadata)
        for row in prepared.rows
    ]
    found = {measured.metric: measured for metric in prepared.metrics for measured in metric.measure(samples)}
    found["latency.p50_s"] = timing(seconds)
    return Taken(samples, [None] * len(samples), found, {}, 1.0, 0, 0, 0)


def timing(seconds: float) -> Measured:
    values = np.array([[seconds], [seconds * 1.01]])
    return Measured("latency.p50_s", 1, values, percentile(50), unit="s", higher_is_better=False, paired=False)


def write_adapter(
    base: Path, target: Path, answer: str, *, steps: int, with_end: bool = True, rank: int = 8, seed: int = 7
) -> None:
    """A PEFT folder, as other tools write it too."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    tokenizer = ChatTokenizer.load(base)
    settings = LoraConfig(r=rank, lora_alpha=4 * rank, target_modules=LAYERS, task_type="CAUSAL_LM")
    adapted = get_peft_model(load_model(base, dtype=torch.float32), settings)
    adapted.train()
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=2e-3)
    for step in range(steps):
        row = conversation(step, "learn")
        messages = (row.messages[0], Message(role="assistant", content=answer))
        example = tokenizer.examples(row.model_copy(update={"messages": messages}), max_length=512)[0]
        labels = list(example.labels)
        if not with_end:
            labels = [IGNORED if token in tokenizer.end_ids else token for token in labels]
        adapted(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([labels])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(str(target))


def started(output: Output | Artifact) -> Output:
    assert isinstance(output, Output)
    return output


def reseal(artifact: Artifact, **changes: Any) -> Artifact:
    """Writes the manifest anew, as somebody who knows how would: hashes of the files as they are now."""
    from tunewright.core import manifest

    changed = artifact.manifest.model_copy(update={"files": manifest.record_files(artifact.path), **changes})
    manifest.write(artifact.path, changed)
    return Artifact.open(artifact.path)


def rewrite(path: Path, change: Any) -> None:
    """Changes a JSON file in place; the old file may be a hard link of another one."""
    value = json.loads(path.read_text(encoding="utf-8"))
    found = change(value)
    path.unlink()
    path.write_text(json.dumps(value if found is None else found, ensure_ascii=False), encoding="utf-8")


def spoil(path: Path, keep: int | None = None) -> None:
    """Cuts a file to `keep` bytes, or turns its last byte over."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:keep] if keep is not None else content[:-1] + bytes([content[-1] ^ 1]))


def names(found: Sequence[Artifact]) -> list[str]:
    return [artifact.path.name for artifact in found]
