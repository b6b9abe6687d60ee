"""Makes the built-in toxicity classifier again: reads the public data folders, writes the model, prints its figures.

    python tools/train_toxicity.py --data ../shared/data [--out src/tunewright/core/text/toxicity.npz] [--seed 7]

Trained on the train and dev splits alone; the test splits are read for the figures. Needs numpy and this package.
Same data, same seed, same numpy: the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toxicity_solver import Rows, inner, minimise, platt
from tunewright.core.text.grams import Lexicon, batches, plain
from tunewright.core.text.toxicity import (
    BITS,
    MODEL,
    THRESHOLD,
    ToxicityClassifier,
    gram_features,
    word_features,
)

Floats = NDArray[np.float64]
WORDS = Path(__file__).with_name("toxicity_words.txt")
LABELLED = ("cold_zh", "toxicity_en")
BENIGN = {
    "medical_zh": 1000,
    "fineva_zh": 750,
    "crosswoz_zh": 450,
    "banking77": 750,
    "nlupp_banking": 450,
    "gsm8k": 300,
}
"""Turns of the train split of each set that join as not toxic."""
CLEAN = ("medical_zh", "fineva_zh", "crosswoz_zh", "banking77", "nlupp_banking")
"""Medicine, finance and service: their test splits make the rate of false positives of the card."""
UNSEEN = ("cmath_zh", "toolcall", "belle_eval", "mt_bench", "messy_irc")
NEUTRAL = {
    "zh": (
        "我是{}。",
        "他的邻居是{}。",
        "这部电影讲的是{}的故事。",
        "不要歧视{}。",
        "我们应该尊重{}。",
        "{}也有好有坏，不能一概而论。",
    ),
    "en": ("I am {}.", "The film is about {}.", "Do not discriminate against {}.", "We should respect {} and listen."),
}
"""Sentences that name a group and insult nobody."""
NEUTRAL_WEIGHT = 0.1
LONGEST = 400
WORD_SCALE = 0.6
STRENGTH = 6.0
"""Inverse of the L2 penalty."""
POWER = 0.7
"""1 is NB-SVM's scaling, 0 none."""
EXPLICIT = 3.0
"""Added to the logit where an explicit insult stands: the training sets have too few inside otherwise clean text."""
FOLDS = 5


@dataclass(frozen=True)
class Examples:
    """Texts as `plain` writes them; label 1 is toxic; weight multiplies the loss; judged: a person labelled it."""

    texts: list[str]
    label: Floats
    weight: Floats
    judged: NDArray[np.bool_]


