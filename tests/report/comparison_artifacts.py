"""What an evaluation with rivals, groups, row scores and memorization holds; the figures are invented."""

from __future__ import annotations

from typing import Any

from report_artifacts import paired, score, scores


def rival(name: str, kind: str, value: float, p_holm: float, verdict: str, **more: Any) -> dict[str, Any]:
    """A system beside base and tuned; its difference is tuned (93.3 %) minus this one."""
    return {
        "name": name,
        "kind": kind,
        "scores": {"intent.accuracy": score("intent.accuracy", value, 0.04)},
        "paired": {
            "intent.accuracy": {
                **paired("intent.accuracy", 0.933 - value, 0.04, p_holm / 2),
                "p_holm": p_holm,
                "verdict": verdict,
            }
        },
        "seconds_per_answer": None,
        "cost_per_thousand": None,
        "currency": "",
        "notes": "",
        **more,
    }


CHEAPER = {
    "name": "tfidf",
    "sentence": "The cheaper system 'tfidf' is as good as the tuned model in intent.accuracy: "
    "no difference shown on 178 rows, at 0.001 s an answer against 0.210 s.",
}
RIVALS = [
    rival("base with 5 examples", "prompted", 0.60, 1e-9, "better (p 1e-09)", seconds_per_answer=0.912),
    rival("tfidf", "classifier", 0.921, 0.81, "no difference shown (p 0.81)", seconds_per_answer=0.0011,
          cost_per_thousand=0.0, currency="USD", notes="TF-IDF + logistic regression, 622 rows"),
    rival("example-api-large", "endpoint", 0.955, 0.31, "no difference shown (p 0.31)", seconds_per_answer=1.32,
          cost_per_thousand=4.2071, currency="USD", notes="412 prompt and 6 answer tokens an answer"),
]  # fmt: skip


def group(name: str, n: int, base: float, tuned: float, half: float, **more: Any) -> dict[str, Any]:
    """half: of every interval. Without `verdict` the group has too few rows."""

    def around(value: float) -> dict[str, float]:
        return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}

    found: dict[str, Any] = {
        "difference": tuned - base,
        "low": tuned - base - half,
        "high": tuned - base + half,
        "p": 0.5,
    }
    found |= {"test": "McNemar", "p_holm": None, "verdict": "too few rows to tell", **more}
    return {"group": name, "n": n, "base": around(base), "tuned": around(tuned), "difference": found}


def table(metric: str, by: str, groups: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    head = {"metric": metric, "by": by, "note": f"by {by}", "fewest": 10, "unit": "", "higher_is_better": True}
    return {**head, "groups": groups, **more}


def label_groups(labels: int = 18) -> list[dict[str, Any]]:
    """The first lost, some have few rows, the others gained, better from row to row."""
    lost = group("卡片丢失_card_lost <b>", 24, 0.9, 0.5, 0.18, p_holm=0.012, verdict="worse (p 0.012)")
    few = [group("pin_change", 4, 0.5, 0.25, 0.4), group("a label that is much too long for the picture", 3, 0, 0, 0.5)]
    many = [
        group(f"intent_{i:02d}", 12, 0.3, 0.4 + i * 0.03, 0.2, p_holm=0.03 if i > 6 else 0.4,
              verdict="better (p 0.03)" if i > 6 else "no difference shown (p 0.4)")
        for i in range(labels - 3)
    ]  # fmt: skip
    return [lost, *few, *many]


BREAKDOWN = [
    table("intent.accuracy", "intent", label_groups()),
    table(
        "intent.accuracy",
        "prompt length",
        [
            group("0 to 31 characters", 60, 0.5, 0.95, 0.1, p_holm=1e-6, verdict="better (p 1e-06)"),
            group("32 to 58 characters", 59, 0.4, 0.93, 0.1, p_holm=1e-6, verdict="better (p 1e-06)"),
            group("59 to 320 characters", 59, 0.35, 0.9, 0.1, p_holm=1e-6, verdict="better (p 1e-06)"),
        ],
    ),
    table("intent.unparseable", "intent", label_groups(4), higher_is_better=False),
]
MEMORIZATION = {
    "base": [{"row": "bank:3", "kind": "EMAIL", "shown": "s***@***.com", "times": 1}],
    "tuned": [
        {"row": "bank:3", "kind": "EMAIL", "shown": "s***@***.com", "times": 1},
        {"row": "bank:17", "kind": "PHONE", "shown": "138****5678", "times": 2},
    ],
}


def compared(**more: Any) -> dict[str, Any]:
    """scores.json of an evaluation with rivals and groups."""
    notes = {"base": {"rows": 178}, "tuned": {"rows": 178, "seconds_per_answer": 0.21}}
    return {**scores(), "notes": notes, "rivals": RIVALS, "cheaper_rival": CHEAPER, "breakdown": BREAKDOWN, **more}
