"""The math metric: recorded solutions of gsm8k, Chinese word problems in many phrasings, steps and equations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.core.scoring import Sample, to_score
from tunewright.evaluate.metrics.math import Math
from tunewright.evaluate.metrics.options import MathOptions

WRAPPED = (
    "答案是{}", "答案：{}", "答案为{}。", "答：{}", "答：一共是{}。", "所以答案是{}。", "因此，答案为{}",
    "最终答案：**{}**",
    "首先列出算式，再计算。所以最后的结果是{}。", "【答案】{}", "$\\boxed{{{}}}$",
    "综上所述，答案是 {} 。希望对你有帮助！",
    "1. 读题。\n2. 列式。\n答案：{}", "正确答案是“{}”。", "<think>先试5，不对。</think>\n\n答案是{}。",
    "解：设为x，x={}。",
    "The answer is {}.", "Answer: {}", "#### {}", "So the final answer is {}.", "**Answer:** {}", "{}", "A: {}",
    "Therefore, x = {}.", "The answer is {}. Let me know if you have 2 more questions!", "My answer: {}",
    "{} is the answer.",
    "Final answer: $\\boxed{{{}}}$. I hope it is correct.",
)  # fmt: skip
RUN_ON = (
    "\n\n问题：小红有5个苹果，又买了7个，一共有几个？\n答案是12。",
    "\n\nQuestion: Tom has 5 pens and buys 7. How many pens does he have?\nAnswer: 12",
    "\n\nTom has 5 pens and buys 7. How many pens does he have?\nThe answer is 12.",
    "\n\n用户：5加7等于几？\n助手：答案是12。",
)


def sample(prediction: str, reference: str, prompt: str = "", **metadata: Any) -> Sample:
    return Sample(id="1", prompt=prompt, prediction=prediction, reference=reference, metadata=metadata)


def measured(samples: list[Sample], options: MathOptions | None = None) -> dict[str, float]:
    return {one.metric: one.value for one in Math(options or MathOptions()).measure(samples)}


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").strip().split("\n")]


@pytest.fixture(scope="module")
def solutions(shared: Path) -> list[tuple[Sample, bool]]:
    """The 480 recorded solutions of gsm8k's models with their `is_correct`."""
    return [
        (sample(said["solution"], row["ground_truth"], row["question"]), said["is_correct"])
        for row in rows(shared / "data/gsm8k/model_solutions_sample.jsonl")
        for said in row.values()
        if isinstance(said, dict)
    ]


def test_agrees_with_the_recorded_verdict_on_every_solution(solutions: list[tuple[Sample, bool]]) -> None:
    metric = Math(MathOptions())
    marks = [metric.mark(row) for row, _ in solutions]
    assert len(marks) == 480
    assert [mark.correct for mark in marks] == [is_right for _, is_right in solutions]


