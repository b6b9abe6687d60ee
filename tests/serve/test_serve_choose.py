from __future__ import annotations

import artifact_kit as made
import pytest

from tunewright.core.errors import ArtifactError
from tunewright.serve.choose import choose, choose_from

TABLE = [
    made.row("bf16", 20.0),
    made.row("int8", 35.5),
    made.row("awq", 90.0, accepted=False),
    made.row("gguf-q8_0", 200.0, engine="llama.cpp"),
]


@pytest.fixture
def workspace(tmp_path):
    return made.workspace(tmp_path)


def test_nothing_to_serve_says_what_to_run(workspace):
    with pytest.raises(ArtifactError, match="tunewright train"):
        choose(workspace, made.MODEL)


def test_the_fastest_accepted_variant_of_this_engine_is_served(workspace):
    made.quantize(workspace, made.train(workspace), TABLE)
    choice = choose(workspace, made.MODEL)
    assert choice.variant == "int8" and choice.artifact.manifest.stage == "quantize"
    assert "quantize/0001/int8" in choice.sentence and "35.5 tokens/s" in choice.sentence
    loaded = choice.load()
    assert loaded.context == 512 and not loaded.model.training


def test_without_a_variant_the_newest_passed_training_is_served(workspace):
    made.train(workspace, number=1)
    made.train(workspace, number=2)
    made.train(workspace, number=3, passed=False)
    choice = choose(workspace, made.MODEL)
    assert choice.variant == "tuned" and "train/0002" in choice.sentence and "no quantized variant" in choice.sentence
    assert choice.load().model is not None


def test_a_quantize_artifact_that_failed_or_has_no_variant_for_us_is_passed_over(workspace):
    trained = made.train(workspace)
    made.quantize(workspace, trained, TABLE[2:])
    choice = choose(workspace, made.MODEL)
    assert choice.variant == "tuned" and "no accepted variant" in choice.sentence
    made.quantize(workspace, trained, TABLE, passed=False)
    assert choose(workspace, made.MODEL).variant == "tuned"


def test_a_variant_of_an_older_training_is_said(workspace):
    made.quantize(workspace, made.train(workspace, number=1), TABLE)
    assert "newest training" not in choose(workspace, made.MODEL).sentence
    made.train(workspace, number=2)
    assert "not made from runs/bank/train/0002, the newest training" in choose(workspace, made.MODEL).sentence


def test_a_named_folder_wins_and_a_refused_one_is_warned_of(workspace):
    trained = made.train(workspace)
    quantized = made.quantize(workspace, trained, TABLE)
    choice = choose(workspace, made.MODEL, source_directory=quantized.path / "bf16")
    assert choice.variant == "bf16" and "WARNING" not in choice.sentence
    assert "refused" in choose(workspace, made.MODEL, source_directory=quantized.path / "awq").sentence
    assert choose(workspace, made.MODEL, source_directory=quantized.path).variant == "int8"
    assert choose(workspace, made.MODEL, source_directory=trained.path).variant == "tuned"
    failed = made.train(workspace, number=9, passed=False)
    assert "WARNING: this artifact did not pass" in choose(workspace, made.MODEL, source_directory=failed.path).sentence


def test_what_cannot_be_served_is_refused_with_the_reason(workspace, tmp_path):
    quantized = made.quantize(workspace, made.train(workspace), TABLE)
    with pytest.raises(ArtifactError, match=r"llama\.cpp"):
        choose(workspace, made.MODEL, source_directory=quantized.path / "gguf-q8_0")
    with pytest.raises(ArtifactError, match="no folder 'int3'"):
        choose(workspace, made.MODEL, source_directory=quantized.path / "int3")
    with pytest.raises(ArtifactError, match="no finished artifact"):
        choose(workspace, made.MODEL, source_directory=tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="stage 'data'"):
        choose(workspace, made.MODEL, source_directory=made.data(workspace, ["Hi"]).path)


def test_a_changed_weight_file_is_refused(workspace):
    quantized = made.quantize(workspace, made.train(workspace), TABLE)
    weights = quantized.path / "int8" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()  # the tiny model's own file is a hard link of it
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtifactError, match="changed after"):
        choose(workspace, made.MODEL)


@pytest.mark.parametrize("stage", ["train", "quantize"])
def test_another_template_than_the_trained_one_is_refused(workspace, stage):
    other = {"chat_template_sha256": "1" * 64}
    trained = made.train(workspace, **(other if stage == "train" else {}))
    quantized = None if stage == "train" else made.quantize(workspace, trained, TABLE, **other)
    choice = choose_from(workspace, made.MODEL, quantize=quantized, train=trained)
    with pytest.raises(ArtifactError, match="chat template differs"):
        choice.load()
