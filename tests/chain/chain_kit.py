"""A small project whose chain can be broken at any link: a base with a begin token, two trainings, real variants."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tunewright import project as projects
from tunewright.chain import stage
from tunewright.core import files, manifest
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source, tiny
from tunewright.models.config import ModelInfo
from tunewright.models.load import for_inference, load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.models.tuned import open_tuned
from tunewright.project import ProjectConfig
from tunewright.quantize.config import SCHEMES
from tunewright.serve.app import Parts
from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.prepared import Loaded
from tunewright.serve.server import Server, in_thread
from tunewright.serve.wire import Model

PROJECT = """
name: bank
model: {path: base, dtype: float32}
data: {sources: [rows.jsonl]}
evaluate:
  metrics: [{name: exact}]
  primary: exact
  max_new_tokens: 10
"""
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TRAIN, QUANTIZE = "runs/bank/train/0001", "runs/bank/quantize/0001"


def conversation(index: int, split: str) -> Conversation:
    messages = (
        Message(role="user", content=f"what is this {split} {index * 7}?"),
        Message(role="assistant", content="fee"),
    )
    return Conversation(id=f"{split}:{index}", messages=messages)


def write_base(folder: Path) -> None:
    """The tiny model with a begin token of its own, which the template writes once."""
    folder.mkdir(parents=True)
    tiny.write(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings |= {"bos_token": "<|endoftext|>", "chat_template": "{{ bos_token }}" + tiny.TEMPLATE}
    files.write_json(path, settings)


class Chain:
    """A project folder with its artifacts; `broken_at` runs the chain and gives its verdict."""

    def __init__(self, root: Path) -> None:
        self.root, self.file, self.workspace = root, root / "project.yaml", Workspace(root, "bank")

    @classmethod
    def make(cls, root: Path) -> Chain:
        """Base, rows and one training that answers `fee`."""
        chain = cls(root)
        write_base(root / "base")
        chain.file.write_text(PROJECT, encoding="utf-8")
        output = started(begin(chain.workspace, "data", {}, ()))
        for split, count in (("train", 12), ("test", 12)):
            rows = [conversation(index, split).to_row() for index in range(count)]
            files.write_jsonl(output.path / f"{split}.jsonl", rows)
        output.seal()
        chain.train("fee")
        return chain

    def copy(self, root: Path) -> Chain:
        """The same project in another folder, to be broken."""
        shutil.copytree(self.root, root)
        return Chain(root)

    @property
    def project(self) -> ProjectConfig:
        return projects.load(self.file, [])

    @property
    def tokenizer(self) -> ChatTokenizer:
        return ChatTokenizer.load(self.root / "base")

    def newest(self, name: str) -> Artifact:
        return self.workspace.finished(name)[-1]

    def train(self, answer: str, *, steps: int = 160) -> Artifact:
        """An adapter that has learned to say `answer`; steps: 0 leaves it without effect."""
        data = self.workspace.reference(self.newest("data"))
        output = started(begin(self.workspace, "train", {"answer": answer, "steps": steps}, (data,)))
        write_adapter(self.root / "base", output.path / "adapter", answer, steps=steps)
        files.write_json(output.path / "model.json", self.info().model_dump())
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

    def merged(self, train: Artifact) -> Any:
        return open_tuned(train, self.project.model, self.root / "base", dtype=torch.float32)

    def quantize(self, *schemes: str, accepted: bool = True, weights_of: Artifact | None = None) -> Artifact:
        """Real variants of the newest training, written as the stage writes them. weights_of: another training whose
        weights are put in, against what the lineage says."""
        train = self.newest("train")
        inputs = tuple(self.workspace.reference(one) for one in (self.newest("data"), train))
        settings = {"quantize": {"variants": [{"name": name, "max_loss": 0.05} for name in schemes]}}
        output = started(begin(self.workspace, "quantize", settings, inputs))
        rows = []
        for name in schemes:
            scheme, folder = SCHEMES.target(name)(SCHEMES.options(name)(name=name)), output.path / name
            folder.mkdir()
            scheme.write(self._rounded(weights_of or train), self.root / "base", folder, calibration=[])
            info = self.info().model_copy(update={"kind": "quantized", "dtype": scheme.dtype, "bits": scheme.bits})
            files.write_json(folder / "model.json", info.model_dump())
            rows.append({"scheme": name, "engine": scheme.engine, "accepted": accepted, "tokens_per_second": 9})
        files.write_json(output.path / "table.json", rows)
        return output.seal()

    def _rounded(self, train: Artifact) -> Any:
        """The quantize stage rounds weights to bfloat16 once, before anything else."""
        model = self.merged(train)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.to(torch.bfloat16))
        return model

    def run(self, server: str | None = None, *, quantize: bool = True) -> dict[str, Any]:
        """chain.json."""
        found = self.workspace.finished("quantize") if quantize else []
        artifact = stage.run(
            self.workspace,
            self.project,
            data=self.newest("data"),
            train=self.newest("train"),
            quantize=found[-1] if found else None,
            server=server,
        )
        document: dict[str, Any] = artifact.json("chain.json")
        assert artifact.manifest.passed == document["verdict"]["holds"]
        return document

    def loaded(self, train: Artifact | None = None, tokenizer: ChatTokenizer | None = None) -> Loaded:
        """What a server has in memory; another training or tokenizer is what a test breaks."""
        model = for_inference(self.merged(train or self.newest("train")))
        return Loaded(model, tokenizer or self.tokenizer, 512)


@contextlib.contextmanager
def serving(loaded: Loaded, **about: Any) -> Iterator[str]:
    """The URL of a real server over HTTP."""
    engine = TransformersEngine(lambda: loaded, batch_size=8, queue=64)
    parts = Parts(Model(id="bank", created=1, **about))
    config = ServeConfig(port=0, shutdown_timeout_s=5)
    with in_thread(Server(engine, config, parts, log=lambda _: None)) as url:
        yield url


def write_adapter(base: Path, target: Path, answer: str, *, steps: int) -> None:
    """A PEFT folder."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(7)
    tokenizer = ChatTokenizer.load(base)
    settings = LoraConfig(r=8, lora_alpha=32, target_modules=LAYERS, task_type="CAUSAL_LM")
    adapted = get_peft_model(load_model(base, dtype=torch.float32), settings)
    adapted.train()
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=3e-3)
    for step in range(steps):
        row = conversation(step, "learn")
        messages = (row.messages[0], Message(role="assistant", content=answer))
        example = tokenizer.examples(row.model_copy(update={"messages": messages}), max_length=512)[0]
        adapted(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(str(target))


def started(output: Output | Artifact) -> Output:
    assert isinstance(output, Output)
    return output


def reseal(artifact: Artifact) -> Artifact:
    """Writes the manifest anew, as somebody who knows how would."""
    changed = artifact.manifest.model_copy(update={"files": manifest.record_files(artifact.path)})
    manifest.write(artifact.path, changed)
    return Artifact.open(artifact.path)


def reasons(document: dict[str, Any]) -> dict[str, str]:
    """The broken links and why."""
    return {entry["link"]: entry["reason"] for entry in document["verdict"]["broken"]}


def link(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in document["links"] if entry["link"] == name)
    return found
