"""The workspace: `runs/<project>/<stage>/<number>/`, finding, opening, sealing, checking and pruning artifacts."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core import events, files, manifest
from tunewright.core.errors import ArtifactError, ResourceError
from tunewright.core.machine import describe
from tunewright.core.manifest import InputRef, Manifest

STAGES = ("data", "train", "evaluate", "quantize", "chain", "serve", "report")
PLAN = "plan.json"
LOCK = ".lock"


@dataclass(frozen=True)
class Artifact:
    """A finished stage's folder. Files are proven against the manifest on first use."""

    path: Path
    manifest: Manifest
    _proven: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Raises ArtifactError when `path` is unfinished or damaged."""
        return cls(path, manifest.read(path))

    def file(self, name: str) -> Path:
        """The file `name`, after checking its hash; raises ArtifactError when it is missing or changed."""
        place = self.path / name
        record = next((record for record in self.manifest.files if record.path == name), None)
        if record is None:
            raise ArtifactError(f"the artifact has no file '{name}'", where=str(self.path), fix="run its stage again")
        if name not in self._proven:
            _prove(place, record)
            self._proven.add(name)
        return place

    def folder(self, name: str) -> Path:
        """The folder `name`, after checking every file in it."""
        inside = [record.path for record in self.manifest.files if record.path.startswith(f"{name}/")]
        if not inside:
            raise ArtifactError(f"the artifact has no folder '{name}'", where=str(self.path), fix="run its stage again")
        for path in inside:
            self.file(path)
        return self.path / name

    def json(self, name: str) -> Any:
        """Parsed content of a JSON file."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))

    def jsonl(self, name: str) -> list[Any]:
        """Parsed rows of a JSONL file."""
        text = self.file(name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.split("\n") if line]

    @property
    def manifest_sha256(self) -> str:
        """What another manifest records of this one."""
        return files.sha256(self.path / manifest.NAME)


def _prove(place: Path, record: manifest.FileRecord) -> None:
    if not place.exists():
        raise ArtifactError("this file of a finished artifact is missing", where=str(place), fix="run its stage again")
    if place.stat().st_size != record.bytes or files.sha256(place) != record.sha256:
        raise ArtifactError(
            "this file was changed after its stage sealed it",
            where=str(place),
            fix="delete the artifact and run its stage again",
        )


@dataclass(frozen=True)
class Workspace:
    """All artifacts of one project; `root` is the folder of the project file."""

    root: Path
    project: str

    def stage_directory(self, stage: str) -> Path:
        """Where the numbered artifacts of a stage are."""
        return self.root / "runs" / self.project / stage

    def directories(self, stage: str) -> list[Path]:
        """All numbered folders of a stage, oldest first, finished or not."""
        found = self.stage_directory(stage).glob("[0-9][0-9][0-9][0-9]*")
        return sorted((path for path in found if path.is_dir()), key=lambda path: int(path.name))

    def finished(self, stage: str) -> list[Artifact]:
        """Finished artifacts, oldest first."""
        return [Artifact.open(path) for path in self.directories(stage) if (path / manifest.NAME).exists()]

    def newest(self, stage: str) -> Artifact:
        """The newest finished artifact that passed; raises ArtifactError when there is none."""
        for artifact in reversed(self.finished(stage)):
            if artifact.manifest.passed:
                return artifact
        raise ArtifactError(
            f"there is no finished '{stage}' artifact that passed",
            where=str(self.stage_directory(stage)),
            fix=f"run `tunewright {stage}` with this project file first",
        )

    def relative(self, path: Path) -> str:
        """`path` relative to the project file, as manifests record it."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def reference(self, artifact: Artifact) -> InputRef:
        """The lineage entry for an input artifact."""
        return InputRef(path=self.relative(artifact.path), sha256=artifact.manifest_sha256)

    def source(self, path: Path) -> InputRef:
        """The lineage entry for a raw input file."""
        return InputRef(path=self.relative(path), sha256=files.sha256(path))

    def resolve(self, reference: InputRef) -> Path:
        """Where a recorded input is."""
        return (self.root / reference.path).resolve()


class Output:
    """An artifact being written. Leave without `seal` and it stays unfinished; nothing reads it as finished."""

    def __init__(self, workspace: Workspace, path: Path, plan: dict[str, Any], lock: int, *, resumed: bool) -> None:
        self.workspace, self.path, self.resumed = workspace, path, resumed
        self.events = events.Events(path / "events.jsonl")
        self.facts: dict[str, Any] = {}
        self._plan, self._lock = plan, lock

    def seal(self, *, passed: bool = True) -> Artifact:
        """Hashes the files, writes the manifest last, releases the lock."""
        with files.disk_errors(self.path):
            sealed = Manifest(
                created=manifest.now(),
                passed=passed,
                files=manifest.record_files(self.path),
                facts=self.facts,
                machine=describe(),
                **self._plan,
            )
            manifest.write(self.path, sealed)
        self.release()
        return Artifact.open(self.path)

    def release(self) -> None:
        """Gives the folder free for another process."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def begin(
    workspace: Workspace,
    stage: str,
    config: Mapping[str, Any],
    inputs: tuple[InputRef, ...],
    *,
    resumable: bool = False,
) -> Output | Artifact:
    """Opens a folder for a stage, or returns the finished artifact with the same settings and inputs.

    An unfinished folder of the same settings is continued when `resumable`, else emptied and used again.
    Raises ResourceError when another process is writing it, or the disk is full.
    """
    mark = manifest.fingerprint(stage, config, inputs)
    for artifact in reversed(workspace.finished(stage)):
        if artifact.manifest.fingerprint == mark:
            events.say(f"{stage}: settings and inputs are those of {workspace.relative(artifact.path)}, nothing to do")
            return artifact
    plan = {"stage": stage, "fingerprint": mark, "config": dict(config), "inputs": [i.model_dump() for i in inputs]}
    directories = workspace.directories(stage)
    same = next((path for path in reversed(directories) if _planned(path) == mark), None)
    number = int(directories[-1].name) + 1 if directories else 1
    path = same or workspace.stage_directory(stage) / f"{number:04d}"
    with files.disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = _lock(path)
        if same and not resumable:
            _empty(path)
        files.write_json(path / PLAN, plan)
        files.write_text(path / "config.yaml", _as_yaml(config))
    return Output(workspace, path, plan, lock, resumed=bool(same) and resumable)


