"""Training on the tiny model: it learns, it resumes bit by bit, it saves what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from train_kit import data_artifact, interrupting_exam, workspace_at

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact
from tunewright.models import source, tuned
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.models.loss import mean_loss
from tunewright.models.tokens import ChatTokenizer
from tunewright.train import checkpoint, generated, stage
from tunewright.train.config import TrainConfig
from tunewright.train.methods.options import FullOptions, LoraOptions
from tunewright.train.watch import TrainingDiverged

TINY = ModelConfig(path="builtin:tiny", dtype="float32")
BASE_SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": 5e-3,
    "rows_per_step": 4,
    "evaluations_per_epoch": 1,
    "warmup_ratio": 0,
}


def validation_loss(model: Any, artifact: Artifact, base: Path) -> float:
    tokenizer = ChatTokenizer.load(base)
    rows = [Conversation.from_row(row) for row in artifact.jsonl("validation.jsonl")]
    return mean_loss(model, [e for row in rows for e in tokenizer.examples(row, max_length=512)])[0]


@pytest.fixture(scope="module")
def base() -> Path:
    return source.resolve(TINY, Path())


@pytest.mark.parametrize("method", [LoraOptions(), FullOptions()], ids=["lora", "full"])
def test_what_is_saved_is_what_was_trained(tmp_path: Path, base: Path, method: Any) -> None:
    """The reopened model's validation loss is the best one the curve shows, and lower than the base's."""
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    artifact = stage.run(workspace, TrainConfig(method=method, **BASE_SETTINGS), model=TINY, seed=7, data=data)
    curve = artifact.json("curve.json")
    facts = artifact.manifest.facts
    assert [point["step"] for point in curve["train"]] == list(range(1, 19))
    assert curve["validation"][-1]["epoch"] == 3
    trained = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)
    loss = validation_loss(trained, data, base)
    assert loss == pytest.approx(min(point["loss"] for point in curve["validation"]), rel=1e-4)
    assert loss == pytest.approx(facts["validation_loss"], rel=1e-4)
    assert loss < validation_loss(load_model(base, dtype=torch.float32), data, base) - 0.5
    assert not (artifact.path / stage.CHECKPOINTS).exists()
    info = tuned.model_info(artifact)
    assert info.kind == ("full" if method.name == "full" else "adapter")
    assert info.base_sha256 == source.weights_sha256(base)
    assert (facts["trained_parameters"] == facts["total_parameters"]) is (method.name == "full")


def test_the_adapter_loads_in_stock_peft_and_merging_changes_nothing(tmp_path: Path, base: Path) -> None:
    from peft import PeftModel

    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    artifact = stage.run(workspace, TrainConfig(**BASE_SETTINGS), model=TINY, seed=7, data=data)
    folder = artifact.folder("adapter")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "builtin:tiny"
    plain = load_model(base, dtype=torch.float32)
    ids = torch.tensor([ChatTokenizer.load(base).encode("card 7 fee")])
    with torch.inference_mode():
        before = plain(input_ids=ids).logits.clone()
        adapted = PeftModel.from_pretrained(plain, str(folder)).eval()(input_ids=ids).logits.clone()
        merged = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)(input_ids=ids).logits
    assert torch.allclose(merged, adapted, atol=1e-5)
    assert not torch.allclose(merged, before, atol=1e-2)


@pytest.mark.parametrize("limit", [64, 4096])
def test_micro_batches_and_packing_do_not_change_the_training(tmp_path: Path, base: Path, limit: int) -> None:
    """One step's loss is the mean over its trained tokens, however the rows are grouped, packed or padded."""
    losses = []
    for packing in (True, False):
        workspace = workspace_at(tmp_path / f"{packing}{limit}")
        config = TrainConfig(packing=packing, micro_batch_tokens=limit, **BASE_SETTINGS)
        artifact = stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))
        losses.append([point["loss"] for point in artifact.json("curve.json")["train"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_a_second_run_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    config = TrainConfig(**BASE_SETTINGS | {"epochs": 1})
    first = stage.run(workspace, config, model=TINY, seed=7, data=data)
    again = stage.run(workspace, config, model=TINY, seed=7, data=data)
    assert again.path == first.path
    assert "nothing to do" in capsys.readouterr().err
    other = stage.run(workspace, config, model=TINY, seed=8, data=data)
    assert other.path != first.path


def test_early_stopping_keeps_the_best_checkpoint(tmp_path: Path, base: Path) -> None:
    """A learning rate that hurts the model: an early evaluation is the best, two more end it."""
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    settings = BASE_SETTINGS | {"learning_rate": 0.04, "epochs": 20, "schedule": "constant", "evaluations_per_epoch": 2}
    config = TrainConfig(method=FullOptions(), early_stopping={"patience": 2}, **settings)
    artifact = stage.run(workspace, config, model=TINY, seed=7, data=data)
    facts = artifact.manifest.facts
    assert facts["stopped_early"] is True
    assert facts["steps"] < 120
    trained = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)
    assert validation_loss(trained, data, base) == pytest.approx(facts["validation_loss"], rel=1e-3)
    losses = [point["loss"] for point in artifact.json("curve.json")["validation"]]
    assert facts["validation_loss"] == min(losses) < losses[-1]


def test_a_target_that_is_no_layer_is_named(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    config = TrainConfig(method=LoraOptions(targets=("no_such_layer",)), **BASE_SETTINGS)
    with pytest.raises(ConfigError, match=r"layers of this model: down_proj, gate_proj"):
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))


def test_sharding_is_refused_not_ignored(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    config = TrainConfig.model_validate({"sharding": {"name": "zero", "stage": 2}})
    with pytest.raises(ConfigError, match=r"train\.sharding needs a process for each device"):
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))


