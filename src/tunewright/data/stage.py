"""The stage `data`: raw files in; train, validation, test and quarantine out, with the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.errors import ArtifactError, ConfigError, GateError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.data.config import DataConfig
from tunewright.data.gather import Gathered, gather, write_splits
from tunewright.data.prepare import Preparation, rules_of
from tunewright.data.sources import Pool, Source, locate_sources
from tunewright.data.splits import divide
from tunewright.data.splits.assign import Split
from tunewright.data.tokens.check import TokenCheck, refuse_breaches
from tunewright.models.config import ModelConfig
from tunewright.models.source import resolve
from tunewright.models.tokens import ChatTokenizer

REPORT = "report.json"


def run(workspace: Workspace, config: DataConfig, *, model: ModelConfig, seed: int) -> Artifact:
    """Reads, repairs, divides and seals, or returns the artifact that has the same settings and sources.

    Raises ArtifactError (a source or the tokenizer), ConfigError (a key that fits no row) and GateError (more rows
    quarantined than data.max_quarantined; the artifact is then sealed as not passed).
    """
    sources = _sources(workspace.root, config)
    folder = resolve(model, workspace.root)
    tokenizer = ChatTokenizer.load(folder)
    limit = min(model.max_length or tokenizer.max_length, tokenizer.max_length)
    check = TokenCheck(tokenizer, max_length=limit)
    settings = {**config.model_dump(mode="json"), "seed": seed, "tokenizer": _identity(folder, check)}
    output = begin(workspace, "data", settings, tuple(workspace.source(source.path) for source in sources))
    if isinstance(output, Artifact):
        _gate(output, config.max_quarantined)
        return output
    try:
        return _write(output, config, sources=sources, check=check, seed=seed)
    finally:
        output.release()


def _sources(root: Path, config: DataConfig) -> list[Source]:
    pools: tuple[tuple[Pool, tuple[str, ...]], ...] = (
        ("shared", config.sources),
        ("validation", config.split.validation_sources),
        ("test", config.split.test_sources),
    )
    return locate_sources(root, pools, max_chars=config.max_chars, encoding=config.encoding)


def _identity(folder: Path, check: TokenCheck) -> dict[str, Any]:
    return {
        "sha256": files.sha256(folder / "tokenizer.json"),
        "chat_template_sha256": check.tokenizer.template.sha256,
        "max_length": check.max_length,
    }


def _write(output: Output, config: DataConfig, *, sources: list[Source], check: TokenCheck, seed: int) -> Artifact:
    preparation = Preparation(
        rules_of(config.rules),
        tokens=check,
        keep=config.keep,
        system=config.system,
        group_by=config.split.group_by,
    )
    rows = gather(sources, preparation, folder=output.path, max_chars=config.max_chars)
    passed = rows.account.dump()["quarantined_share"] <= config.max_quarantined
    if passed:
        _refuse_unusable(rows, config)
    splits = _divide(rows, config, seed=seed, is_passed=passed)
    write_splits(output.path, splits)
    report = {
        **rows.account.dump(),
        **divide.describe(rows, splits),
        "tokens": {"max_length": check.max_length, "splits": divide.token_tables(rows, splits)},
    }
    files.write_json(output.path / REPORT, report)
    wanted = ("read", "kept", "repaired", "quarantined", "filtered", "duplicates", "quarantined_share", "splits")
    output.facts |= {name: report[name] for name in wanted}
    output.events.write("data", **output.facts)
    artifact = output.seal(passed=passed)
    _gate(artifact, config.max_quarantined)
    return artifact


def _refuse_unusable(rows: Gathered, config: DataConfig) -> None:
    refuse_breaches(zip(rows.ids, rows.tokens, strict=True))
    if not rows.ids and rows.account.total("filtered"):
        raise ConfigError(
            "no row has the values that data.keep asks for", where="data.keep", fix="check key and values"
        )


def _divide(rows: Gathered, config: DataConfig, *, seed: int, is_passed: bool) -> list[Split | None]:
    try:
        return divide.divide(rows, config.split, max_train_rows=config.max_train_rows, seed=seed)
    except (ArtifactError, ConfigError):
        if is_passed:
            raise
        return [None] * len(rows.ids)  # the quarantine gate speaks first: too few rows are its consequence


def _gate(artifact: Artifact, limit: float) -> None:
    if artifact.manifest.passed:
        return
    facts = artifact.manifest.facts
    bad = facts["quarantined"] - facts["duplicates"]
    raise GateError(
        f"{bad} of {facts['read']} rows ({facts['quarantined_share']:.1%}) are quarantined, duplicates apart; "
        f"the limit data.max_quarantined is {limit:.1%}",
        where=str(artifact.path / "quarantine.jsonl"),
        fix="mend the rows that the file names, or raise data.max_quarantined",
    )
