"""The evaluate stage on builtin:tiny, with data and train artifacts made here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError, GateError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.core.scoring import mcnemar, wilson
from tunewright.evaluate import stage
from tunewright.evaluate.answers import choose_labels, label_ids
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.table import table
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.models.tuned import open_tuned

MODEL = ModelConfig(path="builtin:tiny", dtype="float32")
LABELS = ["card_lost", "fee", "pin_reset"]
LEARNED = "fee"
QUESTIONS = ["My card is gone", "What does it cost?", "卡丢了", "密码忘了怎么办", "new pin please", "why was I charged"]


def _row(index: int, label: str, *, answer: str | None = None) -> Conversation:
    messages = (
        Message(role="user", content=f"{QUESTIONS[index % len(QUESTIONS)]} {index}"),
        Message(role="assistant", content=answer or label),
    )
    metadata = {"intent": label, "task": "answer" if answer else "intent"}
    return Conversation(id=f"row:{index}", messages=messages, metadata=metadata)


TRAINING = [_row(100 + index, LABELS[index % 3]) for index in range(6)]
TEST = [_row(index, LABELS[index % 3]) for index in range(9)] + [
    _row(9, "fee", answer="There is no fee."),
    _row(10, "fee", answer="年费可以减免。"),
]
CONFIG: dict[str, Any] = {
    "metrics": [
        {"name": "intent", "where": {"metadata.task": "intent"}},
        {"name": "bleu", "where": {"metadata.task": "answer"}},
        {"name": "rouge"},
        {"name": "latency", "new_tokens": 4, "repeats": 2},
    ],
    "max_new_tokens": 8,
}


def _sealed(output: Output | Artifact) -> Artifact:
    assert isinstance(output, Output)
    return output.seal()


def _data(workspace: Workspace) -> Artifact:
    output = begin(workspace, "data", {}, ())
    assert isinstance(output, Output)
    files.write_jsonl(output.path / "train.jsonl", [row.to_row() for row in TRAINING])
    files.write_jsonl(output.path / "test.jsonl", [row.to_row() for row in TEST])
    return _sealed(output)


def _train(workspace: Workspace, folder: Path, tokenizer: ChatTokenizer) -> Artifact:
    """A LoRA adapter that has learned to answer LEARNED, whatever is asked."""
    from peft import LoraConfig, get_peft_model

    output = begin(workspace, "train", {}, ())
    assert isinstance(output, Output)
    torch.manual_seed(7)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = load_model(folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=32, target_modules=layers, task_type="CAUSAL_LM"))
    adapted.train()
    optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=1e-3)
    for step in range(200):
        example = tokenizer.examples(_row(step, LEARNED), max_length=512)[0]
        loss = adapted(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(str(output.path / "adapter"))
    info = ModelInfo(
        kind="adapter",
        base=MODEL.path,
        base_revision=MODEL.revision,
        base_sha256=source.weights_sha256(folder),
        method="lora",
        dtype="float32",
        bits=32,
        chat_template_sha256=tokenizer.template.sha256,
        max_length=512,
    )
    files.write_json(output.path / "model.json", info.model_dump())
    return _sealed(output)


class Made:
    """Everything the tests share: a workspace with data and train artifacts."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root, "demo")
        self.folder = source.resolve(MODEL, root)
        self.tokenizer = ChatTokenizer.load(self.folder)
        self.data = _data(self.workspace)
        self.train = _train(self.workspace, self.folder, self.tokenizer)

    def run(self, **changes: Any) -> Artifact:
        config = EvaluateConfig.model_validate(CONFIG | changes)
        return stage.run(self.workspace, config, model=MODEL, seed=7, data=self.data, train=self.train)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads only slow tiny matrices down
    yield Made(tmp_path_factory.mktemp("project"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def artifact(made: Made) -> Artifact:
    return made.run(gates=[{"metric": "intent.accuracy", "when": ">= base + 0.3"}])


def test_the_tuned_model_scores_what_it_has_learned(artifact: Artifact) -> None:
    """It answers `fee` always, so exactly the three `fee` rows of nine are right."""
    scores = artifact.json("scores.json")
    base, tuned, paired = (scores[part]["intent.accuracy"] for part in ("base", "tuned", "paired"))
    assert (base["value"], tuned["value"], tuned["n"]) == (0, pytest.approx(3 / 9), 9)
    assert (tuned["low"], tuned["high"]) == pytest.approx(wilson(3, 9))
    assert paired["difference"] == pytest.approx(3 / 9) and paired["n"] == 9
    assert paired["p"] == pytest.approx(mcnemar([True] * 3, [False] * 3)) == 0.25
    assert paired["test"] == "McNemar" and paired["verdict"] == "no difference shown (p 0.25)"
    assert scores["tuned"]["intent_choice.accuracy"]["value"] == pytest.approx(3 / 9)
    assert scores["tuned"]["intent.unparseable"]["value"] == 0 and scores["base"]["intent.unparseable"]["value"] == 1
    assert scores["tuned"]["intent.macro_f1"]["value"] == pytest.approx((2 * 3 / (3 + 9)) / 3)
    assert scores["gates"][0]["passed"] and artifact.manifest.passed
    assert scores["primary"] == "intent.accuracy"


def test_every_metric_has_base_tuned_and_paired_numbers(artifact: Artifact) -> None:
    scores = artifact.json("scores.json")
    keys = set(scores["tuned"])
    assert keys == set(scores["base"]) == set(scores["paired"])
    assert keys >= {"bleu", "rouge1", "rouge2", "rougeL", "latency.p50_s", "latency.tokens_per_second"}
    assert (scores["tuned"]["bleu"]["n"], scores["tuned"]["rouge1"]["n"], scores["tuned"]["latency.p50_s"]["n"]) == (
        2,
        11,
        2,
    )
    assert 0 < scores["tuned"]["latency.first_token_s"]["value"] <= scores["tuned"]["latency.p50_s"]["value"]
    assert scores["paired"]["latency.p50_s"]["test"] == "permutation"
    assert scores["tuned"]["rouge1"]["floor"] is not None and scores["tuned"]["latency.p50_s"]["floor"] is None
    assert scores["notes"]["base"]["rows_with_labels_in_prompt"] == 9
    assert scores["notes"]["tuned"]["rows_with_labels_in_prompt"] == 0
    assert "labels in prompt:yes" in scores["base"]["intent.accuracy"]["signature"]
    assert "labels in prompt:no" in scores["tuned"]["intent.accuracy"]["signature"]


def test_samples_stand_side_by_side(artifact: Artifact) -> None:
    rows = artifact.jsonl("samples.jsonl")
    assert [row["id"] for row in rows] == [row.id for row in TEST]
    assert [row["tuned"] for row in rows[:9]] == [LEARNED] * 9
    assert [row["tuned_right"] for row in rows] == [row.reference == LEARNED for row in TEST[:9]] + [None, None]
    assert {row["base_right"] for row in rows[:9]} == {False}
    assert rows[0]["prompt"] == "My card is gone 0" and rows[9]["reference"] == "There is no fee."
    assert rows[0]["metadata"] == TEST[0].metadata
    facts = artifact.manifest.facts
    assert facts["tuned"] == pytest.approx(3 / 9) and facts["rows"] == 11 and facts["seconds"] > 0


def test_base_answers_are_those_of_transformers(made: Made, artifact: Artifact) -> None:
    """An answer row (no labels shown) through transformers' own greedy generate."""
    model = load_model(made.folder, dtype=torch.float32)
    ids = made.tokenizer.prompt_ids(TEST[9].prompt)
    output = model.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :].tolist()
    if made.tokenizer.end_ids & set(output):
        output = output[: next(i for i, token in enumerate(output) if token in made.tokenizer.end_ids)]
    assert artifact.jsonl("samples.jsonl")[9]["base"] == made.tokenizer.decode(output).strip()


def test_the_table_shows_both_and_the_gate(artifact: Artifact) -> None:
    lines = table(artifact.json("scores.json")).splitlines()
    assert lines[0].split() == ["metric", "base", "tuned", "n", "tuned", "-", "base", "p", "verdict"]
    row = next(line for line in lines if line.startswith("intent.accuracy *"))
    assert "0.000 [0.000, 0.299]" in row and "0.333 [0.121, 0.646]" in row  # Wilson for 0 and 3 of 9
    assert "+0.333 [" in row and row.endswith("0.25  no difference shown")
    assert lines[-1].startswith("gate passed: intent.accuracy is 0.3333")


def test_a_second_run_does_nothing(made: Made, artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    again = made.run(gates=[{"metric": "intent.accuracy", "when": ">= base + 0.3"}])
    assert again.path == artifact.path
    assert "nothing to do" in capsys.readouterr().err


def test_a_failed_gate_is_sealed_and_raised_every_time(made: Made, artifact: Artifact) -> None:
    gates = [
        {"metric": "intent.accuracy", "when": ">= base + 0.3", "significant": True, "undecidable": "warn"},
        {"metric": "intent.unparseable", "when": "<= base"},
        {"metric": "bleu", "when": ">= 99", "on": ["quantized"]},
    ]
    metrics = CONFIG["metrics"][:3]
    for _ in range(2):
        with pytest.raises(GateError, match=r"1 of 2 gates did not pass\n.*not shown \(\+0\.3333, p 0\.25") as caught:
            made.run(gates=gates, metrics=metrics)
        assert caught.value.exit_code == 5
    failed = [a for a in made.workspace.finished("evaluate") if not a.manifest.passed]
    assert len(failed) == 1
    assert json.loads((failed[0].path / "manifest.json").read_text())["passed"] is False
    assert [gate["passed"] for gate in failed[0].json("scores.json")["gates"]] == [False, True]
    assert made.workspace.newest("evaluate").path == artifact.path


def test_max_rows_draws_with_the_seed(made: Made) -> None:
    found = made.run(metrics=[{"name": "rouge"}], primary="rougeL", max_rows=4)
    ids = [row["id"] for row in found.jsonl("samples.jsonl")]
    assert len(ids) == 4 and ids == sorted(ids, key=lambda name: int(name.split(":")[1]))
    assert found.json("scores.json")["tuned"]["rougeL"]["n"] == 4
    assert {row["tuned_right"] for row in found.jsonl("samples.jsonl")} == {None}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"primary": "accuracy"}, "no chosen metric produces 'accuracy'"),
        ({"metrics": [{"name": "intent", "label": "metadata.topic"}]}, "no training row has a label"),
        ({"metrics": [{"name": "bleu", "where": {"metadata.task": "x"}}], "primary": "bleu"}, "applies to none"),
        ({"max_new_tokens": 512}, "leave 0 of the model's 512"),
    ],
)
def test_wrong_settings_end_in_one_sentence(made: Made, changes: dict[str, Any], problem: str) -> None:
    before = len(made.workspace.finished("evaluate"))
    with pytest.raises(ConfigError, match=problem):
        made.run(**changes)
    assert len(made.workspace.finished("evaluate")) == before


