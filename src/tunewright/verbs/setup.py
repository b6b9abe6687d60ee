"""`init` and `doctor`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tunewright.cli import Arguments
from tunewright.core.errors import ConfigError


def init(arguments: Arguments) -> int:
    """`init KIND DIR`: a project folder that validates."""
    from tunewright import scaffold

    if len(arguments.words) != 2:
        raise ConfigError(
            f"`init` takes a kind ({', '.join(scaffold.KINDS)}) and a folder", fix="tunewright init finance my-bot"
        )
    kind, target = arguments.words
    created = scaffold.create(kind, Path(target))
    sys.stdout.write("\n".join(str(path) for path in created) + f"\nnext step: read {target}/README.md\n")
    return 0


def doctor(arguments: Arguments) -> int:
    """Fact, verdict, fix a line; exit code 1 when something fails."""
    from tunewright.doctor import checks
    from tunewright.verbs.opened import open_project

    named = arguments.words or Path("project.yaml").exists()
    opened = open_project(arguments) if named else None
    facts = checks.check(opened.config if opened else None, opened.workspace.root if opened else Path.cwd())
    if "--json" in arguments.flags:
        sys.stdout.write(json.dumps([fact.model_dump() for fact in facts], ensure_ascii=False, indent=2) + "\n")
    else:
        sys.stdout.write(checks.table(facts) + "\n")
    return int(any(fact.verdict == "fail" for fact in facts))
