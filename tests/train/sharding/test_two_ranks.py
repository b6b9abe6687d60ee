"""Two ranks on CPU over gloo: as one process, bit for bit after a stop, a kill and a new launch, and nothing silent.

All trainings of this file run in one process that forks its ranks: importing torch twice a test would take minutes.
"""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_kit import Case, prepare, run_episodes, train
from safetensors import safe_open
from safetensors.torch import load_file
from train_kit import workspace_at

from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact
from tunewright.models import tuned
from tunewright.models.config import ModelConfig
from tunewright.models.loss import mean_loss
from tunewright.models.source import resolve
from tunewright.models.tokens import ChatTokenizer

pytestmark = pytest.mark.slow
HAS_DEEPSPEED = find_spec("deepspeed") is not None
LORA = {"method": {"name": "lora", "rank": 4}}
DROPPED = {"method": {"name": "lora", "rank": 4, "dropout": 0.2}}
FULL = {"method": {"name": "full"}, "learning_rate": 1e-3}
LONG = LORA | {"steps": 7}
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "ddp-lora": ({"name": "ddp"}, DROPPED, "float32"),
    "ddp-full": ({"name": "ddp"}, FULL, "float32"),
    "fsdp-lora": ({"name": "fsdp"}, LORA, "float32"),
    "fsdp-full": ({"name": "fsdp"}, FULL, "bfloat16"),
    "zero1-full": ({"name": "zero", "stage": 1}, FULL, "float32"),
    "zero2-lora": ({"name": "zero", "stage": 2}, LORA, "float32"),
    "zero2-full": ({"name": "zero", "stage": 2, "offload": True}, FULL, "float32"),
    "zero3-lora": ({"name": "zero", "stage": 3}, LORA, "float32"),
    "zero3-full": ({"name": "zero", "stage": 3}, FULL, "bfloat16"),
}
"""Sharding, method and number format."""
STOPPED = {
    name: {"rank": number % 2, "at": 1}
    for number, name in enumerate(WAYS)
    if name not in ("ddp-full", "zero1-full", "fsdp-lora")
}
"""The rank that gets SIGTERM at the first of two evaluations."""
KILLED: dict[str, dict[str, Any]] = {"ddp-kill": {"name": "ddp"}, "zero2-kill": {"name": "zero", "stage": 2}}


def is_here(name: str) -> bool:
    return HAS_DEEPSPEED or not name.startswith("zero")


def ways(names: Any) -> list[Any]:
    missing = pytest.mark.skip(reason="DeepSpeed is not installed: pip install 'tunewright[deepspeed]'")
    return [pytest.param(name, marks=() if is_here(name) else missing) for name in names]


def case(name: str, suffix: str = "", **more: Any) -> Case:
    sharding, method, dtype = WAYS[name]
    return {"name": name + suffix, "train": method | {"sharding": sharding}, "dtype": dtype, **more}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """(root, results): every training of WAYS whole and stopped, then those of KILLED: whole, killed, started again."""
    root = tmp_path_factory.mktemp("ranks")
    whole = [case(name) for name in WAYS if is_here(name)]
    whole += [case(name, "-stopped", stop=stop) for name, stop in STOPPED.items() if is_here(name)]
    episodes: list[dict[str, Any]] = [{"cases": whole}]
    for name, sharding in KILLED.items():
        if is_here(name):
            undisturbed = {"name": name, "train": LONG | {"sharding": sharding}}
            killed = undisturbed | {"name": f"{name}ed"}
            mark = f"{name}ed/runs/made/train/0001/.checkpoints/checkpoint-2/whole.json"
            episodes[0]["cases"].append(undisturbed)
            episodes += [{"cases": [killed], "kill": {"rank": 1, "path": mark}}, {"cases": [killed]}]
    return root, run_episodes(root, episodes, timeout=280)


def artifact(made: tuple[Path, Any], name: str) -> Artifact:
    root, results = made
    found = workspace_at(root / name).finished("train")
    assert found, results[0]["said"][0][-4000:] + results[0]["said"][1][-2000:]
    first: Artifact = found[0]
    return first


def weights_file(found: Artifact) -> Path:
    (place,) = [*found.path.glob("adapter/*.safetensors"), *found.path.glob("model/*.safetensors")]
    return place


