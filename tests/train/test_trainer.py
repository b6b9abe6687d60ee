"""The trainer by itself: grouping changes nothing, schedules, smoothing, and what breaks stops in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from train_kit import LENGTH, rows

from tunewright.models.load import load_model
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import ATTENTION, micro_batches
from tunewright.models.tokens import IGNORED, Example
from tunewright.train import precision
from tunewright.train.config import TrainConfig
from tunewright.train.plan import StepPlan, plan_steps
from tunewright.train.trainer import PackedTrainer, make_trainer
from tunewright.train.watch import TrainingDiverged


def trainer_for(model: Any, folder: Path, training: Sequence[Example], **settings: Any) -> PackedTrainer:
    config = TrainConfig.model_validate({"epochs": 2, "rows_per_step": 8, "learning_rate": 1e-2} | settings)
    if config.packing:
        model.set_attn_implementation(ATTENTION)
    plan = plan_steps(training, epochs=config.epochs, steps=config.steps, rows_per_step=config.rows_per_step, seed=3)
    return make_trainer(
        model,
        config,
        training=training,
        validation=rows(2, first=100),
        plan=plan,
        folder=folder,
        seed=3,
        precision=precision.choose("float32", kind="full"),
    )


def losses_of(trainer: PackedTrainer, key: str = "loss") -> list[float]:
    return [row[key] for row in trainer.state.log_history if key in row]


@pytest.mark.parametrize("packing", [True, False])
def test_8x1_equals_4x2_equals_2x4(tiny: Path, tmp_path: Path, packing: bool) -> None:
    """One step of eight rows in micro-batches of one, two and four: the same losses and the same weights."""
    curves, weights = [], []
    for size in (1, 2, 4):
        training = rows(16)
        assert len(micro_batches(training[:8], max_tokens=size * LENGTH)) == 8 // size
        model = load_model(tiny, dtype=torch.float32)
        budget = {"micro_batch_tokens": size * LENGTH, "packing": packing}
        trainer = trainer_for(model, tmp_path / str(size), training, **budget)
        trainer.train()
        curves.append(losses_of(trainer))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert len(curves[0]) == 4
    assert curves[0][-1] < curves[0][0] - 0.1
    for curve, vector in zip(curves[1:], weights[1:], strict=True):
        assert curve == pytest.approx(curves[0], rel=1e-5)
        # Adam divides by the gradient's size: where that is near zero, rounding decides the update's sign
        assert float((vector - weights[0]).norm() / weights[0].norm()) < 1e-4


def test_grouping_gives_the_same_gradient_in_float64(tiny: Path, tmp_path: Path) -> None:
    found = []
    for size in (1, 2, 4, 8):
        model = load_model(tiny, dtype=torch.float64)
        trainer = trainer_for(model, tmp_path / str(size), rows(8), micro_batch_tokens=size * LENGTH)
        loss = trainer.training_step(model, {"examples": rows(8)})
        found.append((float(loss), torch.cat([p.grad.flatten() for p in model.parameters()])))
    for value, gradient in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)  # the loss is summed in float32
        assert float((gradient - found[0][1]).abs().max() / found[0][1].abs().max()) < 1e-9


def test_rows_weigh_by_their_trained_tokens(tiny: Path, tmp_path: Path) -> None:
    """Golden: the gradient of the plain mean over all trained tokens, by transformers' own loss on one padded batch."""
    training = rows(8)
    plain = load_model(tiny, dtype=torch.float64)
    ids, labels = (torch.tensor([getattr(row, name) for row in training]) for name in ("input_ids", "labels"))
    plain(input_ids=ids, labels=labels).loss.backward()
    model = load_model(tiny, dtype=torch.float64)
    trainer = trainer_for(model, tmp_path, training, micro_batch_tokens=64)
    trainer.training_step(model, {"examples": training})
    for (name, expected), ours in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours.grad, expected.grad, rtol=1e-4, atol=1e-8), name


