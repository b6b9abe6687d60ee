"""Toxic turns: a model answers as it was answered."""

from __future__ import annotations

from tunewright.core.text.toxicity import builtin
from tunewright.data.draft import Draft
from tunewright.data.findings import Note, Rejection, excerpt
from tunewright.data.rules.options import ToxicityOptions


class Toxicity:
    """The rule `toxicity`."""

    def __init__(self, options: ToxicityOptions) -> None:
        self.options = options
        self._classifier = builtin()

    def apply(self, draft: Draft) -> Draft | Rejection:
        """Names the most toxic turn, and the piece of it that decided."""
        turns = [
            (number, turn.content)
            for number, turn in enumerate(draft.turns, start=1)
            if turn.content and turn.role in self.options.roles
        ]
        found = self._classifier.probabilities([text for _, text in turns])
        toxic = [index for index in range(len(turns)) if found[index] >= self.options.threshold]
        if not toxic:
            return draft
        worst = max(toxic, key=lambda index: float(found[index]))
        number, text = turns[worst]
        others = f" ({len(toxic)} such turns)" if len(toxic) > 1 else ""
        reason = f"turn {number} is toxic with p {found[worst]:.2f}, limit {self.options.threshold:g}{others}"
        shown = excerpt(self._classifier.worst_piece(text))
        if self.options.action == "quarantine":
            return Rejection("TOXIC", reason, shown)
        return draft.noted(Note("TOXIC", "kept", reason, shown)).tallied({"toxicity.turns": len(toxic)})