def test_generated_answers_are_scored_and_the_best_checkpoint_is_theirs(tmp_path: Path, base: Path) -> None:
    """The kept weights are of the evaluation with the most right answers, of several the one with the lowest loss;
    answering the same rows again with the sealed adapter gives the same score."""
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    settings = BASE_SETTINGS | {"epochs": 14, "learning_rate": 1e-2, "evaluate_generated": {"rows": 5}}
    config = TrainConfig.model_validate(settings | {"early_stopping": {"metric": "right", "patience": 4}})
    exam = interrupting_exam(at=0)
    artifact = stage.run(workspace, config, model=TINY, seed=7, data=data, exam=exam)
    curve, facts = artifact.json("curve.json"), artifact.manifest.facts
    (found,) = curve["metrics"]
    assert (found["metric"], found["higher_is_better"], found["n"]) == ("right", True, 5)
    values = {point["step"]: point["value"] for point in found["points"]}
    assert list(values) == [point["step"] for point in curve["validation"]]
    best = max(values.values())
    assert best > values[6]
    assert (facts["best_metric"], facts["best_value"]) == ("right", best)
    losses = {point["step"]: point["loss"] for point in curve["validation"]}
    assert facts["best_step"] == min((losses[step], step) for step, value in values.items() if value == best)[1]
    evaluations = list(values).index(facts["best_step"]) + 1
    assert len(values) == evaluations + 4 or not facts["stopped_early"]
    rows = [Conversation.from_row(row) for row in data.jsonl("validation.jsonl")]
    scores = generated.prepare(
        exam,
        config.evaluate_generated,
        rows,
        ChatTokenizer.load(base),
        max_length=512,
        seed=7,
        objective="right",
    )
    assert scores is not None
    tuned_model = tuned.open_tuned(artifact, TINY, base, dtype=torch.float32)
    assert scores(tuned_model)[0].value == best


def test_a_metric_that_nothing_measures_is_refused_before_training(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    settings = BASE_SETTINGS | {"evaluate_generated": {}, "early_stopping": {"metric": "wrong"}}
    config = TrainConfig.model_validate(settings)
    with pytest.raises(ConfigError, match="nothing measures 'wrong' on the 6 validation rows") as caught:
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace), exam=interrupting_exam(at=0))
    assert caught.value.fix == "known: validation_loss, right"


def test_answers_that_leave_no_room_for_the_question(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    config = TrainConfig.model_validate(BASE_SETTINGS | {"evaluate_generated": {"max_new_tokens": 500}})
    with pytest.raises(ConfigError, match="500 new tokens leave 12 of the model's 512 for the prompt"):
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace), exam=interrupting_exam(at=0))


