"""The parts around the engine of one served project: what it is, its cache, its jobs, its log of questions.

Everything lies below `runs/<project>/served/`, which no stage reads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunewright.core.events import say as say_plainly
from tunewright.core.runs import Workspace
from tunewright.serve.app import Parts
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import open_cache
from tunewright.serve.choose import Choice
from tunewright.serve.config import ServeConfig
from tunewright.serve.folders import cache_folder, questions_file, served_folder
from tunewright.serve.jobs.service import JobService
from tunewright.serve.questions import QuestionLog
from tunewright.serve.wire import Model, now


def parts(
    workspace: Workspace, config: ServeConfig, choice: Choice, *, say: Callable[[str], None] = say_plainly
) -> Parts:
    """Opens all of them; `Parts.close` gives them back. Raises ResourceError when the embedded broker cannot run."""
    info = choice.info
    adapter = info.method if info.kind == "adapter" else None
    cache = open_cache(config.cache, cache_folder(workspace), tell=say)
    jobs = None
    if config.jobs.broker != "off":
        jobs = JobService(workspace.project, config.jobs, _made(workspace), keys=config.tenants, tell=say)
    return Parts(
        Model(
            id=workspace.project,
            created=now(),
            base=info.base,
            adapter=adapter,
            variant=choice.variant,
            artifact=workspace.relative(choice.artifact.path),
        ),
        identity=Identity(
            model=f"{choice.artifact.manifest_sha256}/{choice.variant}",
            template=info.chat_template_sha256,
            adapter=adapter or "",
        ),
        cache=cache,
        jobs=jobs,
        questions=QuestionLog(questions_file(workspace), tell=say) if config.log_questions else None,
    )


def _made(workspace: Workspace) -> Path:
    folder = served_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