def shape(name: str, step: int, total: int, warmup: int) -> float:
    """The schedules as their definitions say, for the step-th optimizer step (from 0)."""
    if step < warmup:
        return step / warmup
    share = (step - warmup) / (total - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    decay = 4
    return {
        "linear": 1 - share,
        "cosine": cosine,
        "cosine_with_min_lr": 0.1 + 0.9 * cosine,
        "constant": 1.0,
        "warmup_stable_decay": 1.0
        if step < total - decay
        else 0.5 * (1 + math.cos(math.pi * (step - total + decay) / decay)),
    }[name]


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_with_min_lr", "warmup_stable_decay", "constant"])
def test_schedules(tiny: Path, tmp_path: Path, name: str) -> None:
    """20 steps, 2 of warm-up, 4 of decay. Trainer logs the rate of the next step before it is used."""
    settings = {"epochs": 1, "schedule": name, "warmup_ratio": 0.1, "rows_per_step": 1, "evaluations_per_epoch": 1}
    trainer = trainer_for(load_model(tiny, dtype=torch.float32), tmp_path, rows(20), **settings)
    trainer.train()
    expected = [1e-2 * shape(name, step, 20, 2) for step in range(20)]
    assert losses_of(trainer, "learning_rate") == pytest.approx(expected, abs=1e-9)


def test_label_smoothing_counts_in_training_and_not_in_validation(tiny: Path, tmp_path: Path) -> None:
    """A smoothed target is (1 - s) of the token and s / V of every token (Szegedy et al. 2016)."""
    training = rows(8)
    model = load_model(tiny, dtype=torch.float64)
    plain, smooth = (trainer_for(model, tmp_path / str(share), training, label_smoothing=share) for share in (0.0, 0.3))
    logs = torch.log_softmax(model_logits(model, training), -1)
    targets = torch.tensor([label for row in training for label in row.labels if label != IGNORED])
    nll = -logs.gather(1, targets[:, None])[:, 0]
    expected = float((0.7 * nll - 0.3 * logs.mean(-1)).mean())
    assert float(smooth.training_step(model, {"examples": training})) == pytest.approx(expected, rel=1e-5)
    assert float(plain.training_step(model, {"examples": training})) == pytest.approx(float(nll.mean()), rel=1e-5)
    assert smooth.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]


def model_logits(model: Any, training: Sequence[Example]) -> torch.Tensor:
    """Logits that predict the trained tokens, row by row through the plain model."""
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        parts = [
            model(input_ids=torch.tensor([row.input_ids])).logits[0, LENGTH - row.trained - 1 : -1] for row in training
        ]
    model.set_attn_implementation(ATTENTION)
    return torch.cat(parts).double()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_smoothed_packed_equals_padded(tiny: Path, smoothing: float) -> None:
    model = load_model(tiny, dtype=torch.float64)
    padded = float(padded_loss(model, rows(5), label_smoothing=smoothing).detach())
    model.set_attn_implementation(ATTENTION)
    packed = float(packed_loss(model, rows(5), label_smoothing=smoothing).detach())
    assert packed == pytest.approx(padded, rel=1e-6)