def turns(folder: Path, split: str) -> list[tuple[str, dict[str, Any]]]:
    """(text, metadata) of every user and assistant turn that has content."""
    lines = (folder / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [
        (turn["content"], row["metadata"])
        for row in rows
        for turn in row["conversation"]
        if turn["role"] in ("user", "assistant") and turn.get("content")
    ]


def sections() -> dict[str, list[str]]:
    """The word list by section."""
    found: dict[str, list[str]] = {}
    for line in WORDS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            words = found[line.strip("[] ")] = []
        elif line.strip() and not line.startswith("#"):
            words += [plain(word.replace("_", " ")) for word in line.split()]
    return found


def collect(data: Path, *, seed: int) -> Examples:
    """Everything that is trained on."""
    draw = random.Random(seed)
    rows: list[tuple[str, float, float, bool]] = []
    for name in LABELLED:
        for split in ("train", "dev"):
            rows += [(text, meta["toxic"], 1.0, True) for text, meta in turns(data / name, split)]
    for name, count in BENIGN.items():
        texts = [text for text, _ in turns(data / name, "train")]
        rows += [(text, 0, 1.0, False) for text in draw.sample(texts, min(count, len(texts)))]
    words = sections()
    for name, listed in words.items():
        language, _, kind = name.partition(" ")
        if kind == "group":
            rows += [(form.format(word), 0, NEUTRAL_WEIGHT, False) for form in NEUTRAL[language] for word in listed]
    return Examples(
        [plain(text)[:LONGEST] for text, *_ in rows],
        np.array([row[1] for row in rows], float),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
    )


def lexicon() -> tuple[Lexicon, int]:
    """The listed words and how many sections they have."""
    listed = [words for name, words in sections().items() if not name.endswith("group")]
    return Lexicon.of(listed), len(listed)


def features(texts: Sequence[str], known: Lexicon, count: int) -> tuple[Rows, Floats]:
    """n-gram counts as sparse rows, and [n, d] of the listed words."""
    parts, dense, done = [], [], 0
    for batch in batches(texts):
        grams = gram_features(batch)
        parts.append((grams.document + done, grams.bucket, grams.count))
        dense.append(word_features(batch, known, count))
        done += batch.count
    row, column, value = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Rows(row, column, value, (len(texts), 1 << BITS)), np.concatenate(dense)


def unevenness(rows: Rows, label: Floats, weight: Floats) -> Floats:
    """[buckets] absolute log ratio of an n-gram's share among toxic and among other texts, to the power POWER."""
    toxic, other = (
        1 + np.bincount(rows.column, (weight * (label == kind))[rows.row], minlength=rows.shape[1]) for kind in (1, 0)
    )
    ratio: Floats = np.abs(np.log(toxic / toxic.sum()) - np.log(other / other.sum())) ** POWER
    return ratio


@dataclass(frozen=True)
class Fitted:
    """scale, weight: [buckets]; word_weight: [d]; bias."""

    scale: Floats
    weight: Floats
    word_weight: Floats
    bias: float

    def logits(self, rows: Rows, dense: Floats) -> Floats:
        """[n] of the rows."""
        scaled = rows.scaled(self.scale)
        found: Floats = scaled.dot(self.weight) + (dense * self.word_weight).sum(1) + self.bias
        return found


def fit(rows: Rows, dense: Floats, label: Floats, weight: Floats) -> Fitted:
    """L2 logistic regression on rows scaled by `unevenness` and brought to length 1."""
    scale = np.round(unevenness(rows, label, weight) / 5 * 255).clip(1, 255)
    scaled, buckets = rows.scaled(scale), rows.shape[1]

    def loss(theta: Floats) -> tuple[float, Floats]:
        logit = scaled.dot(theta[:buckets]) + WORD_SCALE * (dense * theta[buckets:-1]).sum(1) + theta[-1]
        signed = np.where(label == 1, logit, -logit)
        value = 0.5 * inner(theta[:-1], theta[:-1]) + STRENGTH * inner(weight, np.logaddexp(0, -signed))
        slope = STRENGTH * weight * (1 / (1 + np.exp(-logit)) - label)
        gradient = np.concatenate([scaled.transposed_dot(slope), WORD_SCALE * (dense.T * slope).sum(1), [slope.sum()]])
        gradient[:-1] += theta[:-1]
        return value, gradient

    theta = minimise(loss, np.zeros(buckets + dense.shape[1] + 1))
    return Fitted(scale, theta[:buckets], WORD_SCALE * theta[buckets:-1], float(theta[-1]))


def calibration(examples: Examples, rows: Rows, dense: Floats, *, seed: int) -> tuple[float, float]:
    """(slope, shift) that make the logits of folds left out into probabilities (Platt 1999), on judged rows."""
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(examples.texts))
    held = np.zeros(len(fold))
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        model = fit(rows.take(train), dense[train], examples.label[train], examples.weight[train])
        held[test] = model.logits(rows.take(test), dense[test])
    judged = examples.judged
    print(f"left-out folds of the training data: AUC {auc(examples.label[judged], held[judged]):.4f}")
    return platt(held[judged], examples.label[judged])


