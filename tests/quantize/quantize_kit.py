"""Hand-made artifacts and measurements for the tests of the quantize stage."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import load_model
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example
from tunewright.quantize.config import SCHEMES
from tunewright.quantize.scheme import Scheme
from tunewright.quantize.variants import scheme_of

MODEL = ModelConfig(path="builtin:tiny", dtype="float32")


def conversation(index: int, *, split: str) -> Conversation:
    messages = (Message(role="user", content=f"{split} {index}?"), Message(role="assistant", content="yes"))
    return Conversation(id=f"{split}:{index}", messages=messages, metadata={"task": "a" if index % 2 else "b"})


def examples(count: int = 6, length: int = 24, seed: int = 0) -> list[Example]:
    """Random rows of unequal length."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        ids = torch.randint(0, 256, (length - 3 * index,), generator=generator).tolist()
        found.append(Example(tuple(ids), (IGNORED, *ids[1:]), str(index)))
    return found


def spread(model: Any) -> Any:
    """`model` with weights of the size trained ones have: tiny's logits are else too flat for an error to show."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5)
            elif "norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def written(name: str, model: Any, folder: Path, target: Path, **options: Any) -> tuple[Scheme, dict[str, Any]]:
    """(scheme, facts) of the variant `name` of a copy of `model`, written to the new folder `target`."""
    scheme = scheme_of(SCHEMES.options(name)(name=name, **options))
    target.mkdir()
    return scheme, scheme.write(copy.deepcopy(model), folder, target, calibration=examples())


def logits(model: Any, ids: Sequence[int] = tuple(range(40, 80))) -> torch.Tensor:
    """[T, V] float32."""
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0].float()
    return found


def relative_error(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).norm() / right.norm())


def yes_no(hits: Sequence[float], metric: str = "intent.accuracy") -> Measured:
    return Measured(metric, 1, np.array(hits, dtype=float)[:, None], mean_of_rows, yes_no=True)


def even_length(samples: Sequence[Sample]) -> Measured:
    """A score that depends on the answer."""
    return yes_no([float(len(sample.prediction) % 2 == 0) for sample in samples])


def sealed(output: Output | Artifact) -> Artifact:
    assert isinstance(output, Output)
    return output.seal()


def data_artifact(workspace: Workspace, *, rows: int = 12) -> Artifact:
    output = begin(workspace, "data", {}, ())
    assert isinstance(output, Output)
    for split in ("train", "test"):
        files.write_jsonl(
            output.path / f"{split}.jsonl", [conversation(index, split=split).to_row() for index in range(rows)]
        )
    return sealed(output)


def info(folder: Path, *, kind: Any = "adapter") -> ModelInfo:
    return ModelInfo(
        kind=kind,
        base="builtin:tiny",
        base_revision="main",
        base_sha256=source.weights_sha256(folder),
        method="lora" if kind == "adapter" else "full",
        dtype="float32",
        bits=32,
        chat_template_sha256=ChatTokenizer.load(folder).template.sha256,
        max_length=512,
    )


def lora_artifact(workspace: Workspace) -> Artifact:
    """A train artifact whose adapter is far from zero."""
    from peft import LoraConfig, get_peft_model

    folder = source.resolve(MODEL, workspace.root)
    output = begin(workspace, "train", {}, ())
    assert isinstance(output, Output)
    torch.manual_seed(1)
    options = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted: Any = get_peft_model(load_model(folder, dtype=torch.float32), options)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    adapted.save_pretrained(str(output.path / "adapter"))
    files.write_json(output.path / "model.json", info(folder).model_dump(mode="json"))
    return sealed(output)
