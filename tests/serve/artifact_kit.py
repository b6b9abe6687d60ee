"""Hand-made artifacts of the stages before serve, over the tiny model."""

from __future__ import annotations

from pathlib import Path

import serving_kit as kit

from tunewright.core import files, runs
from tunewright.core.runs import Artifact, Workspace
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.tokens import ChatTokenizer

MODEL = ModelConfig(path="builtin:tiny", dtype="float32")


def info(kind: str, **change) -> ModelInfo:
    values = {
        "kind": kind,
        "base": "builtin:tiny",
        "base_revision": "main",
        "base_sha256": "0" * 64,
        "method": "full",
        "dtype": "float32",
        "bits": 32,
        "chat_template_sha256": ChatTokenizer.load(kit.tiny_folder()).template.sha256,
        "max_length": 512,
    }
    return ModelInfo(**values | change)


def data(workspace: Workspace, questions: list[str]) -> Artifact:
    output = runs.begin(workspace, "data", {"questions": questions}, ())
    rows = [
        {
            "id": f"q:{number}",
            "conversation": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}],
            "metadata": {},
        }
        for number, text in enumerate(questions)
    ]
    files.write_jsonl(output.path / "test.jsonl", rows)
    return output.seal()


def train(workspace: Workspace, *, number: int = 1, passed: bool = True, **change) -> Artifact:
    output = runs.begin(workspace, "train", {"number": number, **change}, ())
    files.write_text(output.path / "model.json", info("full", **change).model_dump_json())
    files.link_tree(kit.tiny_folder(), output.path / "model")
    return output.seal(passed=passed)


def quantize(workspace: Workspace, trained: Artifact, rows: list[dict], *, passed: bool = True, **change) -> Artifact:
    reference = workspace.reference(trained)
    output = runs.begin(workspace, "quantize", {"rows": rows, **change}, (reference,))
    for row in rows:
        folder = output.path / row["scheme"]
        folder.mkdir()
        files.write_text(folder / "model.json", info("quantized", **change).model_dump_json())
        if row["engine"] == "transformers":
            files.link_tree(kit.tiny_folder(), folder)
        else:
            (folder / "model.gguf").write_bytes(b"GGUF")
    files.write_json(output.path / "table.json", rows)
    return output.seal(passed=passed)


def row(scheme: str, speed: float, *, engine: str = "transformers", accepted: bool = True) -> dict:
    return {"scheme": scheme, "tokens_per_second": speed, "engine": engine, "accepted": accepted}


def workspace(root: Path) -> Workspace:
    return Workspace(root, "bank")