@pytest.mark.parametrize("name", ways(WAYS))
def test_two_ranks_train_what_one_process_does(made: tuple[Path, Any], tmp_path: Path, name: str) -> None:
    """Without dropout, in float32: only the order of sums differs. Seen: at most 1.2e-6, on average 1e-9; an Adam step
    is 1e-3. In bfloat16 a rounding may flip a weight, so the losses are compared."""
    _, method, dtype = WAYS[name]
    found = artifact(made, name)
    assert found.manifest.facts["ranks"] == 2
    if method is DROPPED:
        return
    alone_case = {"name": "alone", "train": method, "dtype": dtype}
    prepare(tmp_path, [alone_case])
    alone = train(tmp_path, alone_case)
    ours, theirs = load_file(weights_file(found)), load_file(weights_file(alone))
    assert {key: (v.shape, v.dtype) for key, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}
    for part in ("train", "validation"):
        losses = [[point["loss"] for point in one.json("curve.json")[part]] for one in (found, alone)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6 if dtype == "float32" else 1e-3)
        assert len(losses[0]) == {"train": 4, "validation": 2}[part]
    differences = torch.cat([(ours[key].double() - theirs[key].double()).abs().flatten() for key in ours])
    assert float(differences.mean()) < (1e-7 if dtype == "float32" else 1e-4)
    if dtype == "float32":
        assert float(differences.max()) < 1e-4
    same = ("steps", "tokens", "trained_parameters", "total_parameters", "best_step")
    assert [found.manifest.facts[key] for key in same] == [alone.manifest.facts[key] for key in same]


@pytest.mark.parametrize("name", ways(STOPPED))
def test_a_signal_on_one_rank_stops_all_and_the_rest_is_bit_identical(made: tuple[Path, Any], name: str) -> None:
    whole, rest = artifact(made, name), artifact(made, f"{name}-stopped")
    assert rest.manifest.facts["resumed"] == 1
    assert weights_file(rest).read_bytes() == weights_file(whole).read_bytes()
    assert rest.json("curve.json") == whole.json("curve.json")


def test_both_ranks_say_that_they_were_stopped_after_the_same_step(made: tuple[Path, Any]) -> None:
    expected = sum(map(is_here, STOPPED))
    for said in made[1][0]["said"]:
        steps = re.findall(r"stopped by a signal after step (\d+); the checkpoint is saved", said)
        assert steps == ["3"] * expected, "at the evaluation after step 2; the ranks agree at the end of the next step"


@pytest.mark.parametrize("name", ways(KILLED))
def test_a_fresh_launch_after_kill_9_ends_in_the_same_bytes(made: tuple[Path, Any], name: str) -> None:
    number = 1 + 2 * [each for each in KILLED if is_here(each)].index(name)
    killed, again = made[1][number], made[1][number + 1]
    assert killed["codes"] == [1, -9]
    assert "rank 0 has lost the connection to another rank" in killed["said"][0]
    assert "goes on from the last checkpoint" in killed["said"][0]
    assert again["codes"] == [0, 0]
    assert "going on from checkpoint-" in again["said"][0]
    whole, rest = artifact(made, name), artifact(made, f"{name}ed")
    assert weights_file(rest).read_bytes() == weights_file(whole).read_bytes()
    assert rest.json("curve.json") == whole.json("curve.json")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ddp", r"DDP: a rank holds 90,624 trained and 0 frozen weights and the optimizer's state of 90,624"),
        ("fsdp", r"FSDP2: a rank holds 45,312 trained and 0 frozen weights and the optimizer's state of 45,312"),
        ("zero1", r"ZeRO-1: a rank holds 90,624 trained and 0 frozen weights and the optimizer's state of 45,312"),
        ("zero3", r"ZeRO-3: a rank holds 45,312 trained and 0 frozen weights and the optimizer's state of 45,312"),
    ],
)
def test_what_is_divided_is_counted_and_said(made: tuple[Path, Any], name: str, sentence: str) -> None:
    """90,624 weights; 259 rows of the embedding are no multiple of two, so FSDP gives rank 0 one row of 64 more."""
    if not is_here(name):
        pytest.skip("DeepSpeed is not installed: pip install 'tunewright[deepspeed]'")
    said = made[1][0]["said"]
    sentence = sentence.replace("45,312", "45,344") if name == "fsdp" else sentence
    assert re.search(rf"2 ranks \(gloo on CPU\), {sentence}; each row of each step is computed once", said[0])
    assert "2 ranks (" not in said[1], "only the first rank says it"


