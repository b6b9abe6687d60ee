"""The training's effect on the page: every verdict is said, none of them quietly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_artifacts import TRAIN_FACTS, curve, everything, seal

from tunewright.report.effect import effect_view
from tunewright.report.stage import run


def effect(verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "text": f"{verdict}: on 24 held-out rows <b>as they are served</b>.",
        "rows": 24,
        "left_out": 0,
        "tokens": 210,
        "base": 2.5,
        "tuned": 1.25,
        "random": 2.75,
        "min_standard_errors": 2.0,
        "against_base": {"difference": -1.25, "standard_error": 0.125, "z": -10.0},
        "against_random": {"difference": -1.5, "standard_error": 0.125, "z": -12.0},
        **more,
    }


@pytest.mark.parametrize(
    ("verdict", "tone", "title"),
    [
        ("effect", "better", "▲ The saved weights have an effect"),
        ("no effect shown", "even", "＝ No effect shown"),
        ("harm shown", "worse", "▼ Harm shown: the tuned model is worse than the base"),
        ("too few rows to tell", "even", "? Too few held-out rows to tell"),
    ],
)
def test_every_verdict_stands_on_the_page(tmp_path: Path, verdict: str, tone: str, title: str) -> None:
    workspace, artifacts = everything(tmp_path)
    facts = {**TRAIN_FACTS, "effect": effect(verdict)}
    contents = {"curve.json": curve()}
    train = seal(workspace, "train", [artifacts["data"]], contents, facts=facts, config={"with": verdict})
    html = run(workspace, project_file_name="bank.yaml", **{**artifacts, "train": train}).file("report.html")
    page = html.read_text(encoding="utf-8")
    assert f'<div class="verdict {tone}" id="effect">\n<strong>{title}</strong>' in page
    assert "&lt;b&gt;as they are served&lt;/b&gt;" in page
    assert (
        '<tr><th scope="row">base</th><td class="n">2.5000</td><td class="n">-1.2500</td><td class="n">-10.0</td>'
        in page
    )


def test_an_artifact_without_the_measure_has_no_such_part(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    page = run(workspace, project_file_name="bank.yaml", **artifacts).file("report.html").read_text(encoding="utf-8")
    assert 'id="effect"' not in page
    assert effect_view(None) is None and effect_view({"method": "lora"}) is None


def test_rows_that_were_left_out_are_said() -> None:
    view = effect_view({"effect": effect("effect", left_out=3)})
    assert view is not None
    assert view.note.endswith("from 2 standard errors on. 3 rows were left out: their prompt is too long to be served.")
    assert view.rows[2] == ("tuned, as saved", "1.2500", "", "")
