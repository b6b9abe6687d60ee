"""The project file: every stage's section under one root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from tunewright.core import config as yaml_config
from tunewright.core.config import Section
from tunewright.data.config import DataConfig
from tunewright.evaluate.config import EvaluateConfig
from tunewright.models.config import ModelConfig
from tunewright.quantize.config import QuantizeConfig
from tunewright.rating.config import RateConfig
from tunewright.release.config import ReleaseConfig
from tunewright.serve.config import ServeConfig
from tunewright.train.config import TrainConfig


class ProjectConfig(Section):
    """One file serves every verb."""

    name: str
    """Names the folder below runs/: letters, digits, dash, underscore, dot."""
    seed: int = Field(default=7, ge=0)
    """Every random choice follows from it."""
    model: ModelConfig = ModelConfig()
    data: DataConfig
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    serve: ServeConfig = ServeConfig()
    rate: RateConfig = RateConfig()
    release: ReleaseConfig = ReleaseConfig()

    @field_validator("name")
    @classmethod
    def _is_folder_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}", value):
            raise ValueError("use letters, digits, dash, underscore and dot only")
        return value


def load(path: Path, overrides: list[str]) -> ProjectConfig:
    """Reads and checks a project file; raises ConfigError with every fault, its line and a suggestion."""
    data, lines = yaml_config.load_yaml(path)
    yaml_config.apply_overrides(data, overrides, lines)
    return yaml_config.validate(ProjectConfig, data, lines, str(path))


def defaults_used(project: ProjectConfig) -> list[tuple[str, Any]]:
    """Every key the project file leaves out, with the value it gets."""
    found: list[tuple[str, Any]] = []
    _collect(project, "", found)
    return found


def _collect(section: Section, prefix: str, found: list[tuple[str, Any]]) -> None:
    for name in type(section).model_fields:
        value = getattr(section, name)
        key = f"{prefix}{name}"
        if isinstance(value, Section) and name in section.model_fields_set:
            _collect(value, f"{key}.", found)
        elif name not in section.model_fields_set:
            found.append((key, value.model_dump(mode="json") if isinstance(value, Section) else value))
