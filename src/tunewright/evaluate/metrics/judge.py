"""A language model as the judge of two systems' answers, asked in both orders: judges prefer what they see first, so
only a verdict that survives the swap counts (Zheng et al. 2023, Judging LLM-as-a-Judge with MT-Bench and Chatbot
Arena)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tunewright.core.chat import Conversation
from tunewright.core.errors import ConfigError
from tunewright.core.events import say
from tunewright.core.scoring import Measured, Sample, mean_of_rows
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics import judge_prompt
from tunewright.evaluate.metrics.judge_agreement import Agreement, agreement, read_decided
from tunewright.evaluate.metrics.judge_client import WHERE, JudgeClient
from tunewright.evaluate.metrics.judge_options import JudgeOptions
from tunewright.evaluate.metrics.judge_prompt import Comparison, language_of, verdict_in
from tunewright.evaluate.rows import drawn, matches

VERSION = 1
KEY = "judge.win_rate"
Outcome = Literal["first", "second", "tie"]
_POINTS: dict[Outcome, float] = {"second": 1.0, "tie": 0.5, "first": 0.0}
_CODES: dict[Outcome, int] = {"first": 0, "second": 1, "tie": 2}


@dataclass(frozen=True)
class Ruling:
    """What both orders together say of a comparison. verdicts: in each order, as the answers are named there, None for
    a reply without one; asked: whether the judge was asked at all, which it is not about two equal texts."""

    outcome: Outcome
    verdicts: tuple[str | None, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def asked(self) -> bool:
        """Whether the judge saw the answers."""
        return bool(self.verdicts)

    @property
    def disagrees(self) -> bool:
        """Whether the two orders gave two verdicts."""
        return self.asked and None not in self.verdicts and self.verdicts[0] != _TURNED[self.verdicts[1]]


_TURNED: Mapping[str | None, str] = {"A": "B", "B": "A", "tie": "tie"}


class Judge:
    """`judge.win_rate`: share of rows whose answer the judge prefers to the base's, a tie is half; 0.5 is the base."""

    def __init__(self, options: JudgeOptions) -> None:
        self.options = options
        self._agreement: Agreement | None = None
        self._details: dict[str, list[dict[str, Any]]] = {}

    @staticmethod
    def metric_keys(options: JudgeOptions) -> list[str]:
        """Flat keys that `measure_pair` produces."""
        return [KEY]

    @staticmethod
    def why_no_gate(options: JudgeOptions) -> str:
        """Why no gate may name its keys; empty where one may."""
        if options.agreement:
            return ""
        return (
            "the judge's agreement with people is not known, so it may decide nothing; set the judge's `agreement` to "
            "the file of `tunewright rate --export preferences`"
        )

    def foresee_pair(self, rows: Sequence[Conversation], corpus: Corpus) -> list[Measured]:
        """What `measure_pair` will give, in kind and number, without asking. Raises ConfigError for a key that is not
        set, a bad agreement file, and where no row applies."""
        JudgeClient(self.options)
        if self.options.agreement:
            read_decided(corpus.root / Path(self.options.agreement).expanduser())
        count = sum(matches(row.metadata, self.options.where) for row in rows)
        if not count:
            raise ConfigError(
                f"the judge applies to none of the {len(rows)} test rows",
                where=WHERE,
                fix="check its `where` against the rows' metadata",
            )
        return [_measured([0.5] * min(count, self.options.rows), "foreseen")]

    def measure_pair(self, base: Sequence[Sample], other: Sequence[Sample], corpus: Corpus) -> list[Measured]:
        """The win rate of `other` over `base`, row by row. The base against itself is 0.5 without a question asked.

        base, other: answers to the same rows, in the same order; corpus: its system is that of `other`. Raises
        ConfigError and ResourceError as the client does.
        """
        both = [
            (theirs, ours)
            for theirs, ours in zip(base, other, strict=True)
            if matches(ours.metadata, self.options.where)
        ]
        if not both:
            return []
        assert all(theirs.id == ours.id for theirs, ours in both), "answers to the same rows"
        rows = drawn(both, self.options.rows, seed=corpus.seed)
        rulings = self.rule([self._comparison(*pair) for pair in rows], label=f"judge: {corpus.system}")
        self._details[corpus.system] = [
            {"row": ours.id, "outcome": _named(ruling), "verdicts": ruling.verdicts, "reasons": ruling.reasons}
            for (_, ours), ruling in zip(rows, rulings, strict=True)
        ]
        known = self._known_agreement(corpus) if any(ruling.asked for ruling in rulings) else ""
        judge = f"judge:{self.options.address.model}|prompt:{judge_prompt.VERSION}|both orders"
        signature = f"{judge}|seed:{corpus.seed}|{_counts(rulings)}{known}"
        return [_measured([_POINTS[ruling.outcome] for ruling in rulings], signature)]

    def details(self, system: str) -> list[dict[str, Any]]:
        """Every ruling: row, outcome (`win`, `tie` or `loss`), the verdict in each order and the judge's reasons."""
        return self._details.get(system, [])

    def rule(self, comparisons: Sequence[Comparison], *, label: str) -> list[Ruling]:
        """Both orders of every comparison; equal texts are a tie that nobody is asked about."""
        open_ = [one for one in comparisons if one.first.strip() != one.second.strip()]
        questions = [self._messages(shown) for one in open_ for shown in (one, one.turned())]
        replies = JudgeClient(self.options).replies(questions, label=label) if questions else []
        ruled = iter([_ruling(replies[place : place + 2]) for place in range(0, len(replies), 2)])
        return [Ruling("tie") if one.first.strip() == one.second.strip() else next(ruled) for one in comparisons]

    def _comparison(self, theirs: Sample, ours: Sample) -> Comparison:
        reference = ours.reference if self.options.shows_reference else ""
        return Comparison(ours.prompt, reference, theirs.prediction, ours.prediction)

    def _messages(self, shown: Comparison) -> list[dict[str, str]]:
        wanted = self.options.language
        language = language_of(shown.question) if wanted == "auto" else wanted
        return judge_prompt.messages(shown, language=language, criteria=self.options.criteria)

    def _known_agreement(self, corpus: Corpus) -> str:
        """The agreement with people as a part of the signature; measured once, and said then."""
        if not self.options.agreement:
            return "|agreement with people:not known"
        if self._agreement is None:
            every = read_decided(corpus.root / Path(self.options.agreement).expanduser())
            decided = drawn(every, self.options.agreement_rows, seed=corpus.seed)
            rulings = self.rule([pair.comparison for pair in decided], label="judge: pairs that people decided")
            codes = [_CODES[ruling.outcome] for ruling in rulings]
            self._agreement = agreement(decided, codes, seed=corpus.seed)
            say(f"evaluate: judge {self.options.address.model}: {self._agreement.text.replace('|', ', ')}")
        return f"|{self._agreement.text}"


