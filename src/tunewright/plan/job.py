"""What is to be trained: the model's configuration and the rows of each step, without a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.errors import ConfigError
from tunewright.core.runs import Artifact, Workspace
from tunewright.models import source
from tunewright.models.config import ModelConfig
from tunewright.models.packing import computed_tokens
from tunewright.models.tokens import ChatTokenizer, Example
from tunewright.project import ProjectConfig
from tunewright.train.config import TrainConfig
from tunewright.train.footprint import blank
from tunewright.train.footprint.predict import made_up
from tunewright.train.plan import DEFAULT_EPOCHS, DEFAULT_ROWS
from tunewright.train.rows import load_rows, shares_prefixes

ASSUMED_ROW = 512
"""Tokens of a row where there are none yet; half of them are taken to be trained."""
ASSUMED_SHARE = 0.5


@dataclass(frozen=True)
class Job:
    """config: transformers' of the base; settings: the project's `train:`; steps: rows of each optimizer step, one made
    up step where `data` is None. tokens, computed: of the whole training."""

    model: str
    config: Any
    settings: TrainConfig
    dtype: ModelConfig
    steps: Sequence[Sequence[Example]]
    data: Artifact | None
    tokens: int
    computed: int

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(len(example.input_ids) for step in self.steps for example in step)


def config_file(model: ModelConfig, root: Path) -> Path:
    """The folder with the model's config.json, without fetching a weight.

    Raises ConfigError for a Hugging Face id of which nothing is in the local cache.
    """
    if source.is_local(model, root):
        return source.resolve(model, root)
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model.path, "config.json", revision=model.revision)
    if isinstance(found, str):
        return Path(found).parent
    raise ConfigError(
        f"'{model.path}' is not on this machine, and a plan fetches nothing",
        where="model.path",
        fix="download its config.json and name it: --model-config PATH",
    )


def job_of(
    project: ProjectConfig | None, workspace: Workspace | None, data: Artifact | None, *, model_config: Path | None
) -> Job:
    """project: None for the defaults of `train:`. model_config: plans for this model instead of the project's; its rows
    are then counted in the project's tokens."""
    settings = project.train if project else TrainConfig()
    model = project.model if project else ModelConfig()
    root = workspace.root if workspace else Path()
    trust = model.trust_remote_code
    place = model_config or config_file(model, root)
    config = blank.read_config(place, trust_remote_code=trust)
    name = str(model_config) if model_config else model.path
    if data is None or workspace is None or project is None:
        steps = [_made_up_step(settings, config)]
        return Job(name, config, settings, model, steps, None, 0, 0)
    folder = config_file(model, root)
    steps = _steps(workspace, settings, data, folder, project)
    tokens = sum(len(example.input_ids) for step in steps for example in step)
    share = settings.packing and shares_prefixes(settings)
    computed = sum(computed_tokens(s, max_tokens=settings.micro_batch_tokens, share_prefix=share) for s in steps)
    return Job(name, config, settings, model, steps, data, tokens, computed)


def _steps(
    workspace: Workspace, settings: TrainConfig, data: Artifact, folder: Path, project: ProjectConfig
) -> list[list[Example]]:
    tokenizer = ChatTokenizer.load(folder)
    longest = min(project.model.max_length or tokenizer.max_length, tokenizer.max_length)
    without_exam = settings.model_copy(update={"evaluate_generated": None, "early_stopping": None})
    rows = load_rows(
        workspace,
        without_exam,
        data,
        tokenizer=tokenizer,
        tokenizer_from=folder,
        max_length=longest - int(getattr(settings.method, "virtual_tokens", 0)),
        seed=project.seed,
        exam=None,
    )
    return [[rows.training[row] for row in step] for step in rows.plan.steps]


def _made_up_step(settings: TrainConfig, config: Any) -> list[Example]:
    """Rows enough for several micro-batches, as the defaults of `train:` have them."""
    limit = int(getattr(config.get_text_config(), "max_position_embeddings", None) or ASSUMED_ROW)
    row = min(ASSUMED_ROW, limit, settings.micro_batch_tokens)
    tokens = settings.tokens_per_step or row * (settings.rows_per_step or DEFAULT_ROWS)
    return made_up(max(tokens, row), row, ASSUMED_SHARE)


def passes(settings: TrainConfig) -> str:
    """`3 epochs`, `500 steps`: what the project asks for."""
    return f"{settings.steps} steps" if settings.steps else f"{settings.epochs or DEFAULT_EPOCHS:g} epochs"
