"""What a project file may say of each rival. Light: no torch, no network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tunewright.core.registry import Entry, PluginOptions, Registry
from tunewright.evaluate.systems.options import Address

_HERE = "tunewright.evaluate.rivals"
RIVALS = Registry(
    "rivals",
    {
        "few_shot": Entry(f"{_HERE}.few_shot:FewShot", f"{_HERE}.options:FewShotOptions", "train"),
        "tfidf": Entry(f"{_HERE}.classifiers:Tfidf", f"{_HERE}.options:TfidfOptions"),
        "embedding": Entry(f"{_HERE}.classifiers:Embedding", f"{_HERE}.options:EmbeddingOptions", "train"),
        "http": Entry(f"{_HERE}.http:Http", f"{_HERE}.options:HttpOptions"),
    },
)


class RivalOptions(PluginOptions):
    """What every rival can be told."""

    title: str = Field(default="", max_length=40)
    """How tables call it; by default the plug-in's name, for `http` the model's name."""


class FewShotOptions(RivalOptions):
    """The base model with examples of the training split in its prompt, as turns before the question."""

    name: Literal["few_shot"] = "few_shot"
    examples: int = Field(default=8, ge=1, le=200)
    """How many, drawn with the project's seed; the same number of each label, as far as it goes. A question gets fewer
    where its context has no room for all of them."""


class ClassifierOptions(RivalOptions):
    """Logistic regression on the labels of the training split; it answers the rows of the `intent` metric."""

    strength: float = Field(default=10.0, gt=0)
    """Inverse strength of the L2 penalty, scikit-learn's `C`."""
    epochs: int = Field(default=20, ge=1, le=1000)
    """Passes over the training rows."""


class TfidfOptions(ClassifierOptions):
    """TF-IDF of words, word pairs and character n-grams, and logistic regression: no chat model, no GPU, no torch."""

    name: Literal["tfidf"] = "tfidf"
    min_rows: int = Field(default=2, ge=1)
    """An n-gram of fewer training rows is left out; every one is kept where that would leave none."""


class EmbeddingOptions(ClassifierOptions):
    """Mean-pooled hidden states of a local model, and logistic regression."""

    name: Literal["embedding"] = "embedding"
    path: str
    """Folder of the model, relative to the project file: config.json, tokenizer.json, safetensors weights."""
    batch_size: int = Field(default=32, ge=1)
    """Texts embedded together."""


class HttpOptions(RivalOptions):
    """Any OpenAI-compatible endpoint, asked as the base model is, with what its answers cost."""

    name: Literal["http"] = "http"
    endpoint: Address
    price_input: float | None = Field(default=None, ge=0)
    """Price of a million tokens of prompt."""
    price_output: float | None = Field(default=None, ge=0)
    """Price of a million tokens of answer."""
    currency: str = Field(default="USD", min_length=1, max_length=8)