def auc(label: Floats, score: Floats) -> float:
    """Area under the ROC curve, ties counting one half (Hanley & McNeil 1982)."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = label.sum()
    return float((rank[label == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives)))


def packed(model: Fitted, known: Lexicon, slope: float, shift: float) -> dict[str, Any]:
    """The arrays of the file: weights in 8 bits, calibration folded in."""
    step = slope * np.abs(model.weight).max() / 127
    names = [name for name in sections() if not name.endswith("group")]
    bonus = np.zeros(len(model.word_weight))
    bonus[[len(names) + place for place, name in enumerate(names) if name.endswith("explicit")]] = EXPLICIT
    arrays: dict[str, Any] = {
        "scale": model.scale.astype(np.uint8),
        "weight": np.round(slope * model.weight / step).astype(np.int8),
        "step": np.float64(step),
        "word_weight": np.round(slope * model.word_weight + bonus, 4),
        "bias": np.float64(round(slope * model.bias + shift, 4)),
        "words": known.words,
        "word_section": known.word_section.astype(np.uint8),
        "parts": known.parts,
        "part_section": known.part_section.astype(np.uint8),
        "lengths": np.array(known.lengths, np.uint8),
    }
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())).hexdigest()
    return arrays | {"version": np.array(f"1-{digest[:8]}"), "figures": np.array("{}")}


def measure(model: ToxicityClassifier, data: Path, say: Callable[[str], object] = print) -> dict[str, float]:
    """Prints the figures of the test splits and of text that nothing was trained on; returns those of the card."""
    figures: dict[str, float] = {}
    for name in LABELLED:
        rows = turns(data / name, "test")
        label = np.array([meta["toxic"] for _, meta in rows], float)
        found = model.probabilities([text for text, _ in rows])
        called = found >= THRESHOLD
        figures[f"auc_{name[-2:]}"] = auc(label, found)
        say(f"{name} test: AUC {auc(label, found):.4f}, n {len(rows)}, recall {called[label == 1].mean():.3f}, "
            f"false positives {called[label == 0].mean():.3f}")  # fmt: skip
        fair = np.array([meta.get("fine") == 3 for _, meta in rows])
        if fair.any():
            figures["anti_bias_called_toxic"] = called[fair].mean()
            say(f"{name} anti-bias: {called[fair].sum()} of {fair.sum()} called toxic ({called[fair].mean():.3f}); "
                f"AUC without them {auc(label[~fair], found[~fair]):.4f}")  # fmt: skip
    clean: list[bool] = []
    for name in (*BENIGN, *UNSEEN):
        texts = [text for text, _ in turns(data / name, "test")]
        start = time.perf_counter()
        called = model.probabilities(texts) >= THRESHOLD
        speed = len(texts) / (time.perf_counter() - start)
        say(f"{name} test: {called.sum()} of {len(texts)} called toxic ({called.mean():.4f}), {speed:,.0f} texts/s")
        clean += called.tolist() if name in CLEAN else []
    figures["clean_called_toxic"] = float(np.mean(clean))
    return {name: round(float(value), 4) for name, value in figures.items()}


def main() -> None:
    """Trains, writes and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--out", type=Path, default=MODEL, help="file to write")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--measure-only", action="store_true", help="print the figures of the file that is there")
    given = parser.parse_args()
    if not given.measure_only:
        examples = collect(given.data, seed=given.seed)
        known, count = lexicon()
        rows, dense = features(examples.texts, known, count)
        print(f"{len(examples.texts)} texts, {int(examples.label.sum())} toxic, {len(rows.value)} n-grams")
        slope, shift = calibration(examples, rows, dense, seed=given.seed)
        arrays = packed(fit(rows, dense, examples.label, examples.weight), known, slope, shift)
        figures = measure(ToxicityClassifier.of(arrays), given.data)
        np.savez_compressed(given.out, **arrays | {"figures": np.array(json.dumps(figures))})
        print(f"{given.out.name}: {given.out.stat().st_size} bytes, {arrays['version']}, {figures}")
    else:
        print(measure(ToxicityClassifier.load(given.out), given.data))


if __name__ == "__main__":
    main()
