"""The tool that makes the classifier: its solver by known answers, and the same file from the same data."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SETS = {
    "cold_zh": ("你真是个{}坏东西", "今天{}天气很好"),
    "toxicity_en": ("you are a {} horrid blob", "what a {} lovely day"),
}
BENIGN = ("medical_zh", "fineva_zh", "crosswoz_zh", "banking77", "nlupp_banking", "gsm8k")
UNSEEN = ("cmath_zh", "toolcall", "belle_eval", "mt_bench", "messy_irc")


@pytest.fixture
def solver(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import toxicity_solver

    return toxicity_solver


def test_minimise_finds_the_minimum_of_a_quadratic(solver):
    draw = np.random.default_rng(0)
    root = draw.normal(size=(30, 30))
    matrix, wanted = root @ root.T + np.eye(30), draw.normal(size=30)

    def loss(point):
        off = point - wanted
        return 0.5 * float(off @ matrix @ off), matrix @ off

    assert solver.minimise(loss, np.zeros(30), tolerance=1e-9) == pytest.approx(wanted, abs=1e-5)


def test_platt_gives_back_the_curve_that_made_the_labels(solver):
    draw = np.random.default_rng(1)
    score = draw.normal(size=200_000) * 2
    label = (draw.random(200_000) < 1 / (1 + np.exp(-(1.5 * score - 0.7)))).astype(float)
    assert solver.platt(score, label) == pytest.approx((1.5, -0.7), abs=0.05)


def test_sparse_rows_are_the_dense_matrix(solver):
    draw = np.random.default_rng(2)
    dense = draw.normal(size=(6, 9)) * (draw.random((6, 9)) < 0.5)
    dense[:, 0] = 1
    row, column = np.nonzero(dense)
    rows = solver.Rows(row, column, dense[row, column], dense.shape)
    right, left, factor = draw.normal(size=9), draw.normal(size=6), draw.random(9) + 0.5
    assert rows.dot(right) == pytest.approx(dense @ right)
    assert rows.transposed_dot(left) == pytest.approx(dense.T @ left)
    scaled = dense * factor / np.linalg.norm(dense * factor, axis=1, keepdims=True)
    assert rows.scaled(factor).dot(right) == pytest.approx(scaled @ right)
    assert rows.take(np.array([4, 1])).dot(right) == pytest.approx(dense[[4, 1]] @ right)


def write(folder: Path, name: str, rows: list[tuple[str, dict[str, object]]]) -> None:
    target = folder / name
    target.mkdir(exist_ok=True)
    lines = [
        json.dumps({"conversation": [{"role": "user", "content": text}], "metadata": meta}, ensure_ascii=False)
        for text, meta in rows
    ]
    for split in ("train", "dev", "test"):
        (target / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_same_data_make_the_same_file(tmp_path: Path) -> None:
    draw = random.Random(4)
    for name, forms in SETS.items():
        rows = [
            (forms[kind].format(draw.randint(0, 99)), {"toxic": 1 - kind, "fine": 3 * kind}) for kind in [0, 1] * 20
        ]
        write(tmp_path, name, rows)
    for name in (*BENIGN, *UNSEEN):
        write(tmp_path, name, [(f"请问{draw.randint(0, 999)}号怎么办", {}) for _ in range(8)])
    made = []
    for number in ("1", "2"):
        out = tmp_path / f"{number}.npz"
        command = [sys.executable, str(TOOLS / "train_toxicity.py"), "--data", str(tmp_path), "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, env={"OMP_NUM_THREADS": number})
        assert done.returncode == 0, done.stderr
        assert "cold_zh test: AUC 1.0000, n 40" in done.stdout
        assert "anti-bias: 0 of 20 called toxic" in done.stdout
        made.append(out.read_bytes())
    assert made[0] == made[1]
