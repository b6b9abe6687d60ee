"""Adoption of what other tools wrote: recognised, checked, sealed, and then like every other training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from release_kit import SIGNED, Shop, conversation, rewrite, write_adapter

from tunewright.cli import main
from tunewright.core.chat import Message
from tunewright.models.load import load_model
from tunewright.models.tuned import open_tuned

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="session")
def learned(trained: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEFT folder that has learned `fee`, as another tool would leave it."""
    folder = tmp_path_factory.mktemp("elsewhere") / "out"
    write_adapter(trained.root / "base", folder, "fee", steps=60, seed=3)
    return folder


@pytest.fixture
def outside(learned: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return Path(shutil.copytree(learned, tmp_path / "out"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A project with data and no training."""
    return Shop.make(tmp_path / "shop")


@pytest.fixture
def bare(shop: Shop) -> Shop:
    """A project without rows: the loss is not measured, which takes most of the time."""
    shutil.rmtree(shop.root / "runs")
    return shop


def adopt(capsys: pytest.CaptureFixture[str], shop: Shop, folder: Path, *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["adopt", str(folder), str(shop.file), *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_an_adapter_of_another_tool_goes_through_evaluation_and_promotion(
    shop: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The validation rows mostly say `fee`, so the proof shows an effect; then the gates decide."""
    code, out, err = adopt(capsys, shop, outside)
    assert code == 0, err
    assert "adopted out (PEFT) as runs/bank/train/0001" in out and "Training has an effect" in out
    artifact = shop.newest("train")
    facts = artifact.manifest.facts
    assert facts["method"] == "adopted" and facts["effect"]["verdict"] == "effect"
    assert set(facts["adopted"]["files"]) == {"adapter_config.json", ADAPTER}
    assert str(outside.parent) not in json.dumps(artifact.manifest.model_dump(mode="json")), "no path of this machine"
    info = artifact.json("model.json")
    assert (info["kind"], info["method"], info["base"]) == ("adapter", "adopted", "base")
    assert artifact.json("adapter/adapter_config.json")["base_model_name_or_path"] == "base"
    assert artifact.manifest.inputs[0].path == "runs/bank/data/0001"
    shop.evaluate(artifact)
    assert main(["promote", str(shop.file), *SIGNED]) == 0


def test_the_adopted_adapter_computes_what_peft_computes(
    shop: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel

    assert adopt(capsys, shop, outside)[0] == 0
    ids = torch.tensor([shop.tokenizer.prompt_ids((Message(role="user", content="what?"),))])
    plain = load_model(shop.root / "base", dtype=torch.float32)
    with torch.inference_mode():
        base = plain(input_ids=ids).logits
        theirs = PeftModel.from_pretrained(plain, str(outside)).eval()(input_ids=ids).logits
        ours = open_tuned(shop.newest("train"), shop.project.model, shop.root / "base", dtype=torch.float32)
        found = ours(input_ids=ids).logits
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, base, atol=1e-2)


def test_adopting_twice_is_one_artifact_and_the_outside_folder_may_change(
    bare: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(capsys, bare, outside)[0] == 0
    assert adopt(capsys, bare, outside)[0] == 0
    assert len(bare.workspace.finished("train")) == 1
    (outside / ADAPTER).write_bytes(b"the tool's next run")
    bare.newest("train").folder("adapter")  # proven: nothing in it is a link to the outside


TOOLS: dict[str, tuple[dict[str, str], str]] = {
    "LLaMA-Factory": ({"trainer_log.jsonl": "{}\n", "README.md": "---\ntags:\n- llama-factory\n- lora\n---\n"}, ""),
    "LLaMA-Factory (log)": ({"trainer_log.jsonl": "{}\n", "all_results.json": "{}"}, "LLaMA-Factory"),
    "ms-swift": ({"args.json": "{}", "additional_config.json": "{}", "README.md": "no head"}, ""),
    "TRL": ({"README.md": "---\nlibrary_name: peft\ntags:\n- trl\n- sft\n---\n", "training_args.bin": "x"}, ""),
    "Unsloth": ({"README.md": '---\ntags:\n- "unsloth"\n- trl\n---\n'}, ""),
    "the Hugging Face Trainer (TRL and others)": ({"trainer_state.json": "{}", "optimizer.pt": "pickle"}, ""),
}


@pytest.mark.parametrize("name", TOOLS)
def test_the_tool_is_recognised_and_its_other_files_are_left_out(outside: Path, name: str) -> None:
    from tunewright.release.foreign import recognise

    written, expected = TOOLS[name]
    for file, text in written.items():
        (outside / file).write_text(text, encoding="utf-8")
    found = recognise(outside)
    assert found.tool == (expected or name) and found.kind == "adapter"
    assert [path.name for path in found.files] == ["adapter_config.json", ADAPTER]


def test_an_output_folder_names_its_checkpoints(shop: Shop, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = outside.parent / "run"
    for step in (20, 100, 60):
        shutil.copytree(outside, run / f"checkpoint-{step}")
    state = {"best_model_checkpoint": "/somewhere/else/run/checkpoint-60"}
    (run / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    code, _, err = adopt(capsys, shop, run)
    assert code == 3 and "its models are in folders below" in err
    assert "checkpoint-20, checkpoint-60, checkpoint-100 (the tool's own best is checkpoint-60)" in err
    assert adopt(capsys, shop, run / "checkpoint-60")[0] == 0


def test_nothing_to_adopt(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no adapter and no model" in adopt(capsys, shop, tmp_path / "empty")[2]
    assert "there is no such folder" in adopt(capsys, shop, tmp_path / "nowhere")[2]
    code, _, err = adopt(capsys, shop, tmp_path / "empty", "extra")
    assert code == 2 and "`adopt` takes one folder, not 2" in err


def test_pickle_files_are_never_opened(shop: Shop, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outside / ADAPTER).rename(outside / "adapter_model.bin")
    code, _, err = adopt(capsys, shop, outside)
    assert code == 3 and "a pickle file, which can run code" in err and "safe_serialization=True" in err
    assert shop.workspace.finished("train") == []


def test_a_cut_file_and_an_unknown_kind(shop: Shop, outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = (outside / ADAPTER).read_bytes()
    (outside / ADAPTER).write_bytes(kept[:4000])
    assert "this is no whole safetensors file" in adopt(capsys, shop, outside)[2]
    (outside / ADAPTER).write_bytes(kept)
    rewrite(outside / "adapter_config.json", lambda value: value | {"peft_type": "LOHA"})
    code, _, err = adopt(capsys, shop, outside)
    assert code == 3 and "the adapter's kind is LOHA" in err


def test_an_adapter_of_another_model_does_not_fit(
    shop: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(str(outside / ADAPTER))
    name = next(name for name in weights if "q_proj.lora_A" in name)
    save_file(weights | {name: torch.zeros(8, 96)}, outside / ADAPTER)
    code, _, err = adopt(capsys, shop, outside)
    assert code == 3
    assert "the adapter of model.layers.0.self_attn.q_proj takes 96 values, the base's layer 64" in err
    save_file(weights | {name.replace("layers.0", "layers.7"): weights[name].clone()}, outside / ADAPTER)
    assert "the base has no layer model.layers.7.self_attn.q_proj" in adopt(capsys, shop, outside)[2]
    save_file(weights | {"base_model.model.model.embed_tokens.weight": torch.zeros(261, 64)}, outside / ADAPTER)
    assert "(261, 64), in the base (259, 64): new tokens were added" in adopt(capsys, shop, outside)[2]


@pytest.mark.parametrize(
    ("named", "code", "said"),
    [
        ("someone/base", 0, ""),
        ("/data/models/base", 0, ""),
        ("/data/models/qwen", 0, "trained on 'qwen', which cannot be compared with base by name"),
        ("", 0, "does not say which base"),
    ],
)
def test_the_base_by_name(
    bare: Shop, outside: Path, capsys: pytest.CaptureFixture[str], named: str, code: int, said: str
) -> None:
    rewrite(outside / "adapter_config.json", lambda value: value | {"base_model_name_or_path": named})
    found, out, err = adopt(capsys, bare, outside)
    assert found == code, err
    assert said in out


def test_two_names_of_a_hub_and_other_weights_on_disk_are_refused(shop: Shop, outside: Path, tmp_path: Path) -> None:
    from tunewright.models import tiny
    from tunewright.release.fit import base_name
    from tunewright.release.foreign import recognise

    rewrite(outside / "adapter_config.json", lambda value: value | {"base_model_name_or_path": "Qwen/Qwen2-7B"})
    model = shop.project.model.model_copy(update={"path": "deepseek-ai/deepseek-llm-7b-chat"})
    assert "trained on Qwen/Qwen2-7B, and the project's base is" in base_name(recognise(outside), model, outside)[0]
    (tmp_path / "other").mkdir()
    tiny.write(tmp_path / "other", seed=8)
    rewrite(outside / "adapter_config.json", lambda v: v | {"base_model_name_or_path": str(tmp_path / "other")})
    wrong, _ = base_name(recognise(outside), shop.project.model, shop.root / "base")
    assert wrong == "it was trained on the weights in other, which are not the base's"


def test_another_tokenizer_is_refused_the_same_one_written_anew_is_not(
    bare: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads((bare.root / "base/tokenizer.json").read_text("utf-8"))
    (outside / "tokenizer.json").write_text(json.dumps(document, indent=7), encoding="utf-8")
    assert adopt(capsys, bare, outside)[0] == 0
    document["added_tokens"].append(document["added_tokens"][0] | {"id": 259, "content": "<tool>"})
    (outside / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    code, _, err = adopt(capsys, bare, outside)
    assert code == 3 and "1 new tokens ('<tool>') and 0 missing ones" in err


def with_template(folder: Path, template: str) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")


def test_a_template_in_other_words_is_the_same_and_another_one_is_refused(
    bare: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = bare.tokenizer.template.source
    with_template(outside, ours.replace("message['role']", "(message.role)") + "{# written anew #}")
    assert adopt(capsys, bare, outside)[0] == 0
    with_template(outside, ours.replace("<|im_end|>\n", "<|im_end|>"))
    code, _, err = adopt(capsys, bare, outside)
    assert code == 3 and "the folder's chat template is not the base's" in err and "--template adopt" in err


def test_the_folders_template_can_be_adopted_and_then_counts(
    bare: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The artifact opens only with a base that has this template, which is written as a linked copy."""
    from tunewright.core.errors import ArtifactError

    other = bare.tokenizer.template.source.replace("<|im_end|>\n", "<|im_end|>")
    with_template(outside, other)
    code, out, err = adopt(capsys, bare, outside, "--template", "adopt")
    assert code == 0, err
    path = next(word for word in out.split() if word.startswith("models/bank/base-")).rstrip(",")
    assert (bare.root / path / "chat_template.jinja").read_text("utf-8") == other
    train, model = bare.newest("train"), bare.project.model
    with pytest.raises(ArtifactError, match="the chat template differs"):
        open_tuned(train, model, bare.root / "base", dtype=torch.float32)
    moved = model.model_copy(update={"path": path})
    assert open_tuned(train, moved, bare.root / path, dtype=torch.float32) is not None
    assert adopt(capsys, bare, outside, "--template", "other")[0] == 2


def test_an_adapter_that_harms_is_sealed_as_not_passed(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_adapter(shop.root / "base", tmp_path / "bad", "zzzzzz", steps=25)
    code, _, err = adopt(capsys, shop, tmp_path / "bad")
    assert code == 5 and ("HARM SHOWN" in err or "NO EFFECT SHOWN" in err)
    assert not shop.newest("train").manifest.passed
    assert adopt(capsys, shop, tmp_path / "bad")[0] == 5, "asking again does not help"


def test_a_whole_model_is_adopted(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model: Any = load_model(shop.root / "base", dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for step in range(25):
        messages = (conversation(step, "x").messages[0], Message(role="assistant", content="fee"))
        row = conversation(step, "x").model_copy(update={"messages": messages})
        example = shop.tokenizer.examples(row, max_length=512)[0]
        model(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path / "whole"
    model.save_pretrained(folder)
    assert "has no tokenizer.json" in adopt(capsys, shop, folder)[2]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shop.root / "base" / name, folder / name)
    code, out, err = adopt(capsys, shop, folder)
    assert code == 0, err
    assert "adopted whole (transformers)" in out
    info = shop.newest("train").json("model.json")
    assert (info["kind"], info["dtype"]) == ("full", "float32")
    shop.evaluate(shop.newest("train"))
    rewrite(folder / "config.json", lambda value: value | {"vocab_size": 300})
    from safetensors.torch import load_file, save_file

    weights = load_file(str(folder / "model.safetensors"))
    key = "model.embed_tokens.weight"
    save_file(weights | {key: torch.zeros(300, 64)}, folder / "model.safetensors", metadata={"format": "pt"})
    assert f"the tensor {key} has the shape (300, 64), in the base (259, 64)" in adopt(capsys, shop, folder)[2]


def test_without_rows_the_loss_is_not_proven_and_that_is_said(
    bare: Shop, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = adopt(capsys, bare, outside)
    assert code == 0 and "its loss was not compared with the base's" in out
    assert bare.newest("train").manifest.inputs == ()
