"""How far a judge agrees with people, from the rating room's export, and that no gate names a judge before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judge_service import BASE, TUNED, Service, judge, longer, place

from tunewright.core.errors import ConfigError
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.metrics.judge import KEY
from tunewright.evaluate.metrics.judge_agreement import read_decided
from tunewright.evaluate.metrics.judge_prompt import Comparison
from tunewright.evaluate.scorer import check_keys, pair_metrics


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


def test_no_gate_before_the_agreement_with_people_is_known(service: Service, tmp_path: Path) -> None:
    def config(primary: str, **options: str) -> EvaluateConfig:
        chosen = {"name": "judge", "address": {"base_url": service.url, "model": "m"}, **options}
        gates = [{"metric": KEY, "when": ">= 0.5"}]
        settings = {"metrics": [{"name": "intent"}, chosen], "primary": primary, "gates": gates}
        return EvaluateConfig.model_validate(settings)

    with pytest.raises(ConfigError, match="agreement with people is not known") as caught:
        check_keys(config(KEY))
    assert caught.value.problem.startswith("evaluate.primary: 'judge.win_rate'")
    assert "\nevaluate.gates.0.metric: 'judge.win_rate'" in caught.value.problem
    assert "rate --export preferences" in caught.value.problem
    check_keys(config("intent.accuracy", agreement="preferences.jsonl"))
    assert list(pair_metrics(config(KEY))) == ["judge"]


def preferences(path: Path, count: int, *, wrong: int = 0) -> Path:
    """Pairs as `rate --export preferences` writes them; people preferred the longer answer, but not in `wrong` ones."""
    rows = []
    for number in range(count):
        long_is_tuned = number % 2 == 0
        answers = {"tuned": "long " * 9 if long_is_tuned else "no", "base": "no" if long_is_tuned else "long " * 9}
        chosen = "tuned" if long_is_tuned != (number < wrong) else "base"
        rejected = "base" if chosen == "tuned" else "tuned"
        lineage = {"kind": "votes", "chosen": chosen, "rejected": rejected, "outcomes": {chosen: 2}}
        rows.append(_preference(number, answers[chosen], answers[rejected], lineage))
    correction = {"kind": "correction", "chosen": "correction by ann", "rejected": "base"}
    rows.append(_preference(count, "Right.", "no", correction))
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def _preference(number: int, chosen: str, rejected: str, lineage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{number}#preferred",
        "prompt": [{"role": "user", "content": f"Rated {number}?"}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "metadata": {"rating": lineage},
    }


def test_the_agreement_with_people_is_measured_on_the_answers_that_they_saw(
    service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 pairs, the judge says the longer one, people say so in 27: agreement 0.9. Kappa by hand: chance is 0.5 where
    the judge halves the pairs and people prefer `tuned` in 14 of 30, so (0.9 - 0.5) / 0.5 = 0.8."""
    service.rule = longer
    preferences(tmp_path / "p.jsonl", 30, wrong=3)
    chosen = judge(service, agreement="p.jsonl")
    (found,) = chosen.measure_pair(BASE[:1], TUNED[:1], place(tmp_path))
    assert "agreement with people:0.900 [0.744, 0.965] of 30 pairs|kappa:0.800 [" in found.signature
    assert found.signature.endswith("|ties of the judge:0") and len(service.seen) == 2 + 60
    assert "judge judge-1: agreement with people:0.900" in capsys.readouterr().err
    chosen.measure_pair(BASE[1:2], TUNED[1:2], place(tmp_path))
    assert len(service.seen) == 64, "the agreement is measured once"


def test_a_judge_with_a_place_it_prefers_agrees_with_nobody(service: Service, tmp_path: Path) -> None:
    preferences(tmp_path / "p.jsonl", 20)
    (found,) = judge(service, agreement="p.jsonl").measure_pair(BASE[:1], TUNED[:1], place(tmp_path))
    assert "agreement with people:0.000 [" in found.signature and "|ties of the judge:20" in found.signature


def test_without_the_file_the_signature_says_that_it_is_not_known(service: Service, tmp_path: Path) -> None:
    (found,) = judge(service).measure_pair(BASE[:1], TUNED[:1], place(tmp_path))
    assert found.signature.endswith("|agreement with people:not known")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        ('{"vote": 1, "item": "a", "outcome": "tuned"}', "line 1 is no decided pair: this is the export of votes"),
        ('{"prompt": []}', "the row lacks 'metadata'"),
        ("{", "line 1 is no decided pair"),
        ("", "has 0 pairs that people decided; 20 are needed"),
    ],
)
def test_an_agreement_file_that_says_nothing_is_refused(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "p.jsonl"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as caught:
        read_decided(path)
    assert caught.value.fix


def test_the_export_of_the_rating_room_is_read(tmp_path: Path) -> None:
    """The real export, from votes that are made here."""
    from tunewright.rating import export
    from tunewright.rating.study import Item, Judgement, Source, Turn, Vote

    items = [
        Item(id=f"i{n}", turns=(Turn(role="user", content=f"Q{n}"),), answers={"base": "b", "tuned": f"t{n}"})
        for n in range(20)
    ]
    votes = [
        Vote(n, "ann", n, f"i{n}", n, None, "tuned", "base", Judgement("left" if n % 4 else "right"), "2026-01-01")
        for n in range(20)
    ]
    source = Source(path="x", sha256="0", systems=("base", "tuned"))
    found, _ = export.preferences(votes, export.Study(items, [source], "f"))
    path = tmp_path / "p.jsonl"
    path.write_text(export.as_jsonl(found), encoding="utf-8")
    decided = read_decided(path)
    assert [pair.preferred for pair in decided] == [0 if n % 4 == 0 else 1 for n in range(20)]
    assert (decided[1].first, decided[1].second) == ("base", "tuned")
    assert decided[1].comparison == Comparison("Q1", "", "b", "t1")
    path.write_text(export.as_jsonl(export.votes(votes)), encoding="utf-8")
    with pytest.raises(ConfigError, match="does not hold the answers"):
        read_decided(path)
