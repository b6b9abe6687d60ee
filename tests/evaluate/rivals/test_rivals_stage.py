"""The evaluate stage with rivals: same rows, same metrics, paired differences, and the sentence that stands first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rivals_kit import LABELS, TEST, Knowing, Project

from tunewright.core.errors import ArtifactError, ConfigError, GateError
from tunewright.core.runs import Artifact
from tunewright.core.scoring import mcnemar, wilson
from tunewright.evaluate.table import table

GATE = {"metric": "intent.accuracy", "when": ">= base + 0.1"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads only slow tiny matrices down
    yield Project(tmp_path_factory.mktemp("project"))
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def service() -> Iterator[Knowing]:
    running = Knowing()
    yield running
    running.close()


def rivals(service: Knowing, folder: Path) -> list[dict[str, Any]]:
    return [
        {"name": "few_shot", "examples": 3},
        {"name": "tfidf"},
        {"name": "embedding", "path": str(folder), "title": "tiny vectors"},
        {
            "name": "http",
            "endpoint": {"base_url": service.url, "model": "big"},
            "price_input": 2.0,
            "price_output": 10.0,
            "currency": "EUR",
        },
    ]


@pytest.fixture(scope="module")
def artifact(project: Project, service: Knowing) -> Artifact:
    return project.evaluate(gates=[GATE], rivals=rivals(service, project.folder))


def test_every_rival_has_scores_and_paired_differences(artifact: Artifact) -> None:
    scores = artifact.json("scores.json")
    found = {rival["name"]: rival for rival in scores["rivals"]}
    assert [(rival["name"], rival["kind"]) for rival in scores["rivals"]] == [
        ("few_shot", "few_shot"),
        ("tfidf", "tfidf"),
        ("tiny vectors", "embedding"),
        ("big", "http"),
    ]
    for rival in scores["rivals"]:
        score = rival["scores"]["intent.accuracy"]
        assert score["n"] == 12 and score["floor"] is not None and score["signature"] and score["low"] <= score["high"]
        assert rival["paired"]["intent.accuracy"]["n"] == 12 and rival["seconds_per_answer"] > 0
        assert set(rival["paired"]) == set(rival["scores"]) <= set(scores["tuned"])
    assert set(found["few_shot"]["scores"]) == set(scores["tuned"]), "the base can all that the tuned model can"
    assert "rougeL" not in found["tfidf"]["scores"], "it has not answered all the rows of that metric"
    assert {"bleu", "rougeL"} <= set(found["big"]["scores"]) and "intent_choice.accuracy" not in found["big"]["scores"]
    assert found["few_shot"]["scores"]["bleu"]["n"] == 3


def test_numbers_are_those_of_the_answers(artifact: Artifact) -> None:
    """The endpoint knows every label, the tuned model answers `fee` always: 12 of 12 against 4 of 12."""
    scores = artifact.json("scores.json")
    big = next(rival for rival in scores["rivals"] if rival["name"] == "big")
    score, paired = big["scores"]["intent.accuracy"], big["paired"]["intent.accuracy"]
    assert scores["tuned"]["intent.accuracy"]["value"] == pytest.approx(4 / 12)
    assert score["value"] == 1.0 and (score["low"], score["high"]) == pytest.approx(wilson(12, 12))
    assert paired["difference"] == pytest.approx(-8 / 12) and (paired["gained"], paired["lost"]) == (0, 8)
    assert paired["p"] == pytest.approx(mcnemar([False] * 8, [True] * 8)) and paired["verdict"].startswith("worse")
    assert score["floor"] < 1.0 and score["signature"].endswith("|endpoint:big")
    assert big["cost_per_thousand"] == pytest.approx((100 * 2 + 10 * 10) / 1e6 * 1000) and big["currency"] == "EUR"
    tfidf = next(rival for rival in scores["rivals"] if rival["name"] == "tfidf")
    assert tfidf["scores"]["intent.accuracy"]["value"] == 1.0, "the questions of a label are alike"
    assert tfidf["cost_per_thousand"] is None and tfidf["notes"]["training_rows"] == 24
    assert scores["notes"]["tuned"]["seconds_per_answer"] > 0


def test_a_cheaper_rival_stands_first_and_the_gate_does_not_care(artifact: Artifact) -> None:
    scores = artifact.json("scores.json")
    assert scores["cheaper_rival"]["name"] == "tfidf"
    text = table(scores)
    assert text.splitlines()[0] == scores["cheaper_rival"]["sentence"]
    assert text.startswith("A cheaper rival is better: tfidf needs no chat model and no GPU and has 1.000")
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("few_shot", "tfidf", "tiny", "big"))] == (
        ["few_shot", "tfidf", "tiny", "big"]
    )
    assert "0.3 EUR" in text and scores["gates"][0]["passed"] and artifact.manifest.passed


def test_samples_have_what_each_rival_said(artifact: Artifact) -> None:
    rows = artifact.jsonl("samples.jsonl")
    assert [row["id"] for row in rows] == [row.id for row in TEST]
    assert all(row["rivals"]["big"] == row["metadata"]["intent"] for row in rows[:12])
    assert all(set(row["rivals"]) == {"few_shot", "tfidf", "tiny vectors", "big"} for row in rows[:12])
    assert all(set(row["rivals"]) == {"few_shot", "big"} for row in rows[12:]), "classifiers answer intents only"
    assert {row["rivals"]["tiny vectors"] for row in rows[:12]} <= set(LABELS)


def test_another_gate_asks_nobody_again(
    project: Project, service: Knowing, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    before = service.asked
    again = project.evaluate(gates=[GATE | {"when": ">= base + 0.2"}], rivals=rivals(service, project.folder))
    said = capsys.readouterr().err
    assert service.asked - before == 8, "for the seconds an answer takes, which are of now"
    assert "15 of 15 answers of base were made before" in said and "15 of 15 answers of big were made before" in said
    assert again.path != artifact.path
    assert again.jsonl("samples.jsonl") == artifact.jsonl("samples.jsonl")
    one, two = again.json("scores.json"), artifact.json("scores.json")
    assert (one["base"], one["tuned"], one["paired"]) == (two["base"], two["tuned"], two["paired"])
    timed = ("seconds_per_answer", "notes")
    assert [{k: v for k, v in rival.items() if k not in timed} for rival in one["rivals"]] == [
        {k: v for k, v in rival.items() if k not in timed} for rival in two["rivals"]
    ]


def test_without_the_cache_the_numbers_are_the_same(project: Project, artifact: Artifact) -> None:
    project.evaluate(gates=[GATE])
    fresh = project.evaluate(gates=[GATE], cache=False)
    rows = [{key: value for key, value in row.items() if key != "rivals"} for row in artifact.jsonl("samples.jsonl")]
    assert fresh.jsonl("samples.jsonl") == rows
    scores = fresh.json("scores.json")
    assert scores["tuned"] == artifact.json("scores.json")["tuned"] and scores["cheaper_rival"] is None
    assert "s/answer" not in table(scores) and scores["rivals"] == []


def test_a_gate_that_fails_is_still_decided_by_the_models_alone(project: Project, service: Knowing) -> None:
    gate = {"metric": "intent.accuracy", "when": ">= 0.9"}
    with pytest.raises(GateError, match="did not pass"):
        project.evaluate(gates=[gate], rivals=rivals(service, project.folder)[1:2])


@pytest.mark.parametrize(
    ("changes", "kind", "problem", "where"),
    [
        ({"rivals": [{"name": "tfidf"}] * 2}, ConfigError, "another system named 'tfidf'", "evaluate.rivals.1"),
        ({"rivals": [{"name": "tfidf", "title": "base"}]}, ConfigError, "named 'base'", "evaluate.rivals.0"),
        (
            {"rivals": [{"name": "tfidf"}], "metrics": [{"name": "rouge"}], "primary": "rougeL"},
            ConfigError,
            "no intent metric is chosen",
            "evaluate.rivals.0",
        ),
        ({"rivals": [{"name": "embedding", "path": "nowhere"}]}, ArtifactError, "no config.json", "evaluate.rivals.0"),
        (
            {
                "rivals": [
                    {"name": "http", "endpoint": {"base_url": "http://x/v1", "model": "m", "api_key_env": "NO_SUCH"}}
                ]
            },
            ConfigError,
            "variable NO_SUCH is not set",
            "evaluate.rivals.0",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_answered(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    kind: type[Any],
    problem: str,
    where: str,
) -> None:
    with pytest.raises(kind, match=problem) as caught:
        project.evaluate(**changes)
    assert caught.value.where.startswith(where) and "opening" not in capsys.readouterr().err


def test_no_key_stands_in_the_artifact(project: Project, service: Knowing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "sk-very-secret-1")
    chosen = rivals(service, project.folder)[3:]
    chosen[0]["endpoint"]["api_key_env"] = "MY_API_KEY"
    found = project.evaluate(rivals=chosen, max_rows=14)
    everything = [path for path in project.root.rglob("*") if path.is_file()]
    assert not any(b"sk-very-secret-1" in path.read_bytes() for path in everything)
    assert json.loads((found.path / "plan.json").read_text())["config"]["evaluate"]["rivals"][0]["endpoint"][
        "api_key_env"
    ] == ("MY_API_KEY")