def weights_of(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


def poisoned(training: list[Example], number: int) -> list[Example]:
    """The same rows, one of them with token 255, whose embedding is broken."""
    bad = training[number]
    training[number] = Example((bad.input_ids[0], 255, *bad.input_ids[2:]), bad.labels, bad.row_id)
    return training


def test_a_loss_that_is_no_number_names_the_row_and_leaves_the_weights(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny, dtype=torch.float32)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[255] = math.nan
    trainer = trainer_for(model, tmp_path, poisoned(rows(8), 5), steps=3, epochs=None)
    before = weights_of(model)
    with pytest.raises(TrainingDiverged) as caught:
        trainer.train()
    error = caught.value
    assert error.exit_code == 1
    assert error.where == "row row:5"
    assert error.problem.startswith("the loss of step 1 is no finite number")
    assert "lower train.learning_rate from 0.01 to 0.002, or train.max_grad_norm from 1 to 0.2" in error.fix
    assert "float32" not in error.fix  # it is used already
    assert torch.equal(weights_of(model).nan_to_num(), before.nan_to_num())


def test_a_gradient_that_is_no_number_stops_before_the_weights_change(tiny: Path, tmp_path: Path) -> None:
    """Finite loss, broken backward pass for one row: its last layer's hidden states hold a marked value."""
    model = load_model(tiny, dtype=torch.float32)

    class Break(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
            ctx.broken = bool((ids == 255).any())
            return hidden.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
            return gradient * (math.inf if ctx.broken else 1), None

    layer = model.get_input_embeddings()
    layer.register_forward_hook(lambda _, inputs, output: Break.apply(output, inputs[0]))  # type: ignore[no-untyped-call]
    settings = {"steps": 3, "epochs": None, "micro_batch_tokens": 64}
    trainer = trainer_for(model, tmp_path, poisoned(rows(8), 2), **settings)
    before = weights_of(model)
    with pytest.raises(TrainingDiverged, match="the gradient of step 1 is no finite number") as caught:
        trainer.train()
    assert caught.value.where == "row row:2"
    assert torch.equal(weights_of(model), before)


def test_an_overflow_that_the_loss_scaler_skips_is_no_fault(tiny: Path, tmp_path: Path) -> None:
    """float16's scaler lowers its scale and drops the step; torch's scaler also works on CPU, so it is asked here."""
    model = load_model(tiny, dtype=torch.float32)
    trainer = trainer_for(model, tmp_path, rows(8))
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    trainer.training_step(model, {"examples": rows(8)})
    gradients = [p.grad for p in model.parameters()]
    assert not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
    model.zero_grad()
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=0.5)  # it was halved too often
    with pytest.raises(TrainingDiverged, match="the gradient of step 1"):
        trainer.training_step(model, {"examples": rows(8)})


def test_a_validation_loss_that_is_no_number(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny, dtype=torch.float32)
    trainer = trainer_for(model, tmp_path, rows(8))
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(TrainingDiverged, match="the validation loss of step 0 is no finite number") as caught:
        trainer.evaluate()
    assert caught.value.where == "rows row:100, row:101"
    assert caught.value.since == -1  # the weights themselves are bad


def test_weight_decay_pulls_matrices_and_spares_norms(tiny: Path, tmp_path: Path) -> None:
    """AdamW shrinks a matrix by learning rate x decay in a step; norm weights stay out of it."""
    sizes = []
    for decay in (0.0, 0.5):
        model = load_model(tiny, dtype=torch.float32)
        settings = {"weight_decay": decay, "learning_rate": 1e-4, "schedule": "constant", "warmup_ratio": 0}
        trainer_for(model, tmp_path / str(decay), rows(8), steps=1, epochs=None, **settings).train()
        matrix, norm = model.model.layers[0].mlp.up_proj.weight, model.model.layers[0].input_layernorm.weight
        sizes.append((float(matrix.detach().norm()), float(norm.detach().norm())))
    assert sizes[1][0] / sizes[0][0] == pytest.approx(1 - 1e-4 * 0.5, abs=1e-6)
    assert sizes[1][1] == pytest.approx(sizes[0][1], rel=1e-6)


def test_a_plan_is_walked_in_its_order(tiny: Path, tmp_path: Path) -> None:
    training = rows(6)
    trainer = trainer_for(load_model(tiny, dtype=torch.float32), tmp_path, training)
    trainer.train_dataset._plan = StepPlan([[3], [0, 5]], 2)
    found = [[row.row_id for row in batch["examples"]] for batch in trainer.get_train_dataloader()]
    assert found == [["row:3"], ["row:0", "row:5"]]