def test_step_completeness_separates_right_solutions_from_wrong_ones(solutions: list[tuple[Sample, bool]]) -> None:
    """Area under the curve, counted pair by pair; .93 when this was written."""
    metric = Math(MathOptions())
    shares = [(metric.mark(row).steps, is_right) for row, is_right in solutions]
    right = np.array([share for share, is_right in shares if is_right and share is not None])
    wrong = np.array([share for share, is_right in shares if not is_right and share is not None])
    above = (right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean()
    assert len(right) + len(wrong) >= 470
    assert above >= 0.85


def test_every_reference_is_read_as_the_answer_it_states(shared: Path) -> None:
    read = []
    for name in ("gsm8k/test", "gsm8k/train", "cmath_zh/test", "cmath_zh/train", "cmath_zh/distractor"):
        for row in rows(shared / f"data/{name}.jsonl"):
            said = row["conversation"][-1]["content"]
            read.append(sample(said, row["metadata"]["final_answer"], row["conversation"][0]["content"]))
    assert len(read) > 3000
    assert measured(read)["math.accuracy"] == 1


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_chinese_word_problems_in_every_phrasing(shared: Path, wrapped: str) -> None:
    read, wrong = [], []
    answers = [row["metadata"]["final_answer"] for row in rows(shared / "data/cmath_zh/test.jsonl")]
    for answer, other in zip(answers, answers[1:] + answers[:1], strict=True):
        read.append(sample(wrapped.format(answer), answer))
        wrong += [sample(wrapped.format(answer), other)] if answer != other else []
    assert measured(read)["math.accuracy"] >= 0.99
    assert measured(wrong)["math.accuracy"] <= 0.01  # 6/9 equals 2/3, 5% equals 5


@pytest.mark.parametrize("more", RUN_ON)
@pytest.mark.parametrize("wrapped", [text for text in WRAPPED if text != "{}" and "boxed" not in text])
def test_a_second_question_is_not_the_answer(wrapped: str, more: str) -> None:
    text = wrapped.format("73") + more
    assert measured([sample(text, "73")])["math.accuracy"] == 1
    assert measured([sample(text, "12")])["math.accuracy"] == 0


def test_what_is_said_of_a_row() -> None:
    reference = "16-3-4 = <<16-3-4=9>>9 eggs. 9*2 = $<<9*2=18>>18.\n#### 18"
    metric = Math(MathOptions())
    right, wrong, none = metric.explain(
        [
            sample("16-3-4=9, 9*2=18. #### 18", reference),
            sample("16-3-4=8，8*2=16。答案是16。", reference),
            sample("", reference),
        ]
    )
    assert right == {
        "correct": True, "answer": "18", "wanted": "18", "step_completeness": 1.0, "wrong_equation": None
    }  # fmt: skip
    assert wrong is not None and none is not None
    assert (wrong["correct"], wrong["answer"], wrong["step_completeness"]) == (False, "16", 0.0)
    assert wrong["wrong_equation"] == "16-3-4=8"
    assert (none["correct"], none["answer"]) == (False, None)


def test_the_numbers_of_a_set() -> None:
    reference = "3+4=<<3+4=7>>7\n#### 7"
    found = {
        one.metric: one
        for one in Math(MathOptions()).measure(
            [sample("3+4=7 #### 7", reference), sample("3+4=8，4+4=8 #### 8", reference), sample("", "7")]
        )
    }
    assert set(found) == set(Math.metric_keys(MathOptions()))
    assert found["math.accuracy"].value == pytest.approx(1 / 3)
    assert found["math.step_completeness"].value == 0.5 and len(found["math.step_completeness"].statistics) == 2
    assert found["math.arithmetic_valid"].value == pytest.approx(2 / 3)
    assert found["math.unparseable"].value == pytest.approx(1 / 3)
    assert "unparseable:1" in found["math.accuracy"].signature
    score = to_score(found["math.accuracy"], seed=7)
    assert (score.low, score.high) == pytest.approx((0.0615, 0.7923), abs=1e-4)  # Wilson, 1 of 3


def test_a_reference_without_steps_or_number() -> None:
    assert "math.step_completeness" not in measured([sample("7", "7")])
    assert measured([sample("x", "x")])["math.accuracy"] == 1
    assert measured([sample("无解。", "无解")])["math.accuracy"] == 1
    assert measured([sample("", "无解"), sample("", "")])["math.accuracy"] == 0
    found = Math(MathOptions()).measure([sample("无解", "无解")])
    assert "references without a number:1" in found[0].signature


def test_options() -> None:
    by_key = MathOptions(answer="metadata.final_answer")
    assert measured([sample("5", "no number here", final_answer="5")], by_key)["math.accuracy"] == 1
    assert measured([sample("5", "7", final_answer=7)], by_key)["math.accuracy"] == 0
    assert measured([sample("7", "7")], by_key)["math.accuracy"] == 1
    assert Math(MathOptions(where={"metadata.task": "math"})).measure([sample("7", "7")]) == []


def test_the_prompt_helps_where_several_numbers_stand() -> None:
    question = "40人分成小组，每组8人，可以分成几组？"
    assert measured([sample("5个小组共40人，8人一组", "5", question)])["math.accuracy"] == 1
