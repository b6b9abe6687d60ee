"""Credentials out of the training data: a model that learned a key gives it away."""

from __future__ import annotations

from collections import Counter

from tunewright.core.text.secrets import find_secrets
from tunewright.core.text.spans import mask
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection
from tunewright.data.rules.options import SecretsOptions
from tunewright.data.rules.strings import rewrite_calls


class Secrets:
    """The rule `secrets`."""

    def __init__(self, options: SecretsOptions) -> None:
        self.options = options

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Looks through every turn, tool call arguments included; findings name the kind, never the secret."""
        if not any(turn.tool_calls or find_secrets(turn.content or "") for turn in draft.turns):
            return draft
        counts: Counter[str] = Counter()
        places: list[str] = []
        turns = []
        for number, turn in enumerate(draft.turns, start=1):
            before = Counter(counts)
            hide = _Hiding(counts)
            content = turn.content if turn.content is None else hide(turn.content)
            calls = rewrite_calls(turn, hide) if turn.tool_calls else ()
            changed = counts != before
            turns.append(turn.model_copy(update={"content": content, "tool_calls": calls}) if changed else turn)
            places += [f"{kind} in turn {number}" for kind in counts - before]
        if not places:
            return draft
        listed = ", ".join(places[:5]) + (f" and {len(places) - 5} more" if len(places) > 5 else "")
        if self.options.action == "quarantine":
            return Rejection("SECRET", f"the row holds a secret: {listed}")
        note = Note("SECRET", "repaired", f"masked {counts.total()} secret(s): {listed}")
        return draft.changed(turns, note).tallied({f"secrets.{kind}": count for kind, count in counts.items()})


class _Hiding:
    """Masks the secrets of a text and counts them by kind."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def __call__(self, text: str) -> str:
        spans = find_secrets(text)
        self._counts.update(span.kind for span in spans)
        return mask(text, spans, label=lambda span, original: "<SECRET>") if spans else text
