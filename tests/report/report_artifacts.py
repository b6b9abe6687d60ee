"""Plausible artifacts of all stages, written and sealed as the stages do it; the figures are invented."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tunewright.core import files, runs
from tunewright.core.runs import Artifact, Output, Workspace

BY_CODE: dict[str, Any] = {
    "ZERO_WIDTH": ("repaired", 12, "zero-width characters were removed", "转\u200b账失败 <b>怎么办</b>"),
    "FULLWIDTH": ("kept", 6, "full-width digits", "卡号６２２２"),
    "DUPLICATE": ("quarantined", 5, "the same conversation as line 3", '{"conversation": [...]}'),
    "INVALID_JSON": ("quarantined", 3, "a comma after the last item", '{"conversation": [],}'),
}
CONFUSION: dict[str, Any] = {"labels": ["card <lost>", "fee"], "counts": [[80, 3], [9, 86]]}


def data_report() -> dict[str, Any]:
    return {
        "read": 906,
        "kept": 868,
        "repaired": 20,
        "quarantined": 18,
        "by_code": {
            code: {
                "action": action,
                "count": count,
                "example": {
                    "source": "raw/bank.jsonl",
                    "line": 17,
                    "byte_offset": 3401,
                    "reason": reason,
                    "excerpt": text,
                },
            }
            for code, (action, count, reason, text) in BY_CODE.items()
        },
        "splits": {"train": 622, "validation": 88, "test": 178},
        "leakage": {"sets": {"test": {"rows": 2, **{k: {"rows": 0} for k in ("exact", "near", "overlap", "groups")}}}},
        "tokens": {
            "max_length": 8192,
            "splits": {
                "train": {"rows": 622, "tokens": 48210, "trained_tokens": 4105, "breaches": {"bos": 0, "end": 0}},
                "test": {"rows": 178, "tokens": 13804, "trained_tokens": 1180, "breaches": {"bos": 0, "end": 3}},
            },
        },
        "sources": [
            {
                "path": "raw/bank.jsonl",
                "encoding": "utf-8",
                "read": 906,
                "kept": 868,
                "repaired": 20,
                "quarantined": 18,
            }
        ],
    }


def curve(steps: int = 60) -> dict[str, Any]:
    def loss(step: int) -> float:
        return 0.3 + 2.6 * math.exp(-step / 12)

    return {
        "train": [
            {"step": s, "epoch": s / 20, "loss": loss(s) + 0.08 * math.sin(s * 1.7), "learning_rate": 2e-4}
            for s in range(1, steps + 1)
        ],
        "validation": [
            {"step": s, "epoch": s / 20, "loss": loss(s) + 0.12 + max(0, s - 40) * 0.006}
            for s in range(10, steps + 1, 10)
        ],
        "metrics": [metric_entry("rouge1", 60, steps), metric_entry("intent.accuracy", 0.9, steps)],
    }


def metric_entry(metric: str, best: float, steps: int) -> dict[str, Any]:
    points = [{"step": s, "epoch": s / 20, "value": best * (1 - abs(s - 40) / 100)} for s in range(10, steps + 1, 10)]
    return {"metric": metric, "higher_is_better": True, "n": 32, "points": points}


def score(metric: str, value: float, half: float, **more: Any) -> dict[str, Any]:
    row = {"metric": metric, "version": 1, "value": value, "low": value - half, "high": value + half, "n": 178}
    return {**row, "unit": "", "higher_is_better": True, "signature": "seed 7", "floor": None, **more}


def paired(metric: str, difference: float, half: float, p: float, test: str = "McNemar") -> dict[str, Any]:
    verdict = "no difference shown" if p >= 0.05 else f"difference shown (p {p:.3g})"
    interval = {"low": difference - half, "high": difference + half}
    return {"metric": metric, "difference": difference, **interval, "p": p, "test": test, "n": 178, "verdict": verdict}


def scores() -> dict[str, Any]:
    late = {"unit": "s", "higher_is_better": False, "n": 3}
    return {
        "base": {
            "intent.accuracy": score("intent.accuracy", 0.416, 0.07, floor=0.045),
            "intent_choice.accuracy": score("intent_choice.accuracy", 0.612, 0.07, floor=0.045),
            "bleu": score("bleu", 12.4, 2.1, floor=3.1, signature="nrefs:1|eff:yes|tok:zh|smooth:exp"),
            "rougeL": score("rougeL", 28.9, 3.0, floor=9.4),
            "latency.p50_s": score("latency.p50_s", 4.31, 0.2, **late),
        },
        "tuned": {
            "intent.accuracy": score("intent.accuracy", 0.933, 0.038, floor=0.045),
            "intent_choice.accuracy": score("intent_choice.accuracy", 0.938, 0.036, floor=0.045),
            "bleu": score("bleu", 41.7, 4.4, floor=3.3, signature="nrefs:1|eff:yes|tok:zh|smooth:exp"),
            "rougeL": score("rougeL", 57.2, 4.2, floor=9.9),
            "latency.p50_s": score("latency.p50_s", 4.35, 0.2, **late),
        },
        "paired": {
            "intent.accuracy": paired("intent.accuracy", 0.517, 0.08, 1e-21),
            "intent_choice.accuracy": paired("intent_choice.accuracy", 0.326, 0.08, 1e-12),
            "bleu": paired("bleu", 29.3, 4.6, 0.001, "paired bootstrap"),
            "rougeL": paired("rougeL", 28.3, 4.4, 0.001, "paired bootstrap"),
            "latency.p50_s": paired("latency.p50_s", 0.04, 0.2, 0.62, "paired bootstrap"),
        },
        "gates": [
            {
                "metric": "intent.accuracy",
                "when": ">= base + 0.05",
                "on": ["tuned", "quantized"],
                "significant": True,
                "passed": True,
                "reason": "0.933 is at least 0.466",
            }
        ],
        "primary": "intent.accuracy",
    }


def sample(name: str, base_right: bool | None, tuned_right: bool | None, **more: str) -> dict[str, Any]:
    row = {"id": name, "prompt": "我的卡丢了，怎么办？", "reference": "card_lost", "base": "请拨打客服电话挂失。"}
    rights = {"base_right": base_right, "tuned_right": tuned_right, "metadata": {"intent": "card_lost", "lang": "zh"}}
    return {**row, "tuned": "card_lost", **rights, **more}


def samples() -> list[dict[str, Any]]:
    return [
        sample("bank:3", False, True),
        sample("bank:9", True, False, tuned="card_block", prompt="<script>alert('x')</script> & my card is gone"),
        sample("bank:12", False, False, base="I am sorry.\nCould you say more?", tuned="atm_fault"),
        sample("bank:20", None, None, base="You may apply online.", tuned="You earn 1 point for every ¥20 spent."),
        sample("bank:31", True, True, base="card_lost"),
    ]


def variant(scheme: str, size: float, speed: float, task: float, **more: Any) -> dict[str, Any]:
    return {
        "scheme": scheme,
        "bytes": int(size * 1e6),
        "ratio": size / 269,
        "engine": "llama.cpp" if scheme.startswith("gguf") else "transformers",
        "tokens_per_second": speed,
        "latency_s": 200 / speed,
        "task_metric": "intent.accuracy",
        "task_score": task,
        "task_low": task - 0.05,
        "task_high": min(1.0, task + 0.04),
        "task_change": task - 0.93,
        "task_p": 1.0 if task > 0.9 else 0.004,
        "perplexity": 1.91,
        "perplexity_engine": "transformers",
        "agreement": 1.0 if scheme == "bf16" else 0.94,
        "accepted": True,
        "note": "",
        **more,
    }


def table() -> list[dict[str, Any]]:
    slow = "transformers unpacks the weights to 16 bits: smaller, but not faster, in this engine"
    return [
        variant("bf16", 269, 46, 0.93),
        variant("int8", 163, 31, 0.922, note=slow),
        variant("awq", 114, 12, 0.82, accepted=False, note="loses 11.0 points, the limit is 5.0; " + slow),
        variant("gguf-q8_0", 145, 104, 0.93),
        variant("gguf-q4_0", 92, 140, 0.90),
    ]


def serving() -> dict[str, Any]:
    speeds = {"first_token_s": 0.081, "tokens_per_second": 112.4}
    return {**speeds, "requests": 16, "concurrency": 8, "engine": "transformers", "variant": "int8"}


TRAIN_FACTS = {
    "method": "lora",
    "dtype": "bfloat16",
    "trained_parameters": 4884480,
    "total_parameters": 139399488,
    "seconds": 83.2,
    "steps": 60,
    "best_step": 40,
    "best_metric": "intent.accuracy",
    "best_value": 0.9,
    "validation_loss": 0.5128,
    "tokens": 144630,
    "tokens_per_second": 1738.0,
    "peak_memory_bytes": 1640000000,
    "stopped_early": False,
}
EVALUATE_CONFIG = {"metrics": [{"name": "intent", "labels_in_prompt": "base"}, {"name": "bleu"}], "batch_size": 16}


def seal(workspace: Workspace, stage: str, inputs: list[Any], contents: dict[str, Any], **more: Any) -> Artifact:
    """Writes `contents` (name -> JSON value, lists of `.jsonl` as rows) as a sealed artifact of `stage`."""
    references = tuple(workspace.reference(i) if isinstance(i, Artifact) else workspace.source(i) for i in inputs)
    output = runs.begin(workspace, stage, more.get("config", {"stage": stage}), references)
    assert isinstance(output, Output)
    output.facts = more.get("facts", {})
    for name, value in contents.items():
        (files.write_jsonl if name.endswith(".jsonl") else files.write_json)(output.path / name, value)
    return output.seal(passed=more.get("passed", True))


def everything(root: Path, **replaced: Any) -> tuple[Workspace, dict[str, Artifact]]:
    """A workspace in `root` with one artifact a stage. `replaced` gives other content: scores=..., samples=..."""
    workspace = Workspace(root, "demo")
    raw = root / "raw" / "bank.jsonl"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.write_text("{}\n", encoding="utf-8")
    data = seal(workspace, "data", [raw], {"report.json": replaced.get("data", data_report())})
    train = seal(workspace, "train", [data], {"curve.json": replaced.get("curve", curve())}, facts=TRAIN_FACTS)
    shown = {"scores.json": replaced.get("scores", scores()), "samples.jsonl": replaced.get("samples", samples())}
    if (confusion := replaced.get("confusion", CONFUSION)) is not None:
        shown["confusion.json"] = confusion
    if (memorization := replaced.get("memorization")) is not None:
        shown["memorization.json"] = memorization
    evaluate = seal(workspace, "evaluate", [train, data], shown, config=EVALUATE_CONFIG)
    quantize = seal(workspace, "quantize", [train, data], {"table.json": replaced.get("table", table())})
    serve = seal(workspace, "serve", [quantize], {"measurement.json": serving()})
    return workspace, {"data": data, "train": train, "evaluate": evaluate, "quantize": quantize, "serve": serve}
