"""The trainer of one rank: its share of each step, one loss over all ranks, checkpoints that are whole for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tunewright.core.errors import ResourceError
from tunewright.core.events import say
from tunewright.core.scoring import Measured
from tunewright.models.tokens import Example
from tunewright.train import callbacks, culprits
from tunewright.train.plan import StepPlan
from tunewright.train.sharding import proof
from tunewright.train.sharding.share import deal, micro_batches_of
from tunewright.train.sharding.strategy import Strategy, elements, trained
from tunewright.train.sharding.world import World
from tunewright.train.trainer import PackedTrainer
from tunewright.train.watch import LossWatch

OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"


class ShardedTrainer(PackedTrainer):
    """Every rank walks the same step plan and computes its share of each step. transformers and accelerate keep the
    order of events; wrapping, backward pass and checkpoint files are the strategy's."""

    def __init__(
        self, *, world: World, strategy: Strategy, plan: StepPlan, rows: Sequence[Example], **rest: Any
    ) -> None:
        super().__init__(**rest)
        self._world, self._strategy = world, strategy
        self._plan, self._rows = plan, rows

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All steps on every rank: accelerate would deal whole steps to the ranks."""
        return DataLoader(
            self.train_dataset,
            batch_size=1,
            sampler=self._get_train_sampler(),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
        )

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """transformers' hook between the plan and the first step: wraps, proves, and reads a checkpoint."""
        self._prove_plan()
        sizes = {name: elements(self.model, trained=name != "frozen") for name in ("trained", "frozen", "optimizer")}
        tensors = sum(1 for _ in self.model.parameters())
        self.model_wrapped = self._strategy.wrap(self.model, self.create_optimizer, self.args.max_grad_norm)
        held = self._world.gather(self._strategy.held())
        proof.check_held(held, weights=sizes, divides=self._strategy.divides, tensors=tensors)
        if self._world.is_first:
            say(f"train: {proof.sentence(self._strategy, self._world, held)}")
        self.optimizer = self._strategy.optimizer
        self.create_scheduler(num_training_steps=max_steps, optimizer=self._strategy.scheduled)
        torch.manual_seed(self.args.seed + self._world.rank)  # dropout differs by rank, as it does by row
        if resume_from_checkpoint is not None:
            self._load_optimizer_and_scheduler(resume_from_checkpoint)
        for name in ("model", "optimizer", "lr_scheduler"):
            setattr(self.callback_handler, name, getattr(self, name))
        self.callback_handler.train_dataloader = train_dataloader
        return self.model_wrapped, train_dataloader

    def _prove_plan(self) -> None:
        proof.prove_ranks(self._world)
        proof.prove_start(self._world, trained(self.model))
        mine = []
        for step in self._plan.steps:
            share = deal([len(self._rows[row].input_ids) for row in step], self._world.size)[self._world.rank]
            mine.append([step[index] for index in share])
        proof.check_shares(self._plan.steps, self._world.gather(mine))

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Backward over this rank's micro-batches; returns the mean loss a trained token of the whole step.

        Raises TrainingDiverged on every rank when one of them has a loss that is no number.
        """
        model.train()
        examples: list[Example] = inputs["examples"]
        ranks = self._world.size
        count = sum(example.trained for example in examples)
        groups = micro_batches_of(examples, rank=self._world.rank, ranks=ranks, **self._cut.keywords)
        losses = []
        for number, group in enumerate(groups, start=1):
            weight = ranks / count if group.counts else 0.0  # the ranks' gradients are averaged
            loss = self._strategy.learn(partial(self._weighted, group.rows, weight), is_last=number == len(groups))
            losses.append(float(loss) / ranks)
        total = self._world.sum(sum(losses))
        self._check_step([group.rows for group in groups], losses, total)
        return torch.tensor(total, device=self.args.device)

    def _weighted(self, rows: list[Example], weight: float, network: Any) -> torch.Tensor:
        return self._micro_loss(network, rows) * weight

    def _check_step(self, groups: list[list[Example]], losses: list[float], total: float) -> None:
        step = self.state.global_step + 1
        if self._watch is None:
            self._watch = LossWatch([row["loss"] for row in self.state.log_history if "loss" in row])
        if not math.isfinite(total):
            bad = [row for g, loss in zip(groups, losses, strict=True) if not math.isfinite(loss) for row in g]
            raise self._no_number("loss", step, self._all_rows(bad))
        if self._watch.add(total):
            rows = self._all_rows(list(culprits.worst(groups, losses)))
            raise culprits.ran_away(self._watch, total, step, rows, self._levers)

    def _all_rows(self, rows: list[Example]) -> list[Example]:
        return [row for share in self._world.gather(rows) for row in share]

    def _no_number(self, what: str, step: int, rows: Sequence[Example]) -> Exception:
        """Good weights before the step, or not: asked of all ranks' parts."""
        is_good = all(bool(torch.isfinite(part).all()) for part in self._strategy.local().values())
        since = step if all(self._world.gather(is_good)) else step - 1
        return culprits.broken(what, step, rows, self._levers, since=since)

    def _clip_grad_norm(self, model: Any) -> float:
        """Raises TrainingDiverged on every rank for a gradient that is no number."""
        norm = self._strategy.clip()
        if not all(map(math.isfinite, self._world.floats(norm))):
            step = self.state.global_step + 1
            raise self._no_number("gradient", step, [self._rows[row] for row in self._plan.steps[step - 1]])
        return norm

    def _mean_validation_loss(self) -> float:
        """Micro-batches dealt to the ranks in turn; added up in their order, as one process does."""
        groups = self._cut(self._validation)
        ranks, mine = self._world.size, []
        for start in range(0, len(groups), ranks):
            index = min(start + self._world.rank, len(groups) - 1)
            mine.append(float(self._strategy.look(partial(self._validation_of, groups[index]))))
        dealt = [loss for turn in zip(*self._world.gather(mine), strict=True) for loss in turn][: len(groups)]
        for loss, group in zip(dealt, groups, strict=True):
            if not math.isfinite(loss):
                raise self._no_number("validation loss", self.state.global_step, group)
        return sum(dealt, 0.0) / sum(example.trained for example in self._validation)

    def _validation_of(self, rows: list[Example], network: Any) -> torch.Tensor:
        return self._validation_loss(network, rows)

    def _measure_answers(self) -> list[Measured]:
        """All ranks answer all rows together. Raises ResourceError where they do not agree."""
        if self._scores is None:
            return []
        measured: list[Measured] = self._strategy.look(self._scores)
        if len(set(self._world.gather(tuple(found.value for found in measured)))) > 1:
            raise ResourceError(
                "the ranks generated different answers with the same weights",
                where="train.evaluate_generated",
                fix="leave train.evaluate_generated out on this hardware",
            )
        return measured

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The trainer's own files only where the strategy writes none."""
        if not self._strategy.keeps_files:
            super().save_model(output_dir, _internal_call)
        elif self._world.is_first:
            Path(str(output_dir)).mkdir(parents=True, exist_ok=True)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self._strategy.keeps_files:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self._strategy.save(Path(output_dir))
        if self._world.is_first:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Sharded weights are read after they are wrapped."""
        if not self._strategy.keeps_files:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """transformers would read to a device called cpu:0, which torch does not know."""
        folder = Path(str(checkpoint))
        if self._strategy.keeps_files:
            self._strategy.load(folder, weights_only=False)
        else:
            self.optimizer.load_state_dict(torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True))
        self.lr_scheduler.load_state_dict(torch.load(folder / SCHEDULER, weights_only=True))

    def _load_best_model(self) -> None:
        if not self._strategy.keeps_files:
            super()._load_best_model()
            return
        self._strategy.load(Path(str(self.state.best_model_checkpoint)), weights_only=True)


class StopTogether(TrainerCallback):
    """A signal on any rank stops all of them after the same step. It replaces `StopOnSignal` among the callbacks, which
    goes on receiving."""

    def __init__(self, stop: callbacks.StopOnSignal, world: World) -> None:
        self._stop, self._world = stop, world
        self.received: int | None = None
        """The signal that all ranks have agreed on."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        numbers = self._world.floats(float(self._stop.received or 0))
        if any(numbers):
            self.received = int(max(numbers))
            control.should_save = True
            control.should_training_stop = True


class CheckpointsTogether(TrainerCallback):
    """A checkpoint is marked whole by the first rank, once every rank has written its part."""

    def __init__(self, inner: callbacks.WholeCheckpoints, world: World) -> None:
        self._inner, self._world = inner, world

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._world.wait()
        if self._world.is_first:
            self._inner.on_save(args, state, control)
        self._world.wait()
