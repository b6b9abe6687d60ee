"""Verbs that only look: `runs`, `config`, `plugins`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tunewright.cli import Arguments
from tunewright.core import manifest, named
from tunewright.core import runs as workspace_runs
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.files import human_bytes
from tunewright.core.runs import Artifact, Workspace


def runs(arguments: Arguments) -> int:
    """list, show, verify, prune, compare."""
    from tunewright.verbs.opened import open_project

    workspace = open_project(arguments).workspace
    if arguments.subverb == "compare":
        from tunewright.verbs.advise import compare_runs

        return compare_runs(arguments, workspace)
    return {"list": _list, "show": _show, "verify": _verify, "prune": _prune}[arguments.subverb](arguments, workspace)


def _list(arguments: Arguments, workspace: Workspace) -> int:
    rows = [_row(workspace, path) for stage in workspace_runs.STAGES for path in workspace.directories(stage)]
    if "--json" in arguments.flags:
        _json(rows)
    elif not rows:
        sys.stdout.write(f"no artifacts yet below {workspace.root / 'runs' / workspace.project}\n")
    else:
        sys.stdout.writelines(
            f"{r['state']:<10} {r['created']:<20} {human_bytes(r['bytes']):>9}  {r['path']}\n" for r in rows
        )
    return 0


def _row(workspace: Workspace, path: Path) -> dict[str, Any]:
    size = sum(child.stat().st_size for child in path.rglob("*") if child.is_file())
    row = {"path": workspace.relative(path), "state": "unfinished", "created": "", "bytes": size}
    if workspace_runs.is_locked(path):
        row["state"] = "running"
    if (path / manifest.NAME).exists():
        try:
            found = manifest.read(path)
            row |= {"state": "passed" if found.passed else "failed", "created": f"{found.created:%Y-%m-%d %H:%M:%S}"}
        except ArtifactError:
            row["state"] = "damaged"
    return row


def _show(arguments: Arguments, workspace: Workspace) -> int:
    named = [Path(word) for word in arguments.names()]
    if not named:
        raise ConfigError("`runs show` needs an artifact's folder", fix="`tunewright runs list` prints them")
    path = named[0] if named[0].is_dir() else workspace.root / named[0]
    artifact = Artifact.open(path)
    shown = artifact.manifest.model_dump(mode="json")
    shown["manifest_sha256"] = artifact.manifest_sha256
    if "--json" not in arguments.flags:
        shown["files"] = (
            f"{len(artifact.manifest.files)} files, {human_bytes(sum(f.bytes for f in artifact.manifest.files))}"
        )
    _json(shown)
    return 0


def _verify(arguments: Arguments, workspace: Workspace) -> int:
    faults = workspace_runs.verify(workspace)
    if "--json" in arguments.flags:
        _json({"faults": faults})
    else:
        count = sum(len(workspace.finished(stage)) for stage in workspace_runs.STAGES) if not faults else 0
        sys.stdout.write(
            "\n".join(faults) + "\n" if faults else f"{count} artifacts: all files and inputs are as sealed\n"
        )
    return 3 if faults else 0


def _prune(arguments: Arguments, workspace: Workspace) -> int:
    if arguments.keep is None:
        raise ConfigError("`runs prune` needs --keep N", fix="add --dry-run first to see what goes")
    paths = workspace_runs.prunable(workspace, arguments.keep, named.in_use(workspace))
    freed = workspace_runs.freed_bytes(paths)
    dry = "--dry-run" in arguments.flags
    if not dry:
        for path in paths:
            shutil.rmtree(path)
    listed = [workspace.relative(path) for path in paths]
    if "--json" in arguments.flags:
        _json({"removed": [] if dry else listed, "would_remove": listed if dry else [], "bytes": freed})
    else:
        verb = "would remove" if dry else "removed"
        sys.stdout.write(
            "".join(f"{verb} {path}\n" for path in listed) + f"{verb} {len(paths)} folders, {human_bytes(freed)}\n"
        )
    return 0


def config(arguments: Arguments) -> int:
    """check, explain, schema."""
    from tunewright import reference
    from tunewright.project import ProjectConfig, defaults_used
    from tunewright.verbs.opened import open_project

    if arguments.subverb == "schema":
        _json(ProjectConfig.model_json_schema())
        return 0
    if arguments.subverb == "explain" and not arguments.words and not Path("project.yaml").exists():
        sys.stdout.write(reference.project_file_page())
        return 0
    opened = open_project(arguments)
    if arguments.subverb == "explain":
        sys.stdout.writelines(
            f"{key} = {json.dumps(value, default=str)}  (default)\n" for key, value in defaults_used(opened.config)
        )
        return 0
    if "--json" in arguments.flags:
        _json(opened.config.model_dump(mode="json"))
    else:
        sys.stdout.write(f"{opened.file}: fine\n")
    return 0


def plugins(arguments: Arguments) -> int:
    """Every name that can be chosen, by kind, with its first line of documentation."""
    from tunewright import reference

    kinds = {registry.kind: registry for registry in reference.registries()}
    wanted = arguments.words or list(kinds)
    if unknown := [kind for kind in wanted if kind not in kinds]:
        raise ConfigError(f"there is no kind '{unknown[0]}'", fix=f"known: {', '.join(kinds)}")
    found = {
        kind: {n: reference.summary(kinds[kind].options(n)) for n in sorted(kinds[kind].entries)} for kind in wanted
    }
    if "--json" in arguments.flags:
        _json(found)
    else:
        for kind, names in found.items():
            sys.stdout.write(f"{kind}\n" + "".join(f"  {name:<12} {text}\n" for name, text in names.items()))
    return 0


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
