"""What a project file may say of labels given by several annotators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tunewright.core.config import Section

Scale = Literal["nominal", "ordinal", "interval"]
Metric = Literal["alpha", "kappa", "raw"]
Method = Literal["dawid_skene", "majority", "none"]


class AnnotationConfig(Section):
    """How far annotators agree on the labels of a row, and the one label that is made of them."""

    labels: str = "metadata.labels"
    """Where a row has its labels: an object from annotator to label, a list of {annotator, label}, or a plain list,
    whose annotators are known by position."""
    scale: Scale = "nominal"
    """`ordinal`: a difference weighs more the further two categories are apart in their order; `interval`: categories
    are numbers and differences count as they are."""
    categories: tuple[str, ...] = ()
    """The labels there are, in their order; any other is reported. Without it: the labels found, sorted (by value for
    numbers); `ordinal` needs it unless labels are numbers."""
    min_agreement: float | None = Field(default=0.8, ge=-1, le=1)
    """Below, the stage fails with exit code 5; null reports only."""
    metric: Metric = "alpha"
    """What min_agreement limits: Krippendorff's `alpha`, `kappa` (Cohen's for two annotators, else Fleiss'), or `raw`
    agreement, the share of pairs of labels that are equal."""
    consensus: Method = "dawid_skene"
    """`dawid_skene` learns how reliable each annotator is; `majority` counts; a row whose best labels are equal gets
    none."""
    write_to: str | None = None
    """A metadata key such as `metadata.intent` that gets the consensus."""

    @model_validator(mode="after")
    def _can_write(self) -> AnnotationConfig:
        if self.write_to and self.consensus == "none":
            raise ValueError("write_to needs a consensus; choose dawid_skene or majority, or leave write_to out")
        if self.write_to and self.write_to.removeprefix("metadata.") == self.labels.removeprefix("metadata."):
            raise ValueError("write_to would overwrite the labels themselves; choose another key")
        return self

    @model_validator(mode="after")
    def _categories_fit(self) -> AnnotationConfig:
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("a category is listed twice")
        if self.scale == "interval" and not all(map(_is_number, self.categories)):
            raise ValueError("scale interval needs categories that are numbers")
        return self


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False
