"""The built-in toxicity classifier for Chinese and English: numpy alone, no network, the same figure on every machine.

A logistic regression over hashed character n-grams whose counts are scaled by how unevenly they occur in toxic and
other texts (NB-SVM, Wang & Manning 2012), and over counts of listed words (`grams`). How it was made, on which data,
what it measures and what it gets wrong: TOXICITY.md beside this file; `tools/train_toxicity.py` makes it again.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tunewright.core.errors import ArtifactError
from tunewright.core.text.grams import Batch, Indices, Lexicon, batches, bucket_of, plain

Floats = NDArray[np.float64]
MODEL = Path(__file__).with_name("toxicity.npz")
BITS = 17
"""2^17 buckets of n-grams: two bytes each keep the file under 300 KiB."""
PIECE_CHARS = 300
"""A longer text is cut at the end of a sentence, and is as toxic as its worst piece."""
THRESHOLD = 0.5
_SIGNS = "?!"
_MOST_SIGNS = 3
_END = re.compile(r"[.!?;](?=\s|[^\x00-\x7f])|[\u3001,](?=[^\x00-\x7f])|\s")


@dataclass(frozen=True)
class Grams:
    """Different n-grams of texts: `bucket[i]` stands in text `document[i]`, with the weight `count[i]` = 1 + ln of how
    often. Sorted by document, then bucket."""

    document: Indices
    bucket: Indices
    count: Floats


def gram_features(batch: Batch) -> Grams:
    """The n-grams of a batch, each bucket once a text."""
    keys = np.concatenate([(owner << BITS) | bucket_of(hashes, BITS) for owner, hashes in batch.grams()])
    keys, counts = np.unique(keys, return_counts=True)
    return Grams(keys >> BITS, keys & ((1 << BITS) - 1), 1 + np.log(counts))


def word_features(batch: Batch, lexicon: Lexicon, sections: int) -> Floats:
    """[texts, 2 sections + 2]: ln(1 + listed words) and whether there is any, by section; question and call marks."""
    found = [owner * sections + section for owner, section in batch.words(lexicon)]
    counts = np.bincount(np.concatenate(found), minlength=batch.count * sections).reshape(batch.count, sections)
    signs = [np.minimum(batch.signs(sign), _MOST_SIGNS) / _MOST_SIGNS for sign in _SIGNS]
    return np.concatenate([np.log1p(counts), counts > 0, np.stack(signs, 1)], axis=1)


def pieces(text: str) -> Iterator[str]:
    """`text` as `plain` writes it, in pieces of at most PIECE_CHARS; nothing is left out but blanks."""
    rest = plain(text)
    while len(rest) > PIECE_CHARS:
        ends = [match.end() for match in _END.finditer(rest, PIECE_CHARS // 2, PIECE_CHARS)]
        cut = ends[-1] if ends else PIECE_CHARS
        yield rest[:cut].strip()
        rest = rest[cut:].strip()
    yield rest


@dataclass(frozen=True)
class ToxicityClassifier:
    """scale, weight: [2^BITS] of the buckets; word_weight: [2 sections + 2]; bias of the logit.

    figures: what it measured when it was made, at THRESHOLD: auc_zh, auc_en, clean_called_toxic (share of clean text),
    anti_bias_called_toxic (share of sentences that speak about groups without attacking them).
    """

    version: str
    figures: Mapping[str, float]
    scale: Floats
    weight: Floats
    lexicon: Lexicon
    word_weight: Floats
    bias: float

    @staticmethod
    def load(path: Path = MODEL) -> ToxicityClassifier:
        """From the file that `tools/train_toxicity.py` writes. Raises ArtifactError where it is absent or damaged."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                return ToxicityClassifier.of({name: archive[name] for name in archive.files})
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise ArtifactError(
                f"the toxicity classifier cannot be read: {error}", where=str(path), fix="install tunewright again"
            ) from None

    @staticmethod
    def of(arrays: Mapping[str, Any]) -> ToxicityClassifier:
        """From the arrays of the file. Raises KeyError where one is missing, ValueError where shapes do not fit."""
        if arrays["scale"].shape != (1 << BITS,) or arrays["weight"].shape != (1 << BITS,):
            raise ValueError(f"expected {1 << BITS} buckets")
        lexicon = Lexicon(
            arrays["words"],
            arrays["word_section"].astype(np.int64),
            arrays["parts"],
            arrays["part_section"].astype(np.int64),
            tuple(arrays["lengths"].tolist()),
        )
        return ToxicityClassifier(
            version=str(arrays["version"]),
            figures=json.loads(str(arrays["figures"])),
            scale=arrays["scale"].astype(float),
            weight=arrays["weight"] * float(arrays["step"]),
            lexicon=lexicon,
            word_weight=arrays["word_weight"],
            bias=float(arrays["bias"]),
        )

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts] how probable it is that each text is toxic, 0 to 1; 0 for one without a letter or sign."""
        parts = [(index, piece) for index, text in enumerate(texts) for piece in pieces(text)]
        found = np.zeros(len(texts))
        if parts:
            logits = np.concatenate([self._logits(batch) for batch in batches([piece for _, piece in parts])])
            owner = np.array([index if piece else -1 for index, piece in parts])
            np.maximum.at(found, owner[owner >= 0], 1 / (1 + np.exp(-logits[owner >= 0])))
        return found

    def probability(self, text: str) -> float:
        """The same of one text."""
        return float(self.probabilities([text])[0])

    def worst_piece(self, text: str) -> str:
        """The piece that decides, as it is compared: for reports."""
        found = list(pieces(text))
        return found[int(np.argmax(self.probabilities(found)))]

    def _logits(self, batch: Batch) -> Floats:
        grams = gram_features(batch)
        scaled = grams.count * self.scale[grams.bucket]
        dot = np.bincount(grams.document, scaled * self.weight[grams.bucket], minlength=batch.count)
        norm = np.sqrt(np.bincount(grams.document, scaled**2, minlength=batch.count))
        words = word_features(batch, self.lexicon, (len(self.word_weight) - len(_SIGNS)) // 2)
        # summed a column at a time: a matrix product may round differently for another number of rows
        listed = sum(
            (words[:, column] * weight for column, weight in enumerate(self.word_weight)), np.zeros(len(words))
        )
        logits: Floats = dot / np.maximum(norm, 1e-12) + listed + self.bias
        return logits


@cache
def builtin() -> ToxicityClassifier:
    """The classifier that comes with the package, loaded once."""
    return ToxicityClassifier.load()