def test_overfitting_is_said_once_with_the_levers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers that nothing in the question gives away can only be learned by heart: a sentence on the screen, an event
    and a fact, all the same."""
    workspace = workspace_at(tmp_path)
    settings = BASE_SETTINGS | {"epochs": 40, "learning_rate": 3e-3, "rows_per_step": 8, "schedule": "cosine"}
    config = TrainConfig(method=FullOptions(), early_stopping=None, **settings)
    data = data_artifact(workspace, rows=16, by_chance=True)
    artifact = stage.run(workspace, config, model=TINY, seed=7, data=data)
    sentence = artifact.manifest.facts["overfitting"]
    assert sentence.startswith("overfitting: the validation loss rose from ")
    assert "while the training loss fell; try augment the training rows (data.augment), " in sentence
    assert f"train.weight_decay=0.1 or train.epochs={artifact.manifest.facts['best_step'] / 2:g}" in sentence
    events = [json.loads(line) for line in (artifact.path / "events.jsonl").read_text().splitlines()]
    (said,) = [event["advice"] for event in events if event["event"] == "overfitting"]
    assert capsys.readouterr().err.count(f"warning: {said}") == 1
    assert said.partition(" to ")[0] == sentence.partition(" to ")[0]  # the same best step, seen later


def test_a_training_that_diverges_keeps_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A schedule whose warm-up ends in a rate that destroys the model. Nothing is sealed."""
    workspace = workspace_at(tmp_path)
    settings = BASE_SETTINGS | {"learning_rate": 0.9, "warmup_ratio": 0.2, "evaluations_per_epoch": 3}
    config = TrainConfig(method=FullOptions(), early_stopping=None, **settings, schedule="constant")
    with pytest.raises(TrainingDiverged, match="training diverged: for 5 steps the loss was above 3 times") as caught:
        stage.run(workspace, config, model=TINY, seed=7, data=data_artifact(workspace))
    assert "lower train.learning_rate from 0.9 to 0.18" in caught.value.fix
    assert caught.value.where.startswith("rows made:")
    folder = workspace.stage_directory("train") / "0001"
    assert not (folder / "manifest.json").exists()
    kept = checkpoint.last_whole(folder / stage.CHECKPOINTS)
    assert kept is not None
    assert checkpoint.step_of(kept) < caught.value.since
    assert f"{kept.name} is kept" in capsys.readouterr().err


def test_whole_weights_in_bfloat16_learn_as_in_float32(tmp_path: Path, base: Path) -> None:
    """Updates of 1e-4 of a weight are below bfloat16's step of 1/256: without masters, or rounding at random, the loss
    would hardly move."""
    losses = {}
    for name, dtype, optimizer in (
        ("float32", "float32", "adamw"),
        ("rounded at random", "bfloat16", "adamw_8bit"),
        ("masters", "bfloat16", "adamw"),
    ):
        workspace = workspace_at(tmp_path / name)
        settings = BASE_SETTINGS | {"learning_rate": 1e-4, "epochs": 6, "optimizer": optimizer}
        model = ModelConfig(path="builtin:tiny", dtype=dtype)
        config = TrainConfig(method=FullOptions(), **settings)
        artifact = stage.run(workspace, config, model=model, seed=7, data=data_artifact(workspace))
        losses[name] = [point["loss"] for point in artifact.json("curve.json")["validation"]]
    assert losses["float32"][0] - losses["float32"][-1] > 0.1
    assert losses["masters"] == pytest.approx(losses["float32"], abs=0.01)
    assert losses["rounded at random"] == pytest.approx(losses["float32"], abs=0.02)
    assert tuned.model_info(artifact).dtype == "bfloat16"
    stored = load_file(artifact.folder("model") / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert "kept in float32" in artifact.manifest.facts["precision"]


@pytest.mark.parametrize("required", [True, False])
def test_a_training_without_effect_does_not_pass_unless_allowed(
    tmp_path: Path, required: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate at which nothing is learned; what was saved is asked, with the effect and the reason in the facts."""
    workspace = workspace_at(tmp_path)
    settings = BASE_SETTINGS | {"learning_rate": 1e-9, "epochs": 1, "effect": {"required": required}}
    data = data_artifact(workspace, held_out=12)
    artifact = stage.run(workspace, TrainConfig.model_validate(settings), model=TINY, seed=7, data=data)
    facts = artifact.manifest.facts
    assert artifact.manifest.passed is not required
    assert (facts["effect"]["verdict"], facts["effect"]["rows"]) == ("no effect shown", 12)
    assert ("failed" in facts) is required
    assert "NO EFFECT SHOWN: on 12 held-out rows" in capsys.readouterr().err


def test_a_training_with_an_effect_says_so(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace, held_out=12)
    artifact = stage.run(workspace, TrainConfig.model_validate(BASE_SETTINGS), model=TINY, seed=7, data=data)
    effect = artifact.manifest.facts["effect"]
    assert artifact.manifest.passed is True
    assert effect["verdict"] == "effect"
    assert effect["tuned"] == pytest.approx(artifact.manifest.facts["validation_loss"], rel=1e-4)


def test_small_data_levers_train_and_are_counted(tmp_path: Path) -> None:
    """Noise, smoothing, dropout, decay, workers and steps together; noise computes each row's own prefix."""
    workspace = workspace_at(tmp_path)
    data = data_artifact(workspace)
    levers = {"neftune_alpha": 5, "label_smoothing": 0.1, "weight_decay": 0.1, "dataloader_workers": 1}
    settings = {key: value for key, value in BASE_SETTINGS.items() if key != "epochs"} | {"steps": 8} | levers
    config = TrainConfig.model_validate(settings | {"method": {"name": "lora", "dropout": 0.1}})
    facts = stage.run(workspace, config, model=TINY, seed=7, data=data).manifest.facts
    assert facts["steps"] == 8
    assert facts["computed_tokens"] == facts["tokens"]
    assert facts["resumed"] == 0