def _planned(path: Path) -> str:
    if (path / manifest.NAME).exists() or not (path / PLAN).exists():
        return ""
    try:
        return str(json.loads((path / PLAN).read_text(encoding="utf-8"))["fingerprint"])
    except (ValueError, KeyError):
        return ""


def _lock(path: Path) -> int:
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ResourceError(
            "another process is working on this stage", where=str(path), fix="wait for it, or stop it"
        ) from None
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether a live process is writing this folder."""
    if not (path / LOCK).exists():
        return False
    try:
        os.close(_lock(path))
    except ResourceError:
        return True
    return False


def _empty(path: Path) -> None:
    for child in path.iterdir():
        if child.name == LOCK:
            continue
        if child.is_dir():
            shutil.rmtree(child)
        else:
            child.unlink()


def _as_yaml(config: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, allow_unicode=True)


def verify(workspace: Workspace) -> list[str]:
    """Faults of all finished artifacts: changed files, and inputs that are no longer what was recorded."""
    faults = []
    for stage in STAGES:
        for path in workspace.directories(stage):
            if not (path / manifest.NAME).exists():
                continue
            try:
                artifact = Artifact.open(path)
                for record in artifact.manifest.files:
                    artifact.file(record.path)
            except ArtifactError as error:
                faults.append(str(error))
                continue
            faults += _lineage_faults(workspace, artifact)
    return faults


def _lineage_faults(workspace: Workspace, artifact: Artifact) -> list[str]:
    faults = []
    for reference in artifact.manifest.inputs:
        place = workspace.resolve(reference)
        hashed = place / manifest.NAME if place.is_dir() else place
        if not hashed.exists():
            faults.append(f"{artifact.path}: its input {reference.path} is gone")
        elif files.sha256(hashed) != reference.sha256:
            faults.append(f"{artifact.path}: its input {reference.path} has changed since")
    return faults


def prunable(workspace: Workspace, keep: int, in_use: Sequence[Path] = ()) -> list[Path]:
    """Folders that `prune --keep` removes: unfinished ones that nobody is writing, and finished ones that are
    neither among the `keep` newest of their stage, nor `in_use`, nor inputs of one that stays."""
    kept: set[Path] = {path.resolve() for path in in_use if (path / manifest.NAME).exists()}
    for stage in STAGES:
        kept |= {artifact.path.resolve() for artifact in workspace.finished(stage)[-keep:]}
    pending = list(kept)
    while pending:
        for reference in manifest.read(pending.pop()).inputs:
            place = workspace.resolve(reference)
            if place.is_dir() and place not in kept and (place / manifest.NAME).exists():
                kept.add(place)
                pending.append(place)
    every = [path for stage in STAGES for path in workspace.directories(stage)]
    return [path for path in every if path.resolve() not in kept and not is_locked(path)]


def freed_bytes(paths: list[Path]) -> int:
    """What removing `paths` frees: a hard-linked file counts only when its last link goes."""
    links: dict[tuple[int, int], list[int]] = {}
    for path in paths:
        for child in path.rglob("*"):
            if child.is_file() and not child.is_symlink():
                status = child.stat()
                entry = links.setdefault((status.st_dev, status.st_ino), [0, status.st_nlink, status.st_size])
                entry[0] += 1
    return sum(size for seen, count, size in links.values() if seen == count)
