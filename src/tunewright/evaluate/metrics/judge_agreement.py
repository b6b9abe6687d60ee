"""How far a judge agrees with people: on pairs of answers that raters have decided, from the rating room's export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.agreement import Coefficient, Ratings, cohen_kappa
from tunewright.core.chat import Message
from tunewright.core.errors import ConfigError
from tunewright.core.scoring import wilson
from tunewright.evaluate.metrics.json_answers import loads
from tunewright.evaluate.metrics.judge_prompt import Comparison
from tunewright.evaluate.prompts import shown_text

FEWEST = 20
"""With fewer decided pairs the interval of the agreement is so wide that nothing is known."""
WHERE = "evaluate.metrics.judge.agreement"
FIX = "name the file that `tunewright rate PROJECT --export preferences --write FILE` writes"


@dataclass(frozen=True)
class Decided:
    """A pair that people decided. first, second: systems in the order of their names; the comparison shows them so;
    preferred: 0 for the first, 1 for the second."""

    comparison: Comparison
    first: str
    second: str
    preferred: int


@dataclass(frozen=True)
class Agreement:
    """agreed: pairs in which the judge preferred what people preferred; ties: pairs in which it preferred neither, or
    another one when the answers changed places."""

    agreed: int
    ties: int
    n: int
    kappa: Coefficient

    @property
    def text(self) -> str:
        """'agreement:0.85 [0.71, 0.93] of 40 pairs|kappa:0.70 ...|ties:3'."""
        low, high = wilson(self.agreed, self.n)
        share = f"{self.agreed / self.n:.3f} [{low:.3f}, {high:.3f}]"
        return f"agreement with people:{share} of {self.n} pairs|kappa:{self.kappa.text}|ties of the judge:{self.ties}"


def read_decided(path: Path) -> list[Decided]:
    """The pairs that votes decided; corrections are no votes and are left out.

    Raises ConfigError for a file that is missing, of another form, or has fewer than FEWEST pairs: ties of people are
    not in this export, as in the agreement on decided pairs of Zheng et al. 2023 (Judging LLM-as-a-Judge).
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", where=WHERE, fix=FIX) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start})", where=WHERE, fix=FIX) from None
    found: list[Decided] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                pair = _decided(loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                what = str(error) if isinstance(error, ValueError) else f"the row lacks {error}"
                raise ConfigError(f"line {number} is no decided pair: {what}", where=f"{path}", fix=FIX) from None
            found += [pair] if pair else []
    if len(found) < FEWEST:
        raise ConfigError(
            f"{path} has {len(found)} pairs that people decided; {FEWEST} are needed before an agreement is known",
            where=WHERE,
            fix="let people rate more pairs, or leave `agreement` out and name no gate on the judge",
        )
    return found


def _decided(row: Any) -> Decided | None:
    if isinstance(row, Mapping) and "outcome" in row and "chosen" not in row:
        raise ValueError("this is the export of votes, which does not hold the answers that were rated")
    lineage = row["metadata"]["rating"]
    if lineage["kind"] != "votes":
        return None
    turns = [Message(role=turn["role"], content=turn["content"]) for turn in row["prompt"]]
    texts = {lineage[side]: str(row[side][-1]["content"]) for side in ("chosen", "rejected")}
    if len(texts) != 2:
        raise ValueError("both answers are of one system")
    first, second = sorted(texts)
    comparison = Comparison(shown_text(turns), "", texts[first], texts[second])
    return Decided(comparison, first, second, int(lineage["chosen"] == second))


def agreement(decided: Sequence[Decided], judged: Sequence[int], *, seed: int) -> Agreement:
    """judged: what the judge preferred of each pair, 0, 1 or 2 for neither."""
    table = [(pair.preferred, said) for pair, said in zip(decided, judged, strict=True)]
    return Agreement(
        agreed=sum(people == said for people, said in table),
        ties=sum(said == 2 for _, said in table),
        n=len(table),
        kappa=cohen_kappa(Ratings.of_table(table, categories=3), seed=seed),
    )
