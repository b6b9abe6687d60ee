"""A project file opened for a verb."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunewright import project
from tunewright.cli import Arguments
from tunewright.core.runs import Artifact, Workspace
from tunewright.project import ProjectConfig


@dataclass(frozen=True)
class Opened:
    """The checked project, where it lies, and an artifact that --from names."""

    file: Path
    config: ProjectConfig
    workspace: Workspace
    override: Artifact | None

    def artifact(self, stage: str) -> Artifact:
        """The --from artifact when it is of this stage, else the newest that passed."""
        if self.override is not None and self.override.manifest.stage == stage:
            return self.override
        return self.workspace.newest(stage)


def open_project(arguments: Arguments) -> Opened:
    """Reads the project file named on the command line with its overrides."""
    file = arguments.project_file()
    config = project.load(file, arguments.overrides)
    workspace = Workspace(file.resolve().parent, config.name)
    override = None
    if arguments.from_directory is not None and (arguments.from_directory / "manifest.json").exists():
        override = Artifact.open(arguments.from_directory.resolve())
    return Opened(file, config, workspace, override)
