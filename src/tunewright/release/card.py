"""README.md of an exported model: what it is, what was measured, what it was made from, what it is not for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright import __version__
from tunewright.models.config import ModelInfo
from tunewright.release.config import ReleaseConfig


@dataclass(frozen=True)
class Card:
    """form: merged, adapter or a scheme; scores: content of scores.json, None where it was never evaluated; data: facts
    of the data artifact; row: of the variant in the quantize table; licence: the base's, by name."""

    project: str
    form: str
    info: ModelInfo
    config: ReleaseConfig
    licence: str
    data: Mapping[str, Any]
    scores: Mapping[str, Any] | None
    row: Mapping[str, Any]
    promoted: str
    notes: Sequence[str]


def text(card: Card) -> str:
    """Markdown with the head that model hubs read."""
    parts = [_head(card), _intro(card), _scores(card), _variant(card), _data(card), _limits(card), _use(card)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(card: Card) -> str:
    lines = ["---", f"base_model: {card.info.base}"]
    if card.licence:
        lines.append(f"license: {card.licence}")
    library = "peft" if card.form == "adapter" else "gguf" if card.form.startswith("gguf") else "transformers"
    lines.append(f"library_name: {library}")
    return "\n".join([*lines, "pipeline_tag: text-generation", "---"])


def _intro(card: Card) -> str:
    info = card.info
    made = "fine-tuned elsewhere and adopted" if info.method == "adopted" else f"fine-tuned with `{info.method}`"
    lines = [
        f"# {card.project}",
        "",
        f"{info.base} (revision {info.base_revision}), {made}. Form: {card.form}. Written by tunewright {__version__}.",
        f"Promotion: {card.promoted}.",
    ]
    if card.config.intended_for:
        lines += ["", f"Made for: {card.config.intended_for}"]
    return "\n".join(lines)


def _scores(card: Card) -> str:
    if card.scores is None:
        return "## Scores\n\nThis model was not evaluated: nothing says that it is better than its base."
    scores, paired = card.scores, card.scores["paired"]
    rows = ["| metric | base | tuned | n | difference, p |", "| --- | --- | --- | --- | --- |"]
    for key, tuned in scores["tuned"].items():
        base, pair = scores["base"].get(key), paired.get(key)
        change = f"{pair['difference']:+.4g}, {pair.get('p_holm', pair['p']):.2g}" if pair else ""
        name = f"**{key}**" if key == scores["primary"] else key
        rows.append(f"| {name} | {_number(base)} | {_number(tuned)} | {tuned['n']} | {change} |")
    gates = [f"- {'passed' if gate['passed'] else 'FAILED'}: {gate['reason']}" for gate in scores["gates"]]
    return "\n".join(
        [
            "## Scores",
            "",
            "On held-out test rows, with 95 % intervals. p values of all but the bold metric are corrected for their "
            f"number (Holm). The test rows had been used {scores.get('uses', {}).get('earlier', 0)} times before.",
            "",
            *rows,
            "",
            "Gates:" if gates else "The project sets no gates.",
            *gates,
        ]
    )


def _number(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    unit = f" {score['unit']}" if score.get("unit") in ("s", "1/s") else ""
    return f"{score['value']:.4g}{unit} [{score['low']:.4g}, {score['high']:.4g}]"


def _variant(card: Card) -> str:
    if not card.row:
        return ""
    row = card.row
    lines = [
        "## This variant",
        "",
        f"{card.form}: {row['task_metric']} {row['task_score']:.4g} [{row['task_low']:.4g}, {row['task_high']:.4g}], "
        f"{row['task_change']:+.4g} against 16 bits (p {row['task_p']:.2g}); perplexity {row['perplexity']:.4g}; "
        f"{row['agreement']:.0%} of the answers are the same text.",
    ]
    return "\n".join([*lines, *([f"\n{row['note']}"] if row.get("note") else [])])


def _data(card: Card) -> str:
    if not card.data:
        return "## Data\n\nNothing is known of the rows that it was trained on."
    facts = card.data
    counts = ", ".join(f"{facts[key]:,} {key}" for key in ("read", "kept", "repaired", "quarantined") if key in facts)
    splits = ", ".join(f"{count:,} {name}" for name, count in (facts.get("splits") or {}).items())
    trained = card.info.method != "adopted"
    origin = "" if trained else " It was trained elsewhere; these are the rows that it was tested on."
    return (
        f"## Data\n\nRows: {counts}. Splits: {splits or 'not recorded'}.{origin} Counts only: no row is in this folder."
    )


def _limits(card: Card) -> str:
    lines = ["## Not for", "", *(f"- {reason}" for reason in card.config.not_for)]
    return "\n".join([*lines, *(f"- {note}" for note in card.notes)])


def _use(card: Card) -> str:
    if card.form.startswith("gguf"):
        how = "llama-server -m model.gguf --jinja\nollama create my-model -f ollama/Modelfile"
    elif card.form == "adapter":
        how = f"vllm serve {card.info.base} --enable-lora --lora-modules tuned=."
    else:
        how = "vllm serve ."
    note = "`export.json` lists every file with its hash. Licence: LICENSE-NOTES.md."
    return f"## Use\n\n```\n{how}\n```\nThe chat template lies beside the weights; ask with it and nothing else. {note}"
