"""The errors a user can meet: one clear sentence, the place, the next step, and an exit code."""

from __future__ import annotations

from pathlib import Path


class TunewrightError(Exception):
    """A fault the user can act on.

    `problem` says what is wrong in one sentence, `where` names the file, line or key, `fix` the next step.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", fix: str = "") -> None:
        self.problem, self.where, self.fix = problem, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        step = f"\n  next step: {self.fix}" if self.fix else ""
        return f"{place}{self.problem}{step}"


class ConfigError(TunewrightError):
    """The project file or an override is wrong. Nothing was started."""

    exit_code = 2


class ArtifactError(TunewrightError):
    """An input artifact or file is missing, unfinished or damaged."""

    exit_code = 3


class MissingExtraError(TunewrightError):
    """A library of an optional extra is not installed."""

    exit_code = 4


class GateError(TunewrightError):
    """A gate did not pass. `folder`: the artifact that is sealed with `passed: false`, where there is one, whatever
    place the error names."""

    exit_code = 5

    def __init__(self, problem: str, *, where: str = "", fix: str = "", folder: Path | None = None) -> None:
        super().__init__(problem, where=where, fix=fix)
        self.folder = folder


class ResourceError(TunewrightError):
    """Disk, memory, a port or another resource of the machine is not available."""


class Interrupted(TunewrightError):
    """A signal ended the work; what was done is saved. The exit code is 128 + the signal's number."""

    def __init__(self, problem: str, *, signal_number: int, fix: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.exit_code = 128 + signal_number
