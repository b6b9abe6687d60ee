"""The proof chain on the page: every form of the model asked the same, link by link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.scoring import Score
from tunewright.report.numbers import p_value, readable, scale_of

_TONES = {"equal": "good", "changed": "good", "start": "even", "measured": "even", "broken": "bad", "named": "bad"}
_WORDS = {"start": "where it starts", "changed": "✓ changed", "equal": "✓ equal", "broken": "✗ broken",
          "named": "refused already", "not asked": "not asked", "measured": "measured"}  # fmt: skip


@dataclass(frozen=True)
class LinkRow:
    """One link as it is written. logits: largest difference, with its bound below; same: equal answers of all."""

    link: str
    system: str
    against: str
    status: str
    tone: str
    logits: str
    bound: str
    same: str
    ties: str
    tokens: str
    score: str
    interval: str
    change: str
    p: str
    rendering: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """The whole chain. metric: that of the score column; trained: template, begin tokens and end tokens of training;
    examples: (link, what each side said) of answers that differ."""

    holds: bool
    sentence: str
    rows: str
    metric: str
    reference: str
    bounds: str
    trained: str
    links: tuple[LinkRow, ...]
    examples: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def proof(document: Mapping[str, Any] | None) -> Proof | None:
    """From chain.json; None where no chain was proven for this training."""
    if document is None:
        return None
    found: Sequence[Mapping[str, Any]] = document["links"]
    return Proof(
        holds=bool(document["verdict"]["holds"]),
        sentence=_sentence(document["verdict"]["sentence"]),
        rows=f"{document['rows']:,}",
        metric=next((link["score"]["metric"] for link in found if link.get("score")), ""),
        reference=readable(document.get("reference") or "", 80),
        bounds=readable((document.get("bounds") or {}).get("reason", ""), 600),
        trained=_rendered((document.get("rendering") or {}).get("training")),
        links=tuple(_row(link) for link in found),
        examples=tuple(
            (readable(link["link"], 80), tuple((readable(key, 40), readable(value, 600)) for key, value in one.items()))
            for link in found
            for one in link.get("examples") or ()
        ),
    )


def _sentence(text: Any) -> str:
    """With a capital letter and a full stop."""
    said = readable(text, 1200)
    return f"{said[:1].upper()}{said[1:]}{'' if said.endswith('.') or not said else '.'}"


def _row(link: Mapping[str, Any]) -> LinkRow:
    logits, answers, score = link.get("logits"), link.get("answers"), link.get("score")
    change = link.get("difference")
    value = Score.model_validate(score) if score else None
    scale = scale_of(value.metric, value.unit) if value else scale_of("")
    status = str(link["status"])
    return LinkRow(
        link=readable(link["link"], 80),
        system=readable(link.get("system") or "", 200),
        against=readable(link.get("against") or "", 80),
        status=_WORDS.get(status, readable(status, 40)),
        tone=_TONES.get(status, "even"),
        logits="" if not logits else f"{logits['largest']:.2g}",
        bound="" if not logits or logits.get("bound") is None else f"bound {logits['bound']:.2g}",
        same="" if not answers else f"{answers['same']} of {answers['rows']}",
        ties="" if not answers else str(answers["near_ties"]),
        tokens="" if not answers else f"{answers['equal_tokens'] * 100:.1f} %",
        score=scale.show(value.value) if value else "",
        interval=scale.interval(value.low, value.high) if value else "",
        change=scale.change(change["difference"]) if change else "",
        p=p_value(change["p"]) if change else "",
        rendering=_rendered(link.get("rendering")),
        reasons=tuple(readable(reason, 600) for reason in (*(link.get("reasons") or ()), *_weights(link))),
    )


def _weights(link: Mapping[str, Any]) -> list[str]:
    """What stored weights are beside the merge made anew."""
    found = link.get("weights")
    if not found:
        return []
    if not found["worst"]:
        return [f"all {found['tensors']:,} stored tensors are those of the merge made anew"]
    return [f"{found['worst']} differs from the merge in {found['places']:,} places, by up to {found['largest']:.2g}"]


def _rendered(found: Mapping[str, Any] | None) -> str:
    """Template, begin tokens and stops, as far as they are known."""
    if not found:
        return ""
    template, bos, stops = found.get("chat_template_sha256"), found.get("bos_tokens"), found.get("stop_tokens")
    said = [f"template {str(template)[:12]}"] if template else []
    said += [f"{bos} begin token{'' if bos == 1 else 's'}"] if bos is not None else []
    said += [f"ends with {', '.join(map(str, stops)) or 'nothing'}"] if stops is not None else []
    return readable("; ".join(said), 300)
