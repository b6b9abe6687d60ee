"""Two links' answers to the same prompts: the same, parted at a near tie, or different.

Greedy decoding turns a difference in the last digits into another word where two tokens are equally good. So a
differing answer is taken to the place where it parts, and the reference says how far apart the two tokens are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewright.chain.links import LocalLink
from tunewright.chain.questions import Question, Reply
from tunewright.models.tokens import ChatTokenizer

CANDIDATES = 64
"""Most probable tokens among which the other link's token is looked for where only its text is known."""
_CUT_CHARACTER = "�"


@dataclass(frozen=True)
class Parting:
    """Where an answer parts from the reference's. place: tokens that both have. choices: the token ids that the other
    may have taken instead, None where its text must be compared with what tokens spell."""

    row: int
    place: int
    choices: frozenset[int] | None


@dataclass(frozen=True)
class Agreement:
    """same, near_ties, different add up to `rows`; equal_tokens: share of tokens before the first difference;
    first_difference: its mean place over the rows that differ; goes_on: answers that go on where the reference ends."""

    rows: int
    same: int
    near_ties: int
    different: tuple[int, ...]
    equal_tokens: float
    first_difference: float | None
    goes_on: int

    def to_json(self) -> dict[str, Any]:
        """For chain.json."""
        return {
            "rows": self.rows,
            "same": self.same,
            "near_ties": self.near_ties,
            "different": len(self.different),
            "equal_tokens": self.equal_tokens,
            "first_difference": self.first_difference,
            "go_on_behind_the_end": self.goes_on,
        }


def is_same(reply: Reply, reference: Reply) -> bool:
    """The same text, ended in the same way."""
    return reply.text == reference.text and reply.finish == reference.finish


def examine(
    replies: Sequence[Reply],
    references: Sequence[Reply],
    questions: Sequence[Question],
    *,
    tokenizer: ChatTokenizer,
    reference: LocalLink | None,
    tie: float,
) -> Agreement:
    """The agreement. reference: is asked for its logits where an answer parts; None: nothing counts as a near tie."""
    rows = range(len(replies))
    differing = [row for row in rows if not is_same(replies[row], references[row])]
    ties: set[int] = set()
    if reference is not None and differing:
        ties = _near_ties(replies, references, questions, differing, reference=reference, tie=tie)
    shares = [_common(replies[row], references[row], tokenizer) for row in rows]
    places = [place for row, (place, _) in enumerate(shares) if row in set(differing)]
    goes_on = sum(_goes_on(replies[row], references[row]) for row in differing)
    return Agreement(
        rows=len(replies),
        same=len(replies) - len(differing),
        near_ties=len(ties),
        different=tuple(row for row in differing if row not in ties),
        equal_tokens=sum(place for place, _ in shares) / max(1, sum(longest for _, longest in shares)),
        first_difference=sum(places) / len(places) if places else None,
        goes_on=goes_on,
    )


def _goes_on(reply: Reply, reference: Reply) -> bool:
    longer = len(reply.text) > len(reference.text) and reply.text.startswith(reference.text)
    return reference.finish == "stop" and (longer or (reply.text == reference.text and reply.finish == "length"))


def _common(reply: Reply, reference: Reply, tokenizer: ChatTokenizer) -> tuple[int, int]:
    """(tokens before the first difference, tokens of the longer answer), for texts encoded anew: not every system tells
    its tokens."""
    first, second = (tokenizer.encode(one.text) for one in (reply, reference))
    place = next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    return place, max(len(first), len(second))


def _near_ties(
    replies: Sequence[Reply],
    references: Sequence[Reply],
    questions: Sequence[Question],
    differing: Sequence[int],
    *,
    reference: LocalLink,
    tie: float,
) -> set[int]:
    partings = [_parting(row, replies[row], references[row], reference.tokenizer) for row in differing]
    behind = [questions[p.row].ids + list(references[p.row].ids or ())[: p.place] for p in partings]
    logits = reference.next_logits(behind)
    found = set()
    for parting, after in zip(partings, logits, strict=True):
        choices = parting.choices
        if choices is None:
            choices = _spelling(
                replies[parting.row], references[parting.row], parting.place, after, reference.tokenizer
            )
        if choices and float(after.max() - after[sorted(choices)].max()) <= tie:
            found.add(parting.row)
    return found


def _parting(row: int, reply: Reply, reference: Reply, tokenizer: ChatTokenizer) -> Parting:
    ours = list(reference.ids or ())
    if reply.ids is not None:
        theirs = list(reply.ids)
        place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
        if place is None:
            place = min(len(ours), len(theirs))
        chosen = frozenset({theirs[place]}) if place < len(theirs) else _ended(reply, tokenizer)
        return Parting(row, place, chosen)
    place = next((i for i in range(len(ours)) if not _begins(reply.text, tokenizer.decode(ours[: i + 1]))), len(ours))
    is_end = len(tokenizer.decode(ours[:place])) >= len(reply.text)
    return Parting(row, place, _ended(reply, tokenizer) if is_end else None)


def _ended(reply: Reply, tokenizer: ChatTokenizer) -> frozenset[int]:
    """An answer that was cut by its length took no token at all there, so nothing can excuse it."""
    return frozenset(tokenizer.end_ids) if reply.finish == "stop" else frozenset()


def _spelling(reply: Reply, reference: Reply, place: int, after: Tensor, tokenizer: ChatTokenizer) -> frozenset[int]:
    """The tokens that continue the reference's first `place` tokens as the other text goes on."""
    before = list(reference.ids or ())[:place]
    likely = torch.topk(after, min(CANDIDATES, len(after))).indices.tolist()
    known = len(tokenizer.decode(before))
    spelled = {token: tokenizer.decode([*before, token]) for token in likely}
    return frozenset(token for token, text in spelled.items() if len(text) > known and _begins(reply.text, text))


def _begins(text: str, start: str) -> bool:
    """Whether `text` begins with `start`, whose last character may be cut."""
    return text.startswith(start.rstrip(_CUT_CHARACTER))
