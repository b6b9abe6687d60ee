"""Options of the metrics of the model itself; imports core only, so that `evaluate.config` can import it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from tunewright.core.registry import PluginOptions


class PerplexityOptions(PluginOptions):
    """Loss and perplexity on the test rows, over the tokens that training would train; also on a plain text."""

    name: Literal["perplexity"] = "perplexity"
    rows: int | None = Field(default=None, ge=1)
    """At most this many test rows, drawn with the project's seed; default all."""
    path: str = ""
    """A plain text file in UTF-8; adds `loss.text` and `perplexity.text`."""
    piece_chars: int = Field(default=2000, ge=100)
    """The text is cut into pieces of about this many characters at line ends; each is one line of the statistics."""

    @property
    def named_files(self) -> tuple[str, ...]:
        """Files whose content decides the numbers."""
        return (self.path,) if self.path else ()


class ForgettingOptions(PluginOptions):
    """Loss and perplexity on conversations that have nothing to do with the project: what the tuned model forgot."""

    name: Literal["forgetting"] = "forgetting"
    path: str = Field(min_length=1)
    """A JSON Lines file of general conversations, from the project file's folder: `conversation`, `messages`,
    `conversations`, `prompt` and `completion`, or `instruction`, `input` and `output`."""
    rows: int = Field(default=100, ge=2)
    """At most this many rows, drawn with the project's seed."""

    @property
    def named_files(self) -> tuple[str, ...]:
        """Files whose content decides the numbers."""
        return (self.path,)


class MemorizationOptions(PluginOptions):
    """How much of the training rows the model completes word for word (Carlini et al. 2021 and 2023)."""

    name: Literal["memorization"] = "memorization"
    rows: int = Field(default=100, ge=2)
    """Training rows that are tried, drawn with the project's seed among those with a long enough answer."""
    prefix_tokens: int = Field(default=16, ge=0)
    """Tokens of the answer that the model is given behind the question."""
    continuation_tokens: int = Field(default=32, ge=4)
    """Tokens that it must then write as they stand in the training row."""


class LmEvalOptions(PluginOptions):
    """Tasks of lm-evaluation-harness, run as a program of its own on the model's folder."""

    name: Literal["lm_eval"] = "lm_eval"
    tasks: dict[str, str] = Field(min_length=1)
    """Task or group and the metric that is read from it, for example `{ceval-valid: acc, gsm8k: exact_match}`. Where a
    task has several filters, name one behind a comma: `"exact_match,strict-match"`."""
    python: str = ""
    """The Python that has lm-evaluation-harness; default `lm_eval` on the PATH, else the Python of tunewright."""
    include_path: str = ""
    """A folder with task files of your own, from the project file's folder."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples shown before each question; default what the task says."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many rows a task."""
    chat_template: bool = True
    """Whether questions are asked through the model's chat template."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rows that the harness takes together; default evaluate.batch_size."""
    timeout_s: float = Field(default=7200, gt=0)
    """The longest that one system may take."""

    @field_validator("tasks")
    @classmethod
    def _are_names(cls, value: dict[str, str]) -> dict[str, str]:
        for task, metric in value.items():
            if not task.strip() or not metric.strip() or any(sign in task for sign in ", \t\n") or task[0] == "-":
                raise ValueError("write {TASK: METRIC}, for example {gsm8k: exact_match}")
        return value
