"""All metrics of the model itself together, over the systems of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from judge_service import Service, longer
from model_kit import learned, row

from tunewright.core.errors import ConfigError, MissingExtraError
from tunewright.core.scoring import Sample, compare
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.of_model import OfModel, named_files, of_model
from tunewright.evaluate.systems.local import LocalModel
from tunewright.evaluate.systems.open import in_memory
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

TRAINING = [row(str(n), f"Question {n}?", f"The answer is {n}, as always.") for n in range(4)]
TEST = [row(f"t{n}", f"Question {n + 9}?", f"The answer is {n + 9}, as always.") for n in range(5)]


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    made.rule = longer
    yield made
    made.close()


def chosen(root: Path, metrics: list[dict[str, Any]], **settings: Any) -> OfModel:
    config = EvaluateConfig.model_validate({"metrics": [{"name": "bleu"}, *metrics], "primary": "bleu", **settings})
    return of_model(config, TEST, TRAINING, seed=7, root=root)


def system(tiny: Path, name: str, model: Any) -> LocalModel:
    tokenizer = ChatTokenizer.load(tiny)
    return in_memory(model, tokenizer, name=name, kind="base" if name == "base" else "merged", max_length=400)


def answers(text: str) -> list[Sample]:
    return [Sample(id=one.id, prompt="Q", prediction=text, reference=one.reference) for one in TEST]


def test_base_and_tuned_are_paired_and_listed(tiny: Path, tmp_path: Path, service: Service) -> None:
    general = {"prompt": "Hi", "completion": "Hello."}
    (tmp_path / "general.jsonl").write_text(f"{json.dumps(general)}\n" * 2)
    address = {"base_url": service.url, "model": "judge-1"}
    metrics: list[dict[str, Any]] = [
        {"name": "perplexity"},
        {"name": "forgetting", "path": "general.jsonl"},
        {"name": "memorization", "prefix_tokens": 3, "continuation_tokens": 12},
        {"name": "judge", "address": address},
    ]
    made = chosen(tmp_path, metrics, max_rows=3)
    base = system(tiny, "base", load_model(tiny, dtype=torch.float32))
    tuned = system(tiny, "tuned", learned(tiny, TRAINING, steps=60))
    before, after = ({one.metric: one for one in made.measure(candidate)} for candidate in (base, tuned))
    pairs = made.measure_pairs({"base": answers("no"), "tuned": answers("much longer")})
    before |= {one.metric: one for one in pairs["base"]}
    after |= {one.metric: one for one in pairs["tuned"]}
    foreseen = made.foresee(TEST)
    assert list(before) == list(after) == [one.metric for one in foreseen]
    assert [len(one.statistics) for one in foreseen] == [len(one.statistics) for one in after.values()]
    assert len(after["loss.heldout"].statistics) == 3, "max_rows"
    changes = {key: compare(after[key], before[key], seed=7).difference for key in after}
    assert changes["loss.heldout"] < -0.5 and changes["memorization.common_prefix"] > 3
    assert changes["judge.win_rate"] == 0.5 and after["judge.win_rate"].value == 1
    listed = made.listed(["base", "tuned"])
    assert list(listed) == ["memorization.json", "judge.json"]
    assert listed["memorization.json"] == {"base": [], "tuned": []}
    assert [one["outcome"] for one in listed["judge.json"]["tuned"]] == ["win"] * 5


def test_nothing_chosen_opens_no_model(tmp_path: Path) -> None:
    made = chosen(tmp_path, [])

    def refuse() -> Any:
        raise AssertionError("nothing needs the model")

    closed = LocalModel.__new__(LocalModel)
    closed.load = refuse
    assert made.measure(closed) == [] and made.measure_folder(closed, home=tmp_path, beside=tmp_path) == []
    assert made.foresee(TEST) == [] and made.listed(["base"]) == {} and made.folder_keys == []
    assert made.measure_pairs({"base": answers("a")}) == {"base": []}


def test_what_is_missing_is_found_before_a_model_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="the general set"):
        chosen(tmp_path, [{"name": "forgetting", "path": "none.jsonl"}]).foresee(TEST)
    monkeypatch.setenv("PATH", str(tmp_path))
    harness = chosen(tmp_path, [{"name": "lm_eval", "tasks": {"gsm8k": "exact_match"}}])
    assert harness.folder_keys == ["lm_eval.gsm8k"]
    try:
        harness.foresee(TEST)
    except MissingExtraError as error:
        assert "pip install" in error.fix
    else:
        pytest.skip("lm_eval is installed here")


def test_files_that_decide_a_number_are_known_by_their_content(tmp_path: Path) -> None:
    address = {"base_url": "http://127.0.0.1:9/v1", "model": "m"}
    metrics = [
        {"name": "perplexity", "path": "text.txt"},
        {"name": "forgetting", "path": "general.jsonl"},
        {"name": "judge", "address": address, "agreement": "none.jsonl"},
    ]
    config = EvaluateConfig.model_validate({"metrics": metrics})
    (tmp_path / "text.txt").write_text("a")
    (tmp_path / "general.jsonl").write_text("b")
    found = named_files(config, tmp_path)
    assert list(found) == ["text.txt", "general.jsonl", "none.jsonl"] and found["none.jsonl"] == ""
    (tmp_path / "text.txt").write_text("c")
    changed = named_files(config, tmp_path)
    assert [name for name in found if found[name] != changed[name]] == ["text.txt"]
    assert named_files(EvaluateConfig(), tmp_path) == {}


def test_another_program_gets_the_tuned_weights_and_they_are_gone_afterwards(tiny: Path, tmp_path: Path) -> None:
    """A metric that reads the folder like another program would."""
    seen: dict[str, tuple[Path, torch.Tensor]] = {}

    class Reads:
        def check_folder(self, corpus: Any) -> None:
            """Nothing is missing."""

        def measure_folder(self, folder: Path, corpus: Any) -> list[Any]:
            ChatTokenizer.load(folder)
            opened = load_model(folder, dtype=torch.float32)
            seen[corpus.system] = (folder, opened.model.embed_tokens.weight.detach().clone())
            return []

    made = chosen(tmp_path, [])
    made = OfModel(**{**made.__dict__, "of_folder": {"reads": Reads()}})
    assert made.folder_keys == [], "it is in no project file"
    weights = learned(tiny, TRAINING[:1], steps=2)
    for candidate in (system(tiny, "base", load_model(tiny, dtype=torch.float32)), system(tiny, "tuned", weights)):
        made.measure_folder(candidate, home=tiny, beside=tmp_path)
    assert seen["base"][0] == tiny and seen["tuned"][0].parent == tmp_path and not seen["tuned"][0].exists()
    assert torch.equal(seen["tuned"][1], weights.model.embed_tokens.weight)
    assert not torch.equal(seen["tuned"][1], seen["base"][1])
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_that_stays_beside_the_base_has_no_folder(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = chosen(tmp_path, [{"name": "lm_eval", "tasks": {"gsm8k": "exact_match"}}])
    beside = in_memory(None, ChatTokenizer.load(tiny), name="tuned", kind="adapter", max_length=400)
    assert made.measure_folder(beside, home=tiny, beside=tmp_path) == []
    assert "the tuned model has no folder of whole weights, so lm_eval cannot measure it" in capsys.readouterr().err
