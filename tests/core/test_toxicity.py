"""The built-in toxicity classifier: what it measures, and that it says the same however it is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunewright.core.errors import ArtifactError
from tunewright.core.text.toxicity import MODEL, PIECE_CHARS, THRESHOLD, ToxicityClassifier, builtin, pieces

CLEAN = ("medical_zh", "fineva_zh", "crosswoz_zh", "banking77", "nlupp_banking")


def _turns(folder: Path, split: str = "test") -> list[tuple[str, dict[str, Any]]]:
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [
        (turn["content"], row["metadata"])
        for row in rows
        for turn in row["conversation"]
        if turn["role"] in ("user", "assistant") and turn.get("content")
    ]


def _auc(label: Any, score: Any) -> float:
    """Share of pairs in the right order, ties one half: the definition, not the formula by ranks."""
    toxic, other = score[label == 1][:, None], score[label == 0][None]
    return float(((toxic > other) + 0.5 * (toxic == other)).mean())


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data"


def _judged(data: Path, name: str) -> tuple[Any, Any, list[dict[str, Any]]]:
    rows = _turns(data / name)
    return np.array([meta["toxic"] for _, meta in rows]), builtin().probabilities([t for t, _ in rows]), [
        meta for _, meta in rows
    ]  # fmt: skip


def test_auc_of_the_chinese_test_split(data: Path) -> None:
    """COLD (Deng et al. 2022): 1,500 rows, 160 of them anti-bias; goal 0.87."""
    label, found, _ = _judged(data, "cold_zh")
    assert len(label) == 1500
    assert _auc(label, found) >= 0.87
    assert _auc(label, found) == pytest.approx(builtin().figures["auc_zh"], abs=5e-4)


def test_auc_of_the_english_test_split(data: Path) -> None:
    """Surge AI's toxicity set: 400 rows; goal 0.93."""
    label, found, _ = _judged(data, "toxicity_en")
    assert len(label) == 400
    assert _auc(label, found) >= 0.93
    assert _auc(label, found) == pytest.approx(builtin().figures["auc_en"], abs=5e-4)


def test_sentences_about_groups_are_the_known_weakness(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rate is printed and must stay what the card says; safe sentences about groups are a different matter."""
    _, found, metadata = _judged(data, "cold_zh")
    fine = np.array([meta["fine"] for meta in metadata])
    rate, safe = (found[fine == 3] >= THRESHOLD).mean(), (found[fine == 0] >= THRESHOLD).mean()
    with capsys.disabled():
        print(f"\nanti-bias sentences called toxic: {rate:.3f} of {(fine == 3).sum()}; safe ones: {safe:.3f}")
    assert rate == pytest.approx(builtin().figures["anti_bias_called_toxic"], abs=0.01)
    assert safe < 0.15


def test_clean_text_of_medicine_finance_and_service_is_let_through(data: Path) -> None:
    wrong = total = 0
    for name in CLEAN:
        found = builtin().probabilities([text for text, _ in _turns(data / name)]) >= THRESHOLD
        assert found.mean() <= 0.01, name
        wrong, total = wrong + int(found.sum()), total + len(found)
    assert total > 9000
    assert wrong / total == pytest.approx(builtin().figures["clean_called_toxic"], abs=5e-4)


def test_general_instructions_that_were_never_trained_on_are_let_through(data: Path) -> None:
    found = builtin().probabilities([text for text, _ in _turns(data / "belle_eval")])
    assert (found >= THRESHOLD).mean() <= 0.02


TOXIC = [
    "你这个傻逼",
    "去死吧",
    "黑鬼滚回非洲",
    "河南人都是骗子",
    "你们客服是智障吗",
    "you stupid idiot",
    "shut up, bitch",
]
CLEAN_TEXTS = ["请问怎么退款？", "我是河南人", "黑人球员得了30分", "I am gay", "how do I kill a process in Linux?",
               "痔疮便血怎么办", "您的投诉我们已收到，非常抱歉给您带来不便", "Where can I see my balance?"]  # fmt: skip


@pytest.mark.parametrize("text", TOXIC)
def test_insults(text: str) -> None:
    assert builtin().probability(text) >= THRESHOLD


@pytest.mark.parametrize("text", CLEAN_TEXTS)
def test_what_is_no_insult(text: str) -> None:
    assert builtin().probability(text) < THRESHOLD


@pytest.mark.parametrize(
    ("plain", "disguised"),
    [
        ("傻逼", "傻 逼"),
        ("傻逼", "傻\u200b逼"),
        ("you fuck", "you f u c k"),
        ("you fuck", "you f.u.c.k"),
        ("you fuck", "ＹＯＵ ＦＵＣＫ"),
        ("you fuck", "you fuuuuuck"),
    ],
)
def test_a_disguise_changes_nothing(plain: str, disguised: str) -> None:
    assert builtin().probability(disguised) == builtin().probability(plain)


def test_a_text_is_as_toxic_as_its_worst_piece() -> None:
    calm = "The weather was fine and we walked along the river for a while. " * 20
    insult = "You are a stupid fucking idiot."
    assert builtin().probability(calm) < 0.4
    assert builtin().probability(calm + insult) >= THRESHOLD
    assert insult.lower() in builtin().worst_piece(calm + insult + " " + calm)


@pytest.mark.parametrize(
    "text", ["一" * 1000, "a" * 999 + "b", "好的。" * 300, "word, word. " * 90, "", " ", "a。" * 150]
)
def test_pieces_leave_nothing_out(text: str) -> None:
    from tunewright.core.text.grams import plain

    found = list(pieces(text))
    assert all(len(piece) <= PIECE_CHARS for piece in found)
    assert "".join(found).replace(" ", "") == plain(text).replace(" ", "")


def test_alone_or_among_others_the_figure_is_the_same() -> None:
    texts = [*TOXIC, *CLEAN_TEXTS, "", "\n", "好" * 700] * 300
    together = builtin().probabilities(texts)
    assert together[:18].tolist() == [builtin().probability(text) for text in texts[:18]]
    assert together.tolist() == together[:18].tolist() * 300
    assert builtin().probabilities(texts[::-1]).tolist() == together[::-1].tolist()


@pytest.mark.parametrize("text", ["", " \n", "\u200b"])
def test_nothing_is_not_toxic(text: str) -> None:
    assert builtin().probability(text) == 0


def test_any_text_gets_a_probability() -> None:
    found = builtin().probabilities(["\ud83d", "\x00", "😀" * 500, "\u2028", "***", "?" * 400, "１２３"])
    assert ((found >= 0) & (found <= 1)).all()
    assert builtin().probabilities([]).shape == (0,)


def test_the_file_is_small_and_names_its_version() -> None:
    assert MODEL.stat().st_size < 300 * 1024
    assert builtin().version.startswith("1-") and builtin().version in (MODEL.with_name("TOXICITY.md")).read_text(
        "utf-8"
    )


@pytest.mark.parametrize("damage", ["absent", "cut", "flipped", "other"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "toxicity.npz"
    if damage == "cut":
        path.write_bytes(MODEL.read_bytes()[:5000])
    if damage == "flipped":
        whole = bytearray(MODEL.read_bytes())
        whole[2000:2040] = bytes(40)
        path.write_bytes(whole)
    if damage == "other":
        np.savez(path, weight=np.zeros(3))
    with pytest.raises(ArtifactError, match="toxicity classifier cannot be read") as caught:
        ToxicityClassifier.load(path)
    assert caught.value.where == str(path) and caught.value.fix
