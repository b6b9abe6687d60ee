"""The verb `evaluate --chain`: proves that what was trained is what is merged, stored and served; seals chain.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.chain import questions, rendering, served, sources
from tunewright.chain.door import Door
from tunewright.chain.questions import Chosen
from tunewright.chain.sources import Place
from tunewright.chain.steps import Outcome, Step
from tunewright.chain.verdict import Verdict, reach
from tunewright.chain.walk import Task, Walk
from tunewright.core import files
from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError, GateError
from tunewright.core.events import say
from tunewright.core.manifest import now
from tunewright.core.runs import Artifact, Workspace, begin
from tunewright.models import tuned
from tunewright.project import ProjectConfig

STAGE = "chain"
CHAIN = "chain.json"
FORMAT = 1
MOST_NEW_TOKENS = 64
"""Longest answer that is compared."""
_SLACK = 8


def run(
    workspace: Workspace,
    project: ProjectConfig,
    *,
    data: Artifact,
    train: Artifact,
    quantize: Artifact | None,
    server: str | None = None,
) -> Artifact:
    """Asks every link and seals the proof; `require` raises where it does not hold. server: the address of a running
    server, which is asked anew each time; without it the project's own is started for these questions.

    Raises ConfigError where the primary metric cannot score free answers, ResourceError for a server that is not there,
    MissingExtraError where the server's libraries are missing.
    """
    door = _door(project, server)
    inputs = tuple(workspace.reference(artifact) for artifact in (data, train, quantize) if artifact)
    output = begin(workspace, STAGE, _settings(project, door), inputs)
    if isinstance(output, Artifact):
        return output
    start = time.monotonic()
    try:
        document = _prove(Place(workspace, project, data, train, quantize), door)
        files.write_json(output.path / CHAIN, document)
        verdict = document["verdict"]
        broken = [entry["link"] for entry in verdict["broken"]]
        output.facts = {"holds": verdict["holds"], "rows": document["rows"], "broken": broken}
        output.facts |= {"verdict": verdict["sentence"], "seconds": round(time.monotonic() - start, 2)}
        if broken:
            output.facts["failed"] = verdict["sentence"]
        return output.seal(passed=not broken)
    finally:
        output.release()


def links(
    workspace: Workspace, project: ProjectConfig, *, data: Artifact, train: Artifact, quantize: Artifact | None
) -> list[str]:
    """The names of the links that `run` would ask, without asking any."""
    return [step.name for step in sources.build(Place(workspace, project, data, train, quantize), door=None)]


def require(artifact: Artifact, *, where: str) -> None:
    """Raises GateError that names the broken link."""
    if not artifact.manifest.passed:
        raise GateError(
            str(artifact.manifest.facts["failed"]),
            where=where,
            fix="mend that link, then run the chain again: docs/guides/chain.md says what each break means",
            folder=artifact.path,
        )


def _door(project: ProjectConfig, server: str | None) -> Door | None:
    """The running server, reached before any slow work."""
    if server is None:
        served.need_libraries()
        return None
    config = project.serve
    key = next(iter(config.tenants.values()), None)
    return Door.open(server, name=project.name, key=key, together=config.batch_size)


def _settings(project: ProjectConfig, door: Door | None) -> dict[str, Any]:
    """What decides the result. A running server may be another one tomorrow, so its proof is never the same."""
    keys = {"metrics", "primary", "max_new_tokens", "batch_size"}
    return {
        "chain": {"format": FORMAT, "rows": questions.ROWS, "new_tokens": MOST_NEW_TOKENS},
        "model": project.model.model_dump(mode="json"),
        "seed": project.seed,
        "evaluate": project.evaluate.model_dump(mode="json", include=keys),
        "serve": project.serve.model_dump(mode="json", include={"engine", "batch_size", "max_new_tokens"}),
        "server": {"url": door.address.text, "asked": now().isoformat()} if door else None,
    }


@dataclass(frozen=True)
class _Prepared:
    """The steps and what all of them are asked."""

    task: Task
    chosen: Chosen
    steps: list[Step]


def _prove(place: Place, door: Door | None) -> dict[str, Any]:
    prepared = _prepare(place, door)
    task = prepared.task
    say(f"chain: {len(task.questions)} test rows through {', '.join(step.name for step in prepared.steps)}")
    walk = Walk(task)
    outcomes = walk.run(prepared.steps)
    return _document(prepared, outcomes, reach(outcomes), bounds=walk.bounds.to_json() if walk.bounds else None)


def _prepare(place: Place, door: Door | None) -> _Prepared:
    from tunewright.evaluate import labels, prompts, scorer

    project, tokenizer, config = place.project, place.tokenizer, place.project.evaluate
    test, training = (
        [Conversation.from_row(row) for row in place.data.jsonl(f"{split}.jsonl")] for split in ("test", "train")
    )
    intent = scorer.intent_options(config)
    known = labels.training_labels(intent, training) if intent else []
    limit = min(config.max_new_tokens, project.serve.max_new_tokens, MOST_NEW_TOKENS)
    chosen = questions.choose(
        test,
        tokenizer,
        applies=lambda row: scorer.applies_to(config, row),
        ask=lambda row: prompts.messages_for(config, known, row, system="tuned"),
        room=_room(place, limit),
        rows=min(questions.ROWS, config.max_rows or questions.ROWS),
        seed=project.seed,
    )
    task = Task(
        questions=chosen.questions,
        tokenizer=tokenizer,
        scorer=scorer.primary_scorer(config, known),
        trained=rendering.of_training(tuned.model_info(place.train), tokenizer, training),
        reference=place.reference,
        dtype=str(place.dtype).removeprefix("torch."),
        max_new_tokens=limit,
        seed=project.seed,
    )
    longest = max(len(question.ids) for question in chosen.questions) + limit + _SLACK
    return _Prepared(task, chosen, sources.build(place, door=door, most_tokens=longest))


def _room(place: Place, limit: int) -> int:
    longest = min(place.tokenizer.max_length, place.project.model.max_length or place.tokenizer.max_length)
    room = longest - limit - place.front
    if room < 1:
        raise ConfigError("the model's context is too short for a prompt and its answer", where="model.max_length")
    return room


def _document(
    prepared: _Prepared, outcomes: Sequence[Outcome], verdict: Verdict, *, bounds: dict[str, Any] | None
) -> dict[str, Any]:
    task = prepared.task
    return {
        "format": FORMAT,
        "verdict": verdict.to_json(),
        "reference": task.reference,
        "rows": len(task.questions),
        "row_ids": [question.row.id for question in task.questions],
        "left_out": prepared.chosen.left_out,
        "max_new_tokens": task.max_new_tokens,
        "seed": task.seed,
        "bounds": bounds,
        "rendering": {"training": task.trained.to_json()},
        "links": [outcome.to_json() for outcome in outcomes],
    }
