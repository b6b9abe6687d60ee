"""Before anything is trained: can the gates be decided with the test rows that there are?"""

from __future__ import annotations

import dataclasses

from tunewright.core.chat import Conversation
from tunewright.core.runs import Artifact, Workspace
from tunewright.evaluate import exam, foresight, power, uses
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.of_model import of_model


def state(config: EvaluateConfig, data: Artifact, workspace: Workspace, *, seed: int, task_rows: int) -> list[str]:
    """Sentences about what the test rows can show, for the primary metric and the gates' ones; none where this very
    evaluation has been done. task_rows: those that each quantized variant answers.

    Raises ConfigError for a significant gate that cannot be decided, and what `exam.prepare` raises.
    """
    before = uses.earlier(workspace, data)
    settings = config.model_dump(mode="json")
    if any(found.manifest.config.get("evaluate") == settings for found in before):
        return []
    test, training = ([Conversation.from_row(row) for row in data.jsonl(f"{name}.jsonl")] for name in ("test", "train"))
    prepared = exam.prepare(config, test, training, seed=seed)
    beside = of_model(config, test, training, seed=seed, root=workspace.root)
    known = foresight.known(
        config, prepared.rows, prepared.metrics, workspace=workspace, earlier=before, of_model=beside
    )
    smaller = [dataclasses.replace(entry, n=min(entry.n, task_rows)) for entry in known]
    warnings = [*power.check(config.gates, known, on="tuned"), *power.check(config.gates, smaller, on="quantized")]
    gated = {config.primary, *(gate.metric for gate in config.gates)}
    stated = [power.statement(entry).text() for entry in known if entry.metric in gated]
    return [*stated, *(f"warning: {warning}" for warning in warnings)]
