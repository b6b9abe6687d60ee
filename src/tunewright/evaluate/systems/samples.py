"""From a question and its answer to the sample that metrics score."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.core.scoring import Sample
from tunewright.evaluate.prompts import Prompt, shown_text
from tunewright.evaluate.systems.protocol import Answer, Asking, ChatModel


def sample_of(prompt: Prompt, answer: Answer) -> Sample:
    """The row with this answer."""
    return Sample(
        id=prompt.conversation.id,
        prompt=shown_text(prompt.conversation.prompt),
        reference=prompt.conversation.reference,
        prediction=answer.text.strip(),
        seconds=answer.seconds,
        new_tokens=answer.new_tokens,
        finish=answer.finish,
        metadata=prompt.conversation.metadata,
    )


def answered(system: ChatModel, prompts: Sequence[Prompt], asking: Asking) -> list[Sample]:
    """What the system answers, in order; prompts whose answer is a label also get a constrained choice where the system
    can make one."""
    samples = system.answer(prompts, asking)
    rows = [row for row, prompt in enumerate(prompts) if prompt.is_intent]
    if system.chooses and rows:
        chosen = system.choose([prompts[row] for row in rows], asking.labels, batch_size=asking.batch_size)
        for row, label in zip(rows, chosen, strict=True):
            samples[row] = samples[row].model_copy(update={"choice": label})
    return samples
