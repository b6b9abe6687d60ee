"""How alike an embedder finds questions that have nothing to do with each other: below that its cosine tells nothing.

Embedders differ widely here: with mean-pooled SmolLM2-135M such questions are up to 0.94 alike in English and up to
0.99 in Chinese, so one threshold for all embedders would give answers to other questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

BLIND = 0.995
"""From this cosine of unrelated questions on an embedder tells nothing: it does not know the letters, for example."""
UNRELATED = {
    "en": (
        "How do I change my password?",
        "How do I apply for a loan?",
        "How do I book a hotel?",
        "How do I cook rice?",
        "How do I learn the piano?",
        "How do I treat a cough?",
        "How do I write an essay?",
        "How do I fix a flat tyre?",
    ),
    "zh": (
        "怎么修改密码？",
        "怎么申请贷款？",
        "怎么预订酒店？",
        "怎么煮米饭？",
        "怎么学钢琴？",
        "怎么治咳嗽？",
        "怎么写作文？",
        "怎么补轮胎？",
    ),
}
"""By language: questions of one form about different things, the kind that the guards cannot tell apart."""


def floors(vector: Callable[[str], NDArray[np.float32]]) -> dict[str, float]:
    """The highest cosine between two of `UNRELATED`, by language. vector: of a text, length 1."""
    found = {}
    for language, questions in UNRELATED.items():
        vectors = np.stack([vector(question) for question in questions])
        cosines = vectors @ vectors.T
        found[language] = float(cosines[~np.eye(len(questions), dtype=bool)].max())
    return found


def least_cosines(threshold: float, floors: Mapping[str, float]) -> dict[str, float]:
    """From which cosine on a question counts as alike, by language: the threshold of the project file, and at least
    half the way from the floor to 1, since among thousands of questions some are more alike than eight show. A
    language that the embedder is blind in is left out."""
    return {name: max(threshold, (1 + floor) / 2) for name, floor in floors.items() if floor < BLIND}


def in_words(least: Mapping[str, float]) -> str:
    """What the server says at its start."""
    said = [
        f"in {name} from a cosine of {least[key]:.3f} on" if key in least else f"not in {name}, which it cannot read"
        for key, name in (("en", "English"), ("zh", "Chinese"))
    ]
    return f"serve: the embedder compares questions {', '.join(said)}"
