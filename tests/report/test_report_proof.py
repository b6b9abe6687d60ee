"""The proof chain on the page, from what the chain itself writes; and which chain belongs to a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report_artifacts import everything, score, seal
from test_report_page import checked

from tunewright.chain.agree import Agreement
from tunewright.chain.bounds import Bounds
from tunewright.chain.questions import Question, Reply
from tunewright.chain.rendering import Rendering
from tunewright.chain.steps import Outcome, Step
from tunewright.chain.verdict import reach
from tunewright.chain.weights import WeightDifference
from tunewright.core.scoring import Difference, Score
from tunewright.report.proof import proof
from tunewright.report.stage import run

BOUNDS = Bounds("bfloat16", logits=1.1, tie=0.55, noise=0.2, noise_rms=0.03, scale=35.0)
TRAINED = Rendering("ab12" * 16, 0, ("<|im_end|>",))


@dataclass
class Named:
    """Stands for a link that is not asked here."""

    name: str

    def answers(self, questions: Sequence[Question], *, max_new_tokens: int) -> list[Reply]:
        raise AssertionError("the page asks nobody")

    def close(self) -> None:
        raise AssertionError("the page asks nobody")


def agreement(same: int, ties: int, different: int) -> Agreement:
    rows = same + ties + different
    return Agreement(rows, same, ties, tuple(range(different)), 0.985, 4.5, 0)


def outcomes(*, broken: bool) -> list[Outcome]:
    value = Score.model_validate(score("intent.accuracy", 0.933, 0.038))
    change = Difference(metric="intent.accuracy", difference=-0.25, low=-0.4, high=-0.1, p=0.004, test="McNemar", n=40)
    merged = Outcome(
        Step(Named("merged"), "equal", "adapter", "the adapter merged into the base's weights"), "equal",
        largest=0.61, bounds=BOUNDS, agreement=agreement(38, 2, 0), score=value, rendering=TRAINED,
        weights=WeightDifference(272),
    )  # fmt: skip
    server = Outcome(
        Step(Named("server"), "equal", "merged", "a server of <bf16> over HTTP"), "broken" if broken else "equal",
        agreement=agreement(1, 0, 39) if broken else agreement(40, 0, 0), score=value,
        rendering=Rendering("cd34" * 16, 1, ("</s>",)),
        difference=change if broken else None,
        reasons=["renders with another chat template (cd34cd34cd34, trained was ab12ab12ab12)"] if broken else [],
        examples=[{"id": "bank:9", "expected": "card_lost", "answer": "<script>"}] if broken else [],
    )  # fmt: skip
    refused = Outcome(Step(Named("awq"), "measured", "bf16"), "named", ["loses 11.0 points"], score=value)
    return [Outcome(Step(Named("base"), "start"), "start", score=value), merged, refused, server]


def document(*, broken: bool = False) -> dict[str, Any]:
    """chain.json, in the chain's own words."""
    found = outcomes(broken=broken)
    written = {
        "format": 1,
        "verdict": reach(found).to_json(),
        "reference": "merged",
        "rows": 40,
        "bounds": BOUNDS.to_json(),
        "rendering": {"training": TRAINED.to_json()},
        "links": [outcome.to_json() for outcome in found],
    }
    read: dict[str, Any] = json.loads(json.dumps(written))
    return read


def test_every_link_is_a_row() -> None:
    found = proof(document())
    assert found is not None and found.holds
    assert found.sentence == (
        "The chain holds: merged = server; logits differ by 0.61 at most, 78 of 80 answers are the same, 2 part where "
        "two tokens tie."
    )
    base, merged, awq, server = found.links
    assert (base.status, base.logits, base.same) == ("where it starts", "", "")
    assert (merged.logits, merged.bound, merged.same, merged.ties) == ("0.61", "bound 1.1", "38 of 40", "2")
    assert (merged.tokens, merged.score, merged.tone) == ("98.5 %", "93.3 %", "good")
    assert merged.reasons == ("all 272 stored tensors are those of the merge made anew",)
    assert (awq.status, awq.reasons) == ("refused already", ("loses 11.0 points",))
    assert server.rendering == "template cd34cd34cd34; 1 begin token; ends with </s>"
    assert found.trained == "template ab12ab12ab12; 0 begin tokens; ends with <|im_end|>"
    assert found.bounds.startswith("bfloat16: logits may differ by 1.1")
    assert proof(None) is None


def test_stored_weights_that_differ_are_named() -> None:
    found = document()
    found["links"][1]["weights"] = WeightDifference(272, "model.layers.3.mlp", 12, 0.5).to_json()
    page = proof(found)
    assert page is not None
    assert page.links[1].reasons == ("model.layers.3.mlp differs from the merge in 12 places, by up to 0.5",)


def page_with(root: Path, *, broken: bool = False, of_another: bool = False) -> Any:
    workspace, artifacts = everything(root)
    train = artifacts["train"]
    if of_another:
        train = seal(workspace, "train", [artifacts["data"]], {"curve.json": {}}, config={"other": True})
    chain = seal(workspace, "chain", [artifacts["data"], train], {"chain.json": document(broken=broken)},
                 passed=not broken)  # fmt: skip
    report = run(workspace, project_file_name="bank.yaml", **artifacts)
    return chain, report, *checked(report)


def test_a_chain_that_holds_is_shown_with_its_lineage(tmp_path: Path) -> None:
    chain, report, html, checker = page_with(tmp_path)
    assert checker.faults == [] and "✓ holds" in checker.text and "broken." not in checker.text
    assert "38 of 40" in checker.text and "a server of <bf16> over HTTP" in checker.text
    assert chain.manifest_sha256 in html and chain.manifest_sha256 in {read.sha256 for read in report.manifest.inputs}
    assert "tunewright evaluate --chain bank.yaml" in checker.text


def test_a_broken_chain_is_shouted_at_the_top(tmp_path: Path) -> None:
    _, _, html, checker = page_with(tmp_path, broken=True)
    top = html[: html.index("<nav")]
    assert "The proof chain is broken" in top and "renders with another chat template" in top
    assert "✗ broken" in checker.text and "−25.0 points" in checker.text and "p = 0.004" in checker.text
    assert "script" not in checker.tags and "<script>" in checker.text, "answers that differ are shown, escaped"


def test_a_chain_of_another_training_is_left_out(tmp_path: Path) -> None:
    chain, report, html, checker = page_with(tmp_path, of_another=True)
    assert chain.manifest_sha256 not in html and "38 of 40" not in checker.text
    assert "was not proven for this training" in checker.text
    assert "chain" not in report.manifest.facts["stages"]


def test_without_a_chain_the_page_says_how_to_get_one(tmp_path: Path) -> None:
    workspace, artifacts = everything(tmp_path)
    _, checker = checked(run(workspace, project_file_name="bank.yaml", **artifacts))
    assert "tunewright evaluate --chain does it" in checker.text