def test_label_ids_are_the_tokens_that_training_sees(made: Made) -> None:
    tokenizer = made.tokenizer
    for label in (*LABELS, "挂失"):
        prompt = (Message(role="system", content="s"), Message(role="user", content="a question"))
        whole = tokenizer.messages_ids((*prompt, Message(role="assistant", content=label)))
        rest = whole[len(tokenizer.prompt_ids(prompt)) :]
        ids = list(label_ids(tokenizer, label))
        assert rest[: len(ids)] == ids and ids[-1] in tokenizer.end_ids
        assert tokenizer.decode(ids) == label


def test_constrained_choice_is_the_brute_force_one(made: Made) -> None:
    """Every label scored whole. Labels of one length: a random model always prefers short ones."""
    model = load_model(made.folder, dtype=torch.float32)
    labels = ["aaaaaa", "cards_", "card_x", "feefee", "挂失", "zz top"]
    answers = [list(label_ids(made.tokenizer, label)) for label in labels]
    assert {len(answer) for answer in answers} == {7}
    prompts = [made.tokenizer.prompt_ids(row.prompt) for row in TEST]
    chosen = choose_labels(model, made.tokenizer, prompts, labels, batch_size=4, name="test")
    for prompt, choice in zip(prompts, chosen, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + answer for answer in answers])).logits
        steps = logits[:, len(prompt) - 1 : -1].float().log_softmax(-1)
        totals = steps.gather(2, torch.tensor(answers)[:, :, None]).sum((1, 2))
        assert choice == labels[int(totals.argmax())]


def test_constrained_choice_follows_what_was_learned(made: Made) -> None:
    """The tuned model prefers what it has learned over every other label."""
    tuned = open_tuned(made.train, MODEL, made.folder, dtype=torch.float32)
    prompts = [made.tokenizer.prompt_ids(row.prompt) for row in TEST]
    assert choose_labels(tuned, made.tokenizer, prompts, ["abc", "xyz", LEARNED], batch_size=4, name="t") == (
        [LEARNED] * len(TEST)
    )


def test_changed_weights_are_refused_before_anything_is_answered(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from tunewright.core.errors import ArtifactError

    copied = tmp_path / "train"
    shutil.copytree(made.train.path, copied)
    weights = copied / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    config, changed = EvaluateConfig.model_validate(CONFIG), Artifact.open(copied)
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors: this file was changed"):
        stage.run(made.workspace, config, model=MODEL, seed=7, data=made.data, train=changed)
    assert "opening" not in capsys.readouterr().err
