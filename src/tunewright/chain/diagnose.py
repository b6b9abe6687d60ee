"""Why a server differs: what it renders, where it ends, what it serves. Read from its answers where it does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunewright.chain.agree import Agreement
from tunewright.chain.links import LocalLink, ServerLink
from tunewright.chain.questions import Question, Reply
from tunewright.chain.rendering import Rendering, counted_bos, faults

CONFIRMED = 0.9
"""Share of rows in which the reference, asked with other begin tokens, must give the server's answer."""


@dataclass(frozen=True)
class Evidence:
    """A server's answers and those it should have given. reference: can be asked again; None where it is gone."""

    questions: Sequence[Question]
    replies: Sequence[Reply]
    references: Sequence[Reply]
    agreement: Agreement
    reference: LocalLink | None
    trained: Rendering
    max_new_tokens: int


def causes(link: ServerLink, found: Evidence, *, artifact: str) -> list[str]:
    """What is wrong with what the server is asked and where it ends; where its answers differ and nothing of that is
    wrong, where to look. artifact: what should be served, relative to the project; empty: not known."""
    reasons = [f"it {fault}" for fault in faults(found.trained, link.rendering)]
    reasons += [] if reasons else _lengths(found)
    if not found.agreement.different:
        return reasons
    if found.agreement.goes_on and not any("does not stop" in reason for reason in reasons):
        ends = ", ".join(found.trained.stops or ()) or "the end token"
        reasons.append(f"{found.agreement.goes_on} answers go on where they should end: it does not stop at {ends}")
    served = link.about.get("artifact")
    if artifact and isinstance(served, str) and served != artifact:
        reasons.append(f"it says that it serves {served}, not {artifact}")
    return reasons or ["its prompts are as long as in training, so look at the weights that it serves"]


def _lengths(found: Evidence) -> list[str]:
    """What the server's own counts say of its prompts."""
    counted = [
        reply.prompt_tokens - len(question.ids)
        for question, reply in zip(found.questions, found.replies, strict=True)
        if reply.prompt_tokens is not None
    ]
    other = [count for count in counted if count]
    if not other:
        return []
    if len(set(counted)) == 1 and (reason := _begin_tokens(found, counted[0])):
        return [reason]
    least, most = min(other), max(other)
    by = f"{least:+d}" if least == most else f"{least:+d} to {most:+d}"
    where = "all" if len(other) == len(found.replies) else f"{len(other)} of {len(found.replies)}"
    return [f"its prompts have another length than in training in {where} rows ({by} tokens): another chat template"]


def _begin_tokens(found: Evidence, more: int) -> str:
    """The sentence when so many more tokens in every row are begin tokens, proven by asking the reference with them."""
    reference, known = found.reference, found.trained.bos
    if reference is None or known is None or reference.tokenizer.bos_id < 0 or not 0 <= known + more <= 4:
        return ""
    bos = reference.tokenizer.bos_id
    asked = [replace(question, ids=[bos] * (known + more) + question.ids[known:]) for question in found.questions]
    answers = reference.answers(asked, max_new_tokens=found.max_new_tokens)
    same = sum(ours.text == theirs.text for ours, theirs in zip(answers, found.replies, strict=True))
    if same < CONFIRMED * len(answers):
        return ""
    return (
        f"it has {counted_bos(known + more)} in its prompt, training had {known or 'none'} "
        f"(the reference, asked so, gives {same} of its {len(answers)} answers)"
    )
