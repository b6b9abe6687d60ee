"""The base model with examples in its prompt: what can be had without training (Brown et al. 2020, "in-context")."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.evaluate.exam import Exam
from tunewright.evaluate.labels import has_label, normalize
from tunewright.evaluate.prompts import Prompt, messages_for, prompt_of, prompt_room
from tunewright.evaluate.rivals.options import FewShotOptions
from tunewright.evaluate.rivals.rival import Entrant, Ground, title_of
from tunewright.evaluate.rows import metadata_value
from tunewright.evaluate.scorer import intent_options
from tunewright.models.template import tools_of
from tunewright.models.tokens import ChatTokenizer

Shot = tuple[Message, ...]


class FewShot:
    """See `Rival`."""

    def __init__(self, options: FewShotOptions) -> None:
        self.options = options

    def enter(self, ground: Ground) -> Entrant:
        """Raises ConfigError when no training row can be shown as turns."""
        exam, options = ground.exam, self.options
        name = title_of(options, options.name)
        system = ground.open_base(name)
        assert system.max_length is not None, "the base is a model of this process"
        room = prompt_room(system.max_length, exam.config.max_new_tokens, where="evaluate.max_new_tokens")
        shots = {is_label: self._shots(exam, ground.training, is_label=is_label) for is_label in (True, False)}
        if not any(shots.values()):
            raise ConfigError(
                "no training row can be shown as an example: a question and an answer, without tools",
                where=ground.where,
                fix="leave this rival out",
            )
        prompts, shown = [], []
        for row in exam.rows:
            prompt, count = shot_prompt(exam, row, shots[_is_label(exam, row)], system.tokenizer, room=room)
            prompts.append(prompt)
            shown.append(count)
        notes = {
            "examples": options.examples,
            "fewest_examples_shown": min(shown),
            "mean_examples_shown": round(sum(shown) / len(shown), 2),
            "prompt_tokens_mean": round(sum(len(prompt.ids) for prompt in prompts) / len(prompts), 1),
        }
        signature = f"|examples in prompt:{options.examples}|shown:{notes['mean_examples_shown']}|seed:{exam.seed}"
        return Entrant(name, options.name, system, prompts, "needs no training", signature, notes)

    def _shots(self, exam: Exam, training: Sequence[Conversation], *, is_label: bool) -> list[Shot]:
        """Examples for questions that are answered with a label, and for others."""
        rows = [row for row in training if _is_label(exam, row) is is_label and _is_plain(row)]
        return [as_shot(row) for row in balanced(exam, rows, self.options.examples)]


def _is_label(exam: Exam, row: Conversation) -> bool:
    options = intent_options(exam.config)
    return options is not None and has_label(options, row.metadata)


def _is_plain(row: Conversation) -> bool:
    """Question, answer, question, answer: what every template can show before the real question."""
    roles = [message.role for message in row.prompt if message.role != "system"]
    is_alternating = all(role == ("user", "assistant")[place % 2] for place, role in enumerate(roles))
    return is_alternating and len(roles) % 2 == 1 and not tools_of(row.metadata)


def as_shot(row: Conversation) -> Shot:
    """The row's turns without its system turn, up to its answer."""
    turns = [message for message in row.prompt if message.role != "system"]
    answer = Message(role="assistant", content=row.reference)
    return (*(Message(role=turn.role, content=turn.content) for turn in turns), answer)


def balanced(exam: Exam, rows: Sequence[Conversation], most: int) -> list[Conversation]:
    """At most `most` rows drawn with the exam's seed, each label as often as any other as far as it goes, in random
    order; rows without labels are drawn evenly."""
    draw = random.Random(exam.seed)  # noqa: S311 (no secret)
    options = intent_options(exam.config)
    piles: dict[str, list[Conversation]] = {}
    for row in rows:
        label = metadata_value(row.metadata, options.label) if options and _is_label(exam, row) else None
        piles.setdefault(normalize(label or ""), []).append(row)
    order = sorted(piles)
    draw.shuffle(order)
    for label in order:
        draw.shuffle(piles[label])
    chosen: list[Conversation] = []
    while len(chosen) < most and any(piles.values()):
        chosen += [piles[label].pop() for label in order if piles[label]]
    chosen = chosen[:most]
    draw.shuffle(chosen)
    return chosen


def shot_prompt(
    exam: Exam, row: Conversation, shots: Sequence[Shot], tokenizer: ChatTokenizer, *, room: int
) -> tuple[Prompt, int]:
    """(the row asked as the base is, with examples behind its system turn; how many of them): as many as `room` has
    place for, the first ones."""
    asked = messages_for(exam.config, exam.labels, row, system="base")
    shows_labels = asked != row.prompt
    front = next((place for place, message in enumerate(asked) if message.role != "system"), len(asked))

    def shown(count: int) -> Prompt:
        turns = tuple(turn for shot in shots[:count] for turn in shot)
        messages = (*asked[:front], *turns, *asked[front:])
        prompt = prompt_of(exam.config, row, messages, tokenizer, room=room, shows_labels=shows_labels)
        return dataclasses.replace(prompt, group=f"{prompt.group}|{count} examples")

    best, fits, too_many = shown(len(shots)), len(shots), len(shots) + 1
    if best.cut_tokens:
        best, fits, too_many = shown(0), 0, len(shots)
    while too_many - fits > 1:  # each example makes the prompt longer
        middle = (fits + too_many) // 2
        found = shown(middle)
        if found.cut_tokens:
            too_many = middle
        else:
            best, fits = found, middle
    return best, fits
