"""The stage `data`: raw files in; train, validation, test and quarantine out, with the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.erasures import Erasures
from tunewright.core.errors import ArtifactError, ConfigError, GateError
from tunewright.core.manifest import InputRef
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.data.agree import agreement, described, labeller, refuse_agreement
from tunewright.data.augment.engine import input_files
from tunewright.data.config import DataConfig
from tunewright.data.disk_meter import DiskMeter
from tunewright.data.enlarge import TrainDocuments, add_variants
from tunewright.data.gather import QUARANTINE, Gathered, gather, records_of
from tunewright.data.outside import OutsideSet
from tunewright.data.prepare import Selection, samplers_of
from tunewright.data.publish import REPORT, publish
from tunewright.data.settle import near_options, note_conflicts, settle_near
from tunewright.data.sources import Pool, Source, locate_sources
from tunewright.data.splits import divide
from tunewright.data.splits.assign import Split
from tunewright.data.splits.leakage import leakage_table, refuse_leakage
from tunewright.data.spool import Spool
from tunewright.data.tokens.check import TokenCheck, refuse_breaches
from tunewright.data.workers import Prepared, Recipe, how_many, prepare_all
from tunewright.data.write import write_mapping, write_splits
from tunewright.models.config import ModelConfig
from tunewright.models.source import resolve
from tunewright.models.tokens import ChatTokenizer

SPOOL = ".usable.jsonl"


def run(workspace: Workspace, config: DataConfig, *, model: ModelConfig, seed: int) -> Artifact:
    """Reads, repairs, divides and seals, or returns the artifact that has the same settings and sources.

    Raises ArtifactError (a source or the tokenizer), ConfigError (a key that fits no row) and GateError (more rows
    quarantined than data.max_quarantined, or more leakage than data.max_leakage; the artifact is then sealed as not
    passed).
    """
    sources, outside = sources_of(workspace.root, config), leakage_sets_of(workspace.root, config)
    folder = resolve(model, workspace.root)
    tokenizer = ChatTokenizer.load(folder)
    limit = min(model.max_length or tokenizer.max_length, tokenizer.max_length)
    check = TokenCheck(tokenizer, max_length=limit)
    erasures = Erasures.load(workspace)
    recipe = recipe_of(config, folder, erasures, limit)
    settings = settings_of(config, tokenizer=identity_of(folder, check), erasures=erasures, seed=seed)
    inputs = inputs_of(workspace, config, [*sources, *outside])
    output = begin(workspace, "data", settings, inputs)
    if isinstance(output, Artifact):
        _gate(output, config)
        return output
    workers = how_many(config.workers, sum(source.bytes for source in sources))
    meter = DiskMeter()
    records = records_of(sources, config.max_chars, meter)
    reading = prepare_all(records, recipe, check=check, workers=workers)
    try:
        with Spool(output.path / SPOOL) as spool:
            rows, near = _read(output, config, sources=sources, reading=reading, meter=meter, spool=spool, seed=seed)
            return _write(output, config, rows, near=near, outside=outside, check=check, seed=seed)
    finally:
        output.release()


def sources_of(root: Path, config: DataConfig) -> list[Source]:
    """The files of all pools, looked at."""
    pools: tuple[tuple[Pool, tuple[str, ...]], ...] = (
        ("shared", config.sources),
        ("validation", config.split.validation_sources),
        ("test", config.split.test_sources),
    )
    return locate_sources(root, pools, max_chars=config.max_chars, encoding=config.encoding)


def leakage_sets_of(root: Path, config: DataConfig) -> list[Source]:
    """The files that the training split is compared with."""
    pools: tuple[tuple[Pool, tuple[str, ...]], ...] = (("shared", config.leakage_sets),)
    return locate_sources(root, pools, max_chars=config.max_chars, encoding=config.encoding)


def recipe_of(config: DataConfig, folder: Path | None, erasures: Erasures, max_length: int) -> Recipe:
    """How rows are prepared. folder: of the tokenizer, None for no token check."""
    selection = Selection(
        keep=config.keep,
        system=config.system,
        group_by=config.split.group_by,
        stratify_by=config.split.stratify_by,
        erased=erasures.digests,
    )
    return Recipe(config.rules, selection, folder, max_length)


def settings_of(config: DataConfig, *, tokenizer: dict[str, Any], erasures: Erasures, seed: int) -> dict[str, Any]:
    """What decides the result, apart from the files themselves."""
    settings = {**config.model_dump(mode="json", exclude={"workers"}), "seed": seed, "tokenizer": tokenizer}
    return {**settings, "erased": erasures.sha256} if erasures.sha256 else settings


def inputs_of(workspace: Workspace, config: DataConfig, sources: Sequence[Source]) -> tuple[InputRef, ...]:
    """Every file that decides the result, hashed. sources: of all pools and the leakage sets."""
    paths = [source.path for source in sources] + input_files(config.augment, workspace.root)
    return tuple(workspace.source(path) for path in paths)


def identity_of(folder: Path, check: TokenCheck) -> dict[str, Any]:
    """Which tokenizer, template and limit prove the rows."""
    return {
        "sha256": files.sha256(folder / "tokenizer.json"),
        "chat_template_sha256": check.tokenizer.template.sha256,
        "max_length": check.max_length,
    }


def _read(
    output: Output,
    config: DataConfig,
    *,
    sources: list[Source],
    reading: Iterator[Prepared],
    meter: DiskMeter,
    spool: Spool,
    seed: int,
) -> tuple[Gathered, dict[str, Any]]:
    """The usable rows, and the part of report.json on near duplicates."""
    with files.atomic_write(output.path / QUARANTINE) as quarantine:
        rows = gather(sources, reading, spool=spool, quarantine=quarantine, meter=meter)
        note_conflicts(rows)  # before near duplicates go: a label that contradicts makes them no less near
        return settle_near(rows, near_options(config.rules), seed=seed, quarantine=quarantine)


def _write(
    output: Output,
    config: DataConfig,
    rows: Gathered,
    *,
    near: dict[str, Any],
    outside: list[Source],
    check: TokenCheck,
    seed: int,
) -> Artifact:
    passed = rows.account.quarantined_share <= config.max_quarantined
    if passed:
        _refuse_unusable(rows)
    splits = _divide(rows, config, seed=seed, is_passed=passed)
    agreed = agreement(rows, config.annotation, seed=seed) if config.annotation else None
    label = labeller(agreed, config.annotation)
    samples = write_splits(output.path, rows, splits, samplers_of(config.rules), label=label)
    write_mapping(output.path, rows)
    variants = add_variants(
        output.path,
        config.augment,
        check=check,
        asked={member.question for member in rows.members},
        rows=samples["train"],
        seed=seed,
        root=output.workspace.root,
    )
    report = {
        **rows.account.dump(),
        **divide.describe(splits),
        "samples": samples,
        "near_duplicates": near,
        "leakage": _leakage(output.path, config, rows, splits, outside, seed=seed),
        "augment": variants.report,
        "annotation": described(agreed, config.annotation),
        "tokens": {"max_length": check.max_length, **divide.token_numbers(rows, splits, more=variants.tokens)},
    }
    publish(output.path, report, tokenizer=check.tokenizer, seed=seed)
    return _seal(output, config, report, passed=passed)


def _leakage(
    folder: Path,
    config: DataConfig,
    rows: Gathered,
    splits: divide.Assigned,
    outside: list[Source],
    *,
    seed: int,
) -> dict[str, Any]:
    group_by = config.split.group_by
    own = TrainDocuments(folder, group_by) if config.augment else divide.Documents(rows, splits, "train", group_by)
    others = {name: divide.Documents(rows, splits, name, group_by) for name in ("validation", "test")}
    sets = {source.name: OutsideSet(source, config.max_chars) for source in outside}
    return leakage_table(own, {**others, **sets}, seed=seed, use_rensa=False)


FACTS = "read kept repaired quarantined filtered duplicates erased quarantined_share splits"
"""What of the report the manifest holds."""


def _seal(output: Output, config: DataConfig, report: dict[str, Any], *, passed: bool) -> Artifact:
    output.facts |= {name: report[name] for name in FACTS.split()}
    output.events.write("data", **output.facts)
    artifact = output.seal(passed=passed and _refusal(report, config) is None)
    _gate(artifact, config)
    return artifact


def _refusal(report: dict[str, Any], config: DataConfig) -> GateError | None:
    """The first gate of the report that is not passed, the quarantine's apart."""
    try:
        refuse_leakage(report["leakage"], config.max_leakage)
        refuse_agreement(report["annotation"])
    except GateError as error:
        return error
    return None


def _refuse_unusable(rows: Gathered) -> None:
    breach = rows.tokens.first_breach()
    if breach is not None:
        refuse_breaches([(rows.ids[breach], rows.tokens[breach])])
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


def _gate(artifact: Artifact, config: DataConfig) -> None:
    if not artifact.manifest.passed:
        failure = _failure(artifact, config)
        failure.folder = artifact.path
        raise failure


def _failure(artifact: Artifact, config: DataConfig) -> GateError:
    facts = artifact.manifest.facts
    if facts["quarantined_share"] <= config.max_quarantined:
        refusal = _refusal(artifact.json(REPORT), config)
        if refusal:
            return refusal
    bad = facts["quarantined"] - facts["duplicates"] - facts["erased"]
    return GateError(
        f"{bad} of {facts['read']} rows ({facts['quarantined_share']:.1%}) are quarantined, duplicates apart; "
        f"the limit data.max_quarantined is {config.max_quarantined:.1%}",
        where=str(artifact.path / QUARANTINE),
        fix="mend the rows that the file names, or raise data.max_quarantined",
    )
