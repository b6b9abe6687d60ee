"""The stage `data`: raw files in; train, validation, test and quarantine out, with the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.core import files
from tunewright.core.erasures import Erasures
from tunewright.core.errors import ArtifactError, ConfigError, GateError
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.data.agree import agreement, described, labeller, refuse_agreement
from tunewright.data.augment.engine import input_files
from tunewright.data.config import DataConfig
from tunewright.data.enlarge import TrainDocuments, add_variants
from tunewright.data.gather import QUARANTINE, Gathered, gather
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
from tunewright.data.workers import Recipe, how_many
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
    sources = _sources(workspace.root, config)
    outside = locate_sources(
        workspace.root, (("shared", config.leakage_sets),), max_chars=config.max_chars, encoding=config.encoding
    )
    folder = resolve(model, workspace.root)
    tokenizer = ChatTokenizer.load(folder)
    erasures = Erasures.load(workspace)
    recipe = _recipe(config, folder, erasures, min(model.max_length or tokenizer.max_length, tokenizer.max_length))
    settings = {
        **config.model_dump(mode="json", exclude={"workers"}),
        "seed": seed,
        "tokenizer": _identity(folder, tokenizer, recipe.max_length),
    }
    if erasures.sha256:
        settings["erased"] = erasures.sha256
    paths = [source.path for source in (*sources, *outside)] + input_files(config.augment, workspace.root)
    inputs = tuple(workspace.source(path) for path in paths)
    output = begin(workspace, "data", settings, inputs)
    if isinstance(output, Artifact):
        _gate(output, config)
        return output
    try:
        return _write(output, config, sources=sources, outside=outside, recipe=recipe, seed=seed)
    finally:
        output.release()


def _sources(root: Path, config: DataConfig) -> list[Source]:
    pools: tuple[tuple[Pool, tuple[str, ...]], ...] = (
        ("shared", config.sources),
        ("validation", config.split.validation_sources),
        ("test", config.split.test_sources),
    )
    return locate_sources(root, pools, max_chars=config.max_chars, encoding=config.encoding)


def _recipe(config: DataConfig, folder: Path, erasures: Erasures, max_length: int) -> Recipe:
    selection = Selection(
        keep=config.keep,
        system=config.system,
        group_by=config.split.group_by,
        stratify_by=config.split.stratify_by,
        erased=erasures.digests,
    )
    return Recipe(config.rules, selection, folder, max_length)


def _identity(folder: Path, tokenizer: ChatTokenizer, max_length: int) -> dict[str, Any]:
    return {
        "sha256": files.sha256(folder / "tokenizer.json"),
        "chat_template_sha256": tokenizer.template.sha256,
        "max_length": max_length,
    }


def _write(
    output: Output, config: DataConfig, *, sources: list[Source], outside: list[Source], recipe: Recipe, seed: int
) -> Artifact:
    workers = how_many(config.workers, sum(source.bytes for source in sources))
    with Spool(output.path / SPOOL) as spool:
        with files.atomic_write(output.path / QUARANTINE) as quarantine:
            read = gather(
                sources, recipe, spool=spool, quarantine=quarantine, max_chars=config.max_chars, workers=workers
            )
            note_conflicts(read)  # before near duplicates go: a label that contradicts makes them no less near
            settled = settle_near(read, near_options(config.rules), seed=seed, quarantine=quarantine)
        rows = settled.rows
        passed = rows.account.quarantined_share <= config.max_quarantined
        if passed:
            _refuse_unusable(rows)
        splits = _divide(rows, config, seed=seed, is_passed=passed)
        agreed = agreement(rows, config.annotation, seed=seed) if config.annotation else None
        samples = write_splits(
            output.path, rows, splits, samplers_of(config.rules), label=labeller(agreed, config.annotation)
        )
        write_mapping(output.path, rows)
        augmented = _augment(output, config, rows, recipe=recipe, samples=samples, seed=seed)
        leakage = _leakage(output.path, config, rows, splits, outside)
        report = {
            **rows.account.dump(),
            **divide.describe(splits),
            "samples": samples,
            "near_duplicates": settled.report,
            "leakage": leakage,
            "augment": augmented,
            "annotation": described(agreed, config.annotation),
            "tokens": {
                "max_length": recipe.max_length,
                "splits": divide.token_tables(rows, splits),
                "histogram": divide.length_histogram(rows, splits),
            },
        }
    return _seal(output, config, report, passed=passed, recipe=recipe, seed=seed)


def _augment(
    output: Output, config: DataConfig, rows: Gathered, *, recipe: Recipe, samples: dict[str, int], seed: int
) -> dict[str, Any]:
    if not config.augment:
        return {}
    assert recipe.tokenizer is not None
    return add_variants(
        output.path,
        config.augment,
        check=TokenCheck(ChatTokenizer.load(recipe.tokenizer), max_length=recipe.max_length),
        asked={member.question for member in rows.members},
        rows=samples["train"],
        seed=seed,
        root=output.workspace.root,
    )


def _leakage(
    folder: Path, config: DataConfig, rows: Gathered, splits: divide.Assigned, outside: list[Source]
) -> dict[str, Any]:
    group_by = config.split.group_by
    own = TrainDocuments(folder, group_by) if config.augment else divide.Documents(rows, splits, "train", group_by)
    others = {name: divide.Documents(rows, splits, name, group_by) for name in ("validation", "test")}
    sets = {source.name: OutsideSet(source, config.max_chars) for source in outside}
    return leakage_table(own, {**others, **sets}, seed=0, use_rensa=False)


def _seal(
    output: Output, config: DataConfig, report: dict[str, Any], *, passed: bool, recipe: Recipe, seed: int
) -> Artifact:
    assert recipe.tokenizer is not None
    publish(output.path, report, tokenizer=recipe.tokenizer, seed=seed)
    wanted = (
        "read",
        "kept",
        "repaired",
        "quarantined",
        "filtered",
        "duplicates",
        "erased",
        "quarantined_share",
        "splits",
    )
    output.facts |= {name: report[name] for name in wanted}
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
    if artifact.manifest.passed:
        return
    facts = artifact.manifest.facts
    if facts["quarantined_share"] <= config.max_quarantined:
        refusal = _refusal(artifact.json(REPORT), config)
        if refusal:
            raise refusal
    bad = facts["quarantined"] - facts["duplicates"] - facts["erased"]
    raise GateError(
        f"{bad} of {facts['read']} rows ({facts['quarantined_share']:.1%}) are quarantined, duplicates apart; "
        f"the limit data.max_quarantined is {config.max_quarantined:.1%}",
        where=str(artifact.path / QUARANTINE),
        fix="mend the rows that the file names, or raise data.max_quarantined",
    )
