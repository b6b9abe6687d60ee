"""`data --dry-run`: all that the stage would read, do, check and write, without writing anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tunewright.core import manifest
from tunewright.core.chat import Message
from tunewright.core.erasures import Erasures
from tunewright.core.errors import MissingExtraError
from tunewright.core.files import human_bytes
from tunewright.core.registry import PluginOptions
from tunewright.core.runs import PLAN, Workspace
from tunewright.data.augment.engine import input_files
from tunewright.data.config import DataConfig
from tunewright.data.prepare import Preparation
from tunewright.data.reading.records import parse_record, read_records
from tunewright.data.sources import Source
from tunewright.data.stage import identity_of, inputs_of, leakage_sets_of, recipe_of, settings_of, sources_of
from tunewright.data.tokens.check import TokenCheck
from tunewright.data.workers import how_many
from tunewright.models import source as models
from tunewright.models.config import ModelConfig
from tunewright.models.template import TemplateRefusal
from tunewright.models.tokens import ChatTokenizer

_SHOWN_CHARS = 80
SAMPLED = 200
"""Rows of the beginning of each source that go through the rules."""
_POOLS = {"shared": "divided", "validation": "all of it validation", "test": "all of it test"}


@dataclass(frozen=True)
class SourcePlan:
    """A source and what its first rows are. formats: rows by row format; outcomes: rows by what would become of them;
    codes: rows by finding."""

    name: str
    path: str
    use: str
    bytes: int
    compression: str
    encoding: str
    shape: str
    sampled: int
    is_whole: bool
    formats: Mapping[str, int]
    outcomes: Mapping[str, int]
    codes: Mapping[str, int]

    def lines(self) -> Iterator[str]:
        """For the screen."""
        packed = "" if self.compression == "none" else f", packed with {self.compression}"
        shape = f"{self.shape}, {self.encoding}, {human_bytes(self.bytes)}{packed}"
        yield f"  {self.name}: {shape}; {self.use}"
        if self.path != self.name:
            yield f"    {self.path}"
        rows = "its only row" if self.is_whole and self.sampled == 1 else f"its first {self.sampled} rows"
        rows = f"all its {self.sampled} rows" if self.is_whole and self.sampled > 1 else rows
        yield f"    {rows}: {_counted(self.outcomes)}; read as {', '.join(self.formats) or 'no known format'}"
        if self.codes:
            yield f"    findings in them: {_counted(self.codes)}"


@dataclass(frozen=True)
class DataPlan:
    """The plan of a run. rules and augment: (name, settings) in order; checks: sentences; output: the folder, or the
    finished artifact that has these settings and files already."""

    sources: tuple[SourcePlan, ...]
    rules: tuple[tuple[str, Mapping[str, Any]], ...]
    split: tuple[str, ...]
    checks: tuple[str, ...]
    augment: tuple[tuple[str, Mapping[str, Any]], ...]
    workers: int
    output: str
    notes: tuple[str, ...]

    def dump(self) -> dict[str, Any]:
        """For --json."""
        named = {key: [{"name": name, **more} for name, more in getattr(self, key)] for key in ("rules", "augment")}
        shown = {key: getattr(self, key) for key in ("split", "checks", "workers", "output", "notes")}
        return {"sources": [vars(source) for source in self.sources], **named, **shown}

    def text(self) -> str:
        """For the screen."""
        lines = ["plan of `data`; nothing is written", "", "sources"]
        lines += [line for source in self.sources for line in source.lines()]
        lines += ["", "rules, in this order", *(_with_settings(self.rules) or ["  none"])]
        lines += ["", "splits", *(f"  {line}" for line in self.split)]
        lines += ["", "checks", *(f"  {line}" for line in self.checks)]
        if self.augment:
            lines += ["", "variants of training rows", *_with_settings(self.augment)]
        lines += ["", f"workers  {self.workers}", f"output   {self.output}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _with_settings(plugins: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    return [f"  {name}" + (f": {_settings(more)}" if more else "") for name, more in plugins]


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def plan(workspace: Workspace, config: DataConfig, *, model: ModelConfig, seed: int) -> DataPlan:
    """Looks at the sources and at the first rows of each. Raises what the stage raises of sources and settings.

    The model's tokenizer is used where it is on this machine already; nothing is fetched or converted for a plan.
    """
    root = workspace.root
    sources, outside = sources_of(root, config), leakage_sets_of(root, config)
    folder, why = _tokenizer(model, root)
    tokenizer = ChatTokenizer.load(folder) if folder else None
    limit = min(model.max_length or tokenizer.max_length, tokenizer.max_length) if tokenizer else 0
    check = TokenCheck(tokenizer, max_length=limit) if tokenizer else None
    input_files(config.augment, root)  # a dictionary that is missing is said now
    erasures = Erasures.load(workspace)
    preparation = recipe_of(config, folder, erasures, limit).preparation(check)
    tokens = f"tokens: {model.path}, max_length {limit}" if tokenizer else f"tokens: {model.path}; {why}"
    return DataPlan(
        sources=tuple(_looked_at(source, preparation, config.max_chars) for source in sources),
        rules=tuple(_named(config.rules)),
        split=tuple(_split(config)),
        checks=(*_checks(config, outside), tokens),
        augment=tuple(_named(config.augment)),
        workers=how_many(config.workers, sum(source.bytes for source in sources)),
        output=_output(
            workspace, config, [*sources, *outside], folder=folder, check=check, erasures=erasures, seed=seed
        ),
        notes=(*_notes(config, erasures), *_own_system(config, tokenizer)),
    )


def _tokenizer(model: ModelConfig, root: Path) -> tuple[Path | None, str]:
    """(the model's folder, why there is none)."""
    if not models.is_local(model, root):
        return None, "it is not on this machine yet, so the rows above were not put to its template"
    try:
        if model.path.startswith(models.BUILTIN) and not models.is_ready(model.path):
            return None, "it is made ready by the first run, so the rows above were not put to its template"
    except MissingExtraError as error:
        return None, f"{error.problem} ({error.fix})"
    return models.resolve(model, root), ""


def _looked_at(source: Source, preparation: Preparation, max_chars: int) -> SourcePlan:
    records = read_records(source.path, source=source.name, layout=source.layout, max_chars=max_chars)
    formats, outcomes, codes = Counter[str](), Counter[str](), Counter[str]()
    for record in islice(records, SAMPLED):
        outcome = preparation.prepare(parse_record(record))
        outcomes[outcome.action] += 1
        if outcome.format:  # of a row that cannot be used it is not known
            formats[outcome.format] += 1
        codes.update({finding.code for finding in outcome.findings})
    is_whole = next(records, None) is None
    layout = source.layout
    return SourcePlan(
        name=source.name,
        path=str(source.path),
        use=_POOLS[source.pool],
        bytes=source.bytes,
        compression=layout.compression,
        encoding=layout.encoding,
        shape=layout.shape,
        sampled=sum(outcomes.values()),
        is_whole=is_whole,
        formats=dict(formats.most_common()),
        outcomes=dict(outcomes.most_common()),
        codes=dict(codes.most_common()),
    )


def _named(plugins: Sequence[PluginOptions]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for options in plugins:
        yield options.name, options.model_dump(mode="json", exclude={"name"})


def _split(config: DataConfig) -> Iterator[str]:
    split = config.split
    by = {"validation": split.validation_sources, "test": split.test_sources}
    shares = {"validation": split.validation, "test": split.test}
    for name, files in by.items():
        yield f"{name}: {', '.join(files)}" if files else f"{name}: {shares[name]:.0%} of the rows"
    most = f"the rest, at most {config.max_train_rows} rows" if config.max_train_rows else "the rest"
    yield f"train: {most}"
    yield f"kept together: duplicates{f', and rows with the same {split.group_by}' if split.group_by else ''}"
    if split.stratify_by:
        yield f"every split has each {split.stratify_by} in its share"
    for key, values in config.keep.items():
        yield f"only rows whose {key} is one of: {', '.join(values)}"


def _checks(config: DataConfig, outside: Sequence[Source]) -> Iterator[str]:
    yield f"quarantine: at most {config.max_quarantined:.1%} of the rows, duplicates apart"
    against = ", ".join(["validation", "test", *(source.name for source in outside)])
    limits = {kind: most for kind, most in config.max_leakage.model_dump().items() if most is not None}
    allowed = ", ".join(f"at most {most} {kind}" for kind, most in limits.items()) or "only reported"
    yield f"leakage: train against {against}; {allowed}"
    if config.annotation:
        found = config.annotation
        limit = "only reported" if found.min_agreement is None else f"{found.metric} at least {found.min_agreement}"
        yield f"annotation: agreement on {found.labels}; {limit}"


def _output(
    workspace: Workspace,
    config: DataConfig,
    sources: Sequence[Source],
    *,
    folder: Path | None,
    check: TokenCheck | None,
    erasures: Erasures,
    seed: int,
) -> str:
    """The finished artifact of the same settings and files, or where the next one comes (see `core.runs.begin`)."""
    folders = workspace.directories("data")
    if folders and folder and check:
        settings = settings_of(config, tokenizer=identity_of(folder, check), erasures=erasures, seed=seed)
        mark = manifest.fingerprint("data", settings, inputs_of(workspace, config, sources))
        finished = workspace.finished("data")
        same = next((one for one in reversed(finished) if one.manifest.fingerprint == mark), None)
        if same is not None:
            done = "nothing to do" if same.manifest.passed else "it did not pass its checks"
            return f"{workspace.relative(same.path)}, which has these settings and files already: {done}"
        begun = next((path for path in reversed(folders) if _fingerprint(path) == mark), None)
        if begun is not None:
            return f"{workspace.relative(begun)}/, begun before and made anew"
    number = int(folders[-1].name) + 1 if folders else 1
    return f"{workspace.relative(workspace.stage_directory('data') / f'{number:04d}')}/"


def _own_system(config: DataConfig, tokenizer: ChatTokenizer | None) -> Iterator[str]:
    """The system text that a template writes where a conversation has none: it is trained and served as well."""
    if config.system or tokenizer is None or not tokenizer.template.takes_system:
        return
    ask, mark = Message(role="user", content="hi"), "S1Y2S3"
    try:
        before, _, behind = tokenizer.template.render([Message(role="system", content=mark), ask]).partition(mark)
        own = tokenizer.template.render([ask])
    except TemplateRefusal:
        return
    if own.startswith(before) and own.endswith(behind) and (text := own[len(before) : len(own) - len(behind)].strip()):
        yield f"rows without a system turn get the template's own: '{text[:_SHOWN_CHARS]}'; data.system sets another"


def _fingerprint(folder: Path) -> str:
    """Of a folder that was begun and not finished; empty where it does not say."""
    try:
        return str(json.loads((folder / PLAN).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError):
        return ""


def _notes(config: DataConfig, erasures: Erasures) -> tuple[str, ...]:
    notes = []
    if erasures.digests:
        notes.append(f"{len(erasures.digests)} digest(s) of erased rows: such rows are left out")
    if config.augment:
        notes.append("augmenters are not asked for a plan")
    return tuple(notes)
