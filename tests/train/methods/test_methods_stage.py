"""Each method through the stage, and what it sealed opened as later stages do it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import train_kit as kit

from tunewright.core.errors import ArtifactError
from tunewright.models import source, tuned
from tunewright.models.config import ModelConfig
from tunewright.models.load import for_inference, load_model
from tunewright.models.loss import mean_loss
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import METHODS
from tunewright.train.stage import run

MODEL = ModelConfig(path="builtin:tiny", dtype="float32")
IDS = torch.tensor([[257, *range(60, 90), 258]])


def train(root: Path, model: ModelConfig = MODEL, **method: Any) -> Any:
    workspace = kit.workspace_at(root)
    settings = {
        "method": method,
        "epochs": 2,
        "learning_rate": 1e-2,
        "rows_per_step": 4,
        "evaluations_per_epoch": 1,
    }
    return run(workspace, TrainConfig.model_validate(settings), model=model, seed=1, data=kit.data_artifact(workspace))


def questions(tokenizer: ChatTokenizer) -> list[Example]:
    return [e for row in kit.conversations(9, 200) for e in tokenizer.examples(row, max_length=512)]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("name", METHODS.entries)
def test_what_is_sealed_opens_and_has_learned(tmp_path: Path, name: str) -> None:
    artifact = train(tmp_path, name=name)
    method = METHODS.target(name)(METHODS.options(name)(name=name))
    folder = source.resolve(MODEL, tmp_path)
    rows = questions(ChatTokenizer.load(folder))
    before, _ = mean_loss(load_model(folder, dtype=torch.float32), rows)
    opened = tuned.open_tuned(artifact, MODEL, folder, dtype=torch.float32)
    after, _ = mean_loss(opened, rows)
    assert after < before - 0.01
    beside = tuned.open_tuned(artifact, MODEL, folder, dtype=torch.float32, merge=False)
    assert torch.allclose(logits(beside), logits(opened), atol=1e-5)
    assert torch.allclose(logits(for_inference(beside)), logits(opened), atol=1e-5)
    assert tuned.merges(artifact) is method.merges
    if method.merges:
        tuned.prove_merges(artifact)
    else:
        with pytest.raises(ArtifactError, match=f"'{name}' trains no change of a weight") as error:
            tuned.prove_merges(artifact)
        assert "train with lora or ia3" in error.value.fix


@pytest.mark.parametrize("name", METHODS.entries)
def test_each_method_learns_in_16_bits(tmp_path: Path, name: str) -> None:
    """Which weights are kept in float32 differs between methods, and so does where the two formats meet."""
    model = ModelConfig(path="builtin:tiny", dtype="bfloat16")
    artifact = train(tmp_path, model, name=name)
    folder = source.resolve(model, tmp_path)
    rows = questions(ChatTokenizer.load(folder))
    before, _ = mean_loss(load_model(folder, dtype=torch.bfloat16), rows)
    after, _ = mean_loss(tuned.open_tuned(artifact, model, folder, dtype=torch.bfloat16), rows)
    assert after < before - 0.01


def test_the_best_checkpoint_of_a_projected_prefix_comes_back(tmp_path: Path) -> None:
    """Trainer loads it at the end: PEFT alone could not, as its folder holds the prefix and not what made it."""
    artifact = train(tmp_path, name="prefix", projection=True, projection_size=16, virtual_tokens=4)
    names = sorted(path.name for path in (artifact.path / tuned.ADAPTER).iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors"]
    folder = source.resolve(MODEL, tmp_path)
    validation = [
        e for row in kit.conversations(6, 100) for e in ChatTokenizer.load(folder).examples(row, max_length=512)
    ]
    found, _ = mean_loss(tuned.open_tuned(artifact, MODEL, folder, dtype=torch.float32), validation)
    assert found == pytest.approx(artifact.manifest.facts["validation_loss"], rel=1e-4)
