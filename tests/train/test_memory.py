"""Refusing what cannot fit, and stepping down when memory runs out after all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from train_kit import workspace_at

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ResourceError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.load import load_model
from tunewright.train import memory, precision, stage
from tunewright.train.config import TrainConfig
from tunewright.train.footprint.predict import made_up
from tunewright.train.memory import OutOfMemory, Planned, check, climb_down, held_down, ladder, nearest
from tunewright.train.methods.options import FullOptions, LoraOptions
from tunewright.train.plan import StepPlan
from tunewright.train.settle import settle
from tunewright.train.trainer import make_trainer

TINY = ModelConfig(path="builtin:tiny", dtype="float32")
GB = 10**9


@pytest.fixture(scope="module")
def base() -> Path:
    return source.resolve(TINY, Path())


@pytest.fixture(scope="module")
def planned(base: Path) -> Planned:
    """A step of 32,768 tokens in rows of 8,192, so that the ladder is short."""
    formats = precision.choose("float32", kind="adapter")
    return Planned(base, formats, [made_up(32768, 8192, 0.5)])


WIDE = TrainConfig(micro_batch_tokens=32768)


def test_what_fits_is_not_walked(planned: Planned) -> None:
    assert check(planned, TrainConfig(), room=100 * GB) is None


def test_what_cannot_fit_is_refused_with_the_nearest_that_does(planned: Planned) -> None:
    as_written = planned.need(WIDE, device="cpu").bytes
    half = planned.need(WIDE.model_copy(update={"micro_batch_tokens": 16384}), device="cpu").bytes
    room = int(as_written * memory.UNSURE * 0.99)
    assert half < room
    with pytest.raises(ResourceError, match="this training needs about") as caught:
        check(planned, WIDE, room=room)
    assert "the nearest that fits, about" in caught.value.fix
    assert "train.micro_batch_tokens=16384;" in caught.value.fix
    assert "train.check_memory=false" in caught.value.fix


def test_a_tight_one_is_started_with_a_warning(planned: Planned, capsys: pytest.CaptureFixture[str]) -> None:
    as_written = planned.need(WIDE, device="cpu").bytes
    found = check(planned, WIDE, room=int(as_written * 0.97))
    assert found is not None and found.bytes == as_written
    assert "memory will be tight" in capsys.readouterr().err


def test_the_switch_turns_the_check_off(planned: Planned) -> None:
    assert check(planned, WIDE.model_copy(update={"check_memory": False}), room=1) is None


def test_where_nothing_fits_that_is_said(planned: Planned) -> None:
    with pytest.raises(ResourceError) as caught:
        check(planned, WIDE, room=10**6)
    assert "take a smaller model, or a larger machine" in caught.value.fix


def test_a_training_in_full_is_led_to_lora_where_only_that_fits(tmp_path: Path) -> None:
    shape = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 1000, **shape}))
    formats = precision.choose("bfloat16", kind="full")
    planned = Planned(tmp_path, formats, [made_up(256, 256, 0.5)])
    full = TrainConfig(method=FullOptions(), micro_batch_tokens=256)
    lowest = full.model_copy(update={"gradient_checkpointing": True, "trim_memory": True})
    need = planned.need(lowest, device="cuda").bytes
    lora = planned.need(lowest.model_copy(update={"method": LoraOptions()}), device="cuda").bytes
    assert lora < need
    found = nearest(planned, full, (lora + need) // 2, device="cuda")
    assert found is not None and found[0].startswith("train.method.name=lora")


def test_the_stage_refuses_before_it_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = made_workspace(tmp_path, 8)
    data = Artifact.open(next(workspace.stage_directory("data").glob("*")))
    monkeypatch.setattr(memory, "available", lambda on_gpu: 10**6)
    with pytest.raises(ResourceError, match="needs about"):
        stage.run(workspace, TrainConfig(steps=1), model=TINY, seed=7, data=data)
    assert "weights (" not in capsys.readouterr().err, "the announcement comes after loading"


def test_the_ladder_goes_from_micro_batches_to_checkpointing_to_offloading() -> None:
    steps = [rung.text for rung in ladder(TrainConfig(), longest=600, on_gpu=True)]
    assert steps == [
        "train.micro_batch_tokens=1024",
        "train.gradient_checkpointing=true",
        "train.activation_offload=true",
    ]
    assert [rung.text for rung in ladder(TrainConfig(micro_batch_tokens=512), longest=10, on_gpu=False)] == [
        "train.micro_batch_tokens=256",
        "train.gradient_checkpointing=true",
    ]
    lowest = TrainConfig(micro_batch_tokens=256, gradient_checkpointing=True, trim_memory=False)
    assert [rung.text for rung in ladder(lowest, longest=10, on_gpu=False)] == ["train.trim_memory=true"]


@pytest.mark.parametrize(
    "change",
    [
        {"micro_batch_tokens": 64},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "trim_memory": True, "micro_batch_tokens": 128},
    ],
    ids=str,
)
def test_every_rung_gives_the_same_gradient(base: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """Of one step over the same rows, in float64."""
    examples = [*made_up(256, 64, 0.5), *made_up(96, 48, 0.25)]
    gradients = [gradient_of(base, tmp_path / name, examples, part) for name, part in (("a", {}), ("b", change))]
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) < 1e-8
    assert float(gradients[0].norm()) > 0.1


def gradient_of(base: Path, folder: Path, examples: Any, change: dict[str, Any]) -> torch.Tensor:
    """The gradient after `training_step`, all parameters in one vector."""
    settings = TrainConfig.model_validate({"method": {"name": "full"}, "rows_per_step": 64, **change})
    model = load_model(base, dtype=torch.float32).double()
    settle(model, settings)
    trainer = make_trainer(
        model,
        settings,
        training=examples,
        validation=examples[:1],
        plan=StepPlan([list(range(len(examples)))], 1),
        folder=folder,
        seed=7,
        precision=precision.Precision(torch.float32, "", has_masters=False, reason="test"),
    )
    with held_down(model, settings):
        trainer.training_step(model, {"examples": examples})
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_every_spelling_of_full_memory_steps_down(tmp_path: Path, error: Exception) -> None:
    """Through the context that surrounds training; the rung is taken, recorded, and kept for the next start."""
    from tunewright.train.loop import machine_faults

    output = begin(workspace_at(tmp_path), "train", {}, (), resumable=True)
    assert isinstance(output, Output)
    seen: list[int] = []

    def fit(settings: TrainConfig) -> None:
        seen.append(settings.micro_batch_tokens)
        if settings.micro_batch_tokens > 600:
            with machine_faults(tmp_path, settings):
                raise error

    settings, taken = climb_down(fit, TrainConfig(), output, longest=100)
    assert seen == [2048, 1024, 512]
    assert settings.micro_batch_tokens == 512
    assert taken == ["train.micro_batch_tokens=1024", "train.micro_batch_tokens=512"]
    seen.clear()
    climb_down(fit, TrainConfig(), output, longest=100)
    assert seen == [512], "a later start does not run out of memory again"
    with pytest.raises(OutOfMemory, match="does not fit into memory"):
        climb_down(fit, TrainConfig(step_down=False, micro_batch_tokens=4096), fresh(tmp_path / "b"), longest=100)


def fresh(root: Path) -> Output:
    output = begin(workspace_at(root), "train", {}, (), resumable=True)
    assert isinstance(output, Output)
    return output


def made_workspace(root: Path, rows: int) -> Workspace:
    """Long rows: about 330 tokens, letters for this tokenizer."""
    workspace = workspace_at(root)
    output = begin(workspace, "data", {"rows": rows}, ())
    assert isinstance(output, Output)
    for split, count, start in (("train", rows, 0), ("validation", 4, 900), ("test", 2, 950)):
        turns = [
            (Message(role="user", content=f"{n} " + "ask " * 30), Message(role="assistant", content=f"say {n} " * 20))
            for n in range(start, start + count)
        ]
        made = [Conversation(id=f"{split}:{n}", messages=pair, metadata={}) for n, pair in enumerate(turns)]
        files.write_jsonl(output.path / f"{split}.jsonl", [row.to_row() for row in made])
    output.seal()
    return workspace


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS holds on Linux")
def test_memory_that_really_runs_out_steps_down_and_resumes(tmp_path: Path) -> None:
    """The process's address space is cut after the first checkpoint; it goes on from there with less at once, and
    ends where the same training ends without a limit."""
    curves = []
    for name, room in (("free", 0), ("cut", 30_000_000)):
        made_workspace(tmp_path / name, 48)
        command = [sys.executable, str(Path(__file__).with_name("memory_child.py")), str(tmp_path / name), str(room)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr[-2000:]
        artifact = Artifact.open(Path(done.stdout.strip()))
        curves.append([point["loss"] for point in artifact.json("curve.json")["train"]])
        taken = artifact.manifest.facts.get(memory.STEPPED_DOWN, [])
        if name == "free":
            assert taken == [] and artifact.manifest.facts["resumed"] == 0
        else:
            assert taken and taken[0] == "train.micro_batch_tokens=8192", done.stderr
            assert "stepping down to train.micro_batch_tokens=8192 (below it: " in done.stderr
            assert artifact.manifest.facts["resumed"] >= 1
            assert "going on from checkpoint-" in done.stderr
    assert len(curves[0]) == 4
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
