"""lm-evaluation-harness: its recorded output is read, its faults are told, and where it is installed it is run."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from model_kit import corpus
from pydantic import ValidationError

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError, ResourceError
from tunewright.evaluate.metrics.lm_eval import LmEval
from tunewright.evaluate.metrics.lm_eval_results import read_results
from tunewright.evaluate.metrics.model_options import LmEvalOptions
from tunewright.evaluate.scorer import FolderMetric
from tunewright.models.load import load_model
from tunewright.models.row_loss import row_losses
from tunewright.models.tokens import IGNORED, ChatTokenizer, Example

STAMP = "2026-11-26T10-37-00.848719"
RECORDED: dict[str, Any] = {
    "results": {
        "tiny_capital": {"name": "tiny_capital", "alias": "tiny_capital", "sample_len": 3, "acc,none": 2 / 3,
                         "acc_stderr,none": 0.33, "acc_norm,none": 1 / 3, "acc_norm_stderr,none": 0.33},
        "tiny_say": {"name": "tiny_say", "alias": "tiny_say", "sample_len": 2, "exact_match,strict": 0.5,
                     "exact_match_stderr,strict": 0.5, "exact_match,loose": 1.0, "exact_match_stderr,loose": 0.0,
                     "bleu,strict": 12.5, "bleu_stderr,strict": 0.0},
    },
    "groups": {"tiny_both": {"alias": "tiny_both", "name": "tiny_both", "sample_len": 5, "acc,none": 2 / 3,
                             "acc_stderr,none": 0.33, "sample_count": {"acc,none": 3}}},
    "group_subtasks": {"tiny_both": ["tiny_capital", "tiny_say"]},
    "versions": {"tiny_both": "1.0", "tiny_capital": 1.0, "tiny_say": 1.0},
    "n-shot": {"tiny_both": 0, "tiny_capital": 0, "tiny_say": 0},
    "higher_is_better": {"tiny_capital": {"acc": True, "acc_norm": True}, "tiny_say": {"exact_match": True}},
    "config": {"model": "hf", "limit": None},
    "chat_template_sha": "f950548988e5",
    "lm_eval_version": "0.4.13",
}  # fmt: skip
"""The form of a real run of version 0.4.13 on a tiny model with two tasks and a group; numbers and rows shortened."""


def recorded(folder: Path, **changes: Any) -> Path:
    """The files of such a run: the samples stand in any order, and a task with two filters has each row twice."""
    place = folder / "out" / "model"
    place.mkdir(parents=True)
    (place / f"results_{STAMP}.json").write_text(json.dumps(RECORDED | changes))
    capital = [(2, 0.0, 0.0), (0, 1.0, 1.0), (1, 1.0, 0.0)]
    say = [(0, "strict", 0.0), (1, "strict", 1.0), (0, "loose", 1.0), (1, "loose", 1.0)]
    rows = {
        "tiny_capital": [{"doc_id": n, "filter": "none", "acc": acc, "acc_norm": norm} for n, acc, norm in capital],
        "tiny_say": [{"doc_id": n, "filter": f, "exact_match": v, "bleu": ["a", "b"]} for n, f, v in say],
    }
    for task, samples in rows.items():
        text = "".join(json.dumps(one) + "\n" for one in samples)
        (place / f"samples_{task}_{STAMP}.jsonl").write_text(text)
    return folder / "out"


def metric(**options: Any) -> LmEval:
    return LmEval(LmEvalOptions.model_validate({"name": "lm_eval", "tasks": {"tiny_capital": "acc"}, **options}))


def test_a_recorded_run_is_read_row_by_row(tmp_path: Path) -> None:
    tasks = {"tiny_capital": "acc", "tiny_say": "exact_match,strict"}
    capital, say = read_results(recorded(tmp_path), tasks, where="test")
    assert (capital.task, capital.rows, capital.higher_is_better) == ("tiny_capital", [1, 1, 0], True)
    assert say.rows == [0, 1], "the rows of the filter that is named"
    expected = "lm_eval:0.4.13|task:tiny_capital 1.0|metric:acc,none|shots:0|chat template:yes|limit:none"
    assert capital.signature == expected


def test_a_group_is_the_rows_of_its_tasks(tmp_path: Path) -> None:
    (both,) = read_results(recorded(tmp_path), {"tiny_both": "acc"}, where="test")
    assert both.rows == [1, 1, 0] and both.task == "tiny_both"


@pytest.mark.parametrize(
    ("task", "wanted", "reason"),
    [
        ("tiny_say", "exact_match", r"has several results for 'exact_match'"),
        ("tiny_say", "acc", r"has no results for 'acc'"),
        ("tiny_say", "exact_match,other", r"has no results for 'exact_match,other'"),
        ("tiny_say", "bleu,strict", r"'bleu,strict' of 'tiny_say' is no mean over its rows"),
        ("unknown", "acc", r"the task 'unknown' has no results"),
    ],
)
def test_a_metric_that_cannot_be_compared_is_refused(tmp_path: Path, task: str, wanted: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        read_results(recorded(tmp_path), {task: wanted}, where="test")
    assert caught.value.fix.startswith("name one")


def test_damaged_or_missing_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="wrote no results"):
        read_results(tmp_path, {"a": "acc"}, where="test")
    folder = recorded(tmp_path)
    next(folder.rglob("results_*")).write_text("{")
    with pytest.raises(ArtifactError, match="no whole JSON object"):
        read_results(folder, {"a": "acc"}, where="test")


@pytest.mark.parametrize("tasks", [{}, {"": "acc"}, {"a,b": "acc"}, {"--trust_remote_code": "acc"}, {"a": " "}])
def test_names_that_are_no_tasks_are_refused(tasks: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        LmEvalOptions.model_validate({"name": "lm_eval", "tasks": tasks})


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program named lm_eval, first on the PATH."""
    folder.mkdir()
    path = folder / "lm_eval"
    path.write_text(f"#!{sys.executable}\n{body}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_where_it_is_not_installed_the_pip_line_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="lm-evaluation-harness is not installed for") as caught:
        metric(python=_python_without()).check_folder(corpus(tmp_path))
    assert "-m pip install 'lm_eval[hf]'" in caught.value.fix
    with pytest.raises(ConfigError, match="there is no program 'no-such-python'"):
        metric(python="no-such-python").check_folder(corpus(tmp_path))


def _python_without() -> str:
    """This Python, unless the harness is installed for it."""
    if find_spec("lm_eval") is not None:
        pytest.skip("lm_eval is installed here")
    return sys.executable


def test_a_missing_folder_of_tasks_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", monkeypatch, "")
    with pytest.raises(ConfigError, match="there is no such folder"):
        metric(include_path="tasks").check_folder(corpus(tmp_path))
    metric().check_folder(corpus(tmp_path))
    assert isinstance(metric(), FolderMetric)


def test_what_it_is_called_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder's name has a comma, which the harness would cut its arguments at."""
    program(tmp_path / "bin", monkeypatch, "import sys, os, json\nprint(json.dumps([sys.argv[1:], os.getcwd()]))\n"
            "print(os.listdir(sys.argv[4].split('=')[1]), file=sys.stderr)\nraise SystemExit(3)")  # fmt: skip
    (tmp_path / "tasks").mkdir()
    model = tmp_path / "a,b=c"
    model.mkdir()
    (model / "config.json").touch()
    chosen = metric(include_path="tasks", num_fewshot=2, limit=5, tasks={"a": "acc", "b": "acc"})
    with pytest.raises(ArtifactError, match="ended with exit code 3") as caught:
        chosen.measure_folder(model, corpus(tmp_path))
    _, called, listed = caught.value.problem.split("\n")
    words, folder = json.loads(called)
    assert folder == str(tmp_path) and listed == "['config.json']"
    assert words[:3] == ["--model", "hf", "--model_args"] and "," not in words[3]
    assert words[4:6] == ["--tasks", "a,b"] and words[8:10] == ["--log_samples", "--apply_chat_template"]
    assert words[10:] == [
        *("--num_fewshot", "2", "--limit", "5", "--batch_size", "4"),
        *("--include_path", str(tmp_path / "tasks")),
    ]


def test_it_may_not_take_longer_than_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", monkeypatch, "import time\ntime.sleep(60)")
    with pytest.raises(ResourceError, match=r"took more than 0\.2 s"):
        metric(timeout_s=0.2).measure_folder(tmp_path, corpus(tmp_path))


TASK = """
task: tiny_capital
dataset_path: json
dataset_kwargs: {data_files: {test: capital.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
metadata: {version: 1.0}
"""
CHOICES = ["Paris", "Rome", "Oslo"]


@pytest.mark.slow
def test_a_real_run_agrees_with_our_own_loss(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of our own on a local file: right is the choice with the smallest loss behind the same prompt."""
    if shutil.which("lm_eval") is None and find_spec("lm_eval") is None:
        pytest.skip("lm-evaluation-harness is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows: list[dict[str, Any]] = [{"question": f"Q{n}: which?", "choices": CHOICES, "answer": n % 3} for n in range(12)]
    (tmp_path / "capital.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "capital.yaml").write_text(TASK)
    chosen = metric(include_path="tasks")
    chosen.check_folder(corpus(tmp_path))
    (found,) = chosen.measure_folder(tiny, corpus(tmp_path))
    assert found.metric == "lm_eval.tiny_capital" and found.yes_no and found.higher_is_better
    expected = [_best(tiny, row["question"]) == row["answer"] for row in rows]
    assert found.statistics[:, 0].tolist() == [float(right) for right in expected]
    assert 0 < found.value < 1 and "|metric:acc,none|shots:0|chat template:yes|limit:none" in found.signature


def _best(folder: Path, question: str) -> int:
    tokenizer = ChatTokenizer.load(folder)
    prompt = tokenizer.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
    answers = [tokenizer.encode(choice) for choice in CHOICES]
    examples = [Example((*prompt, *ids), (*[IGNORED] * len(prompt), *ids)) for ids in answers]
    losses = row_losses(load_model(folder, dtype=torch.float32), examples)
    return losses.index(min(losses))