@pytest.mark.parametrize("name", ways(["ddp-full", "fsdp-full", "zero2-full", "zero3-full"]))
def test_full_weights_are_stock_safetensors_with_tied_weights_kept_tied(made: tuple[Path, Any], name: str) -> None:
    from transformers import AutoModelForCausalLM

    found = artifact(made, name)
    with safe_open(weights_file(found), "pt") as held:
        assert "lm_head.weight" not in held.keys() and "model.embed_tokens.weight" in held.keys()  # noqa: SIM118
    loaded = AutoModelForCausalLM.from_pretrained(found.folder("model"))
    assert loaded.lm_head.weight.data_ptr() == loaded.get_input_embeddings().weight.data_ptr()
    assert validation_loss(made, name, loaded.float()) == pytest.approx(
        found.manifest.facts["validation_loss"], rel=2e-3
    )


@pytest.mark.parametrize("name", ways(["ddp-lora", "fsdp-lora", "zero2-lora", "zero3-lora"]))
def test_adapters_load_in_stock_peft_and_merge(made: tuple[Path, Any], name: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    found = artifact(made, name)
    base = resolve(ModelConfig(path="builtin:tiny"), made[0])
    stock = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), found.folder("adapter"))
    expected = found.manifest.facts["validation_loss"]
    assert validation_loss(made, name, stock.eval()) == pytest.approx(expected, rel=1e-5)
    model = ModelConfig.model_validate({"path": "builtin:tiny", "dtype": "float32"})
    merged = tuned.open_tuned(found, model, base, dtype=torch.float32)
    assert validation_loss(made, name, merged) == pytest.approx(expected, rel=1e-5)
    untouched = AutoModelForCausalLM.from_pretrained(base)
    assert validation_loss(made, name, untouched) > expected + 0.1


def validation_loss(made: tuple[Path, Any], name: str, model: Any) -> float:
    from tunewright.core.chat import Conversation

    (data,) = workspace_at(made[0] / name).finished("data")
    tokenizer = ChatTokenizer.load(resolve(ModelConfig(path="builtin:tiny"), made[0]))
    rows = [Conversation.from_row(row) for row in data.jsonl("validation.jsonl")]
    examples = [example for row in rows for example in tokenizer.examples(row, max_length=512)]
    return mean_loss(model, examples)[0]


def test_only_the_first_rank_writes_the_artifact(made: tuple[Path, Any]) -> None:
    """One curve, each step once, no checkpoint left, the manifest complete."""
    found = artifact(made, "fsdp-full")
    events = [json.loads(line) for line in (found.path / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4]
    assert not (found.path / ".checkpoints").exists()
    assert workspace_at(made[0] / "fsdp-full").directories("train") == [found.path]


def test_a_finished_training_is_found_without_a_launcher(made: tuple[Path, Any]) -> None:
    """So that `run` goes on after `train --launch`."""
    assert train(made[0], case("ddp-full")).path == artifact(made, "ddp-full").path


def test_one_process_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    alone = case("ddp-lora")
    prepare(tmp_path, [alone])
    with pytest.raises(ConfigError, match=r"train\.sharding needs a process for each device") as caught:
        train(tmp_path, alone)
    assert "--launch 2" in caught.value.fix
    assert not workspace_at(tmp_path / "ddp-lora").directories("train")


def test_ranks_without_sharding_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would train the whole, on all rows."""
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    plain = {"name": "plain", "train": LORA}
    prepare(tmp_path, [plain])
    with pytest.raises(ConfigError, match=r"2 processes were started, but train\.sharding is not set"):
        train(tmp_path, plain)


@pytest.mark.parametrize("name", ["fsdp", "zero"])
def test_a_quantized_base_is_not_divided(tmp_path: Path, name: str) -> None:
    quantized = {"name": "q", "train": {"method": {"name": "lora", "base_bits": 4}, "sharding": {"name": name}}}
    prepare(tmp_path, [quantized])
    with pytest.raises(ConfigError, match=rf"a base in 4 bits cannot be divided by {name}"):
        train(tmp_path, quantized)
