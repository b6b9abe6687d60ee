"""The parts around the engine of one served project: what it is, its cache, its jobs, its log of questions.

Everything lies below `runs/<project>/served/`, which no stage reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
from tunewright.serve.roster import Sources, identity_of, model_of
from tunewright.serve.scores import scores_of
from tunewright.serve.wire import Model


def parts(
    workspace: Workspace,
    config: ServeConfig,
    choice: Choice,
    sources: Sources | None = None,
    *,
    say: Callable[[str], None] = say_plainly,
) -> Parts:
    """Opens all of them; `Parts.close` gives them back. sources: where further models come from. Raises ResourceError
    when the embedded broker cannot run."""
    made = around(workspace, config, model_of(workspace, workspace.project, choice), identity_of(choice), say=say)
    scores = scores_of(workspace, choice, sources.primary) if sources and sources.primary else {}
    return replace(made, scores=scores, sources=sources)


def around(
    workspace: Workspace, config: ServeConfig, model: Model, identity: Identity, *, say: Callable[[str], None]
) -> Parts:
    """The parts around any model, also one that is no artifact of ours. Raises as `parts`."""
    cache = open_cache(config.cache, cache_folder(workspace), root=workspace.root, tell=say)
    jobs = None
    if config.jobs.broker != "off":
        jobs = JobService(workspace.project, config.jobs, _made(workspace), keys=config.tenants, tell=say)
    return Parts(
        model,
        identity=identity,
        cache=cache,
        jobs=jobs,
        questions=QuestionLog(questions_file(workspace), tell=say) if config.log_questions else None,
    )


def _made(workspace: Workspace) -> Path:
    folder = served_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