def _ruling(replies: Sequence[str]) -> Ruling:
    """From the replies in both orders. A verdict that does not survive the swap or is missing in one order is a tie."""
    read = [verdict_in(reply) for reply in replies]
    verdicts, reasons = tuple(verdict for verdict, _ in read), tuple(reason for _, reason in read)
    named: dict[tuple[str | None, ...], Outcome] = {("A", "B"): "first", ("B", "A"): "second"}
    return Ruling(named.get(verdicts, "tie"), verdicts, reasons)


def _named(ruling: Ruling) -> str:
    return {"first": "loss", "second": "win", "tie": "tie"}[ruling.outcome]


def _counts(rulings: Sequence[Ruling]) -> str:
    counts = Counter(_named(ruling) for ruling in rulings)
    numbers = {
        "wins": counts["win"],
        "ties": counts["tie"],
        "losses": counts["loss"],
        "orders disagree": sum(ruling.disagrees for ruling in rulings),
        "unparseable": sum(verdict is None for ruling in rulings for verdict in ruling.verdicts),
        "same text": sum(not ruling.asked for ruling in rulings),
    }
    return "|".join(f"{name}:{number}" for name, number in numbers.items())


def _measured(points: Sequence[float], signature: str) -> Measured:
    return Measured(KEY, VERSION, np.array(points, dtype=np.float64)[:, None], mean_of_rows, signature=signature)
