"""Which training rows are tried for memorization, and what of their personal data a model wrote."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.core.text.fold import fold
from tunewright.core.text.pii import Span, find_pii, mask
from tunewright.core.text.secrets import find_secrets
from tunewright.core.text.spans import free
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.model_options import MemorizationOptions
from tunewright.models.template import TemplateRefusal
from tunewright.models.tokens import IGNORED, ChatTokenizer

_WHERE = "evaluate.metrics.memorization"


@dataclass(frozen=True)
class Probe:
    """prompt: ids of what stands before the answer and its first tokens; wanted: the ids that follow in training."""

    row: Conversation
    prompt: list[int]
    wanted: list[int]


def probes(tokenizer: ChatTokenizer, corpus: Corpus, options: MemorizationOptions) -> list[Probe]:
    """Rows in a random order of the seed, until enough have an answer of the needed length. Raises ConfigError when
    fewer than two have."""
    order = list(range(len(corpus.training)))
    random.Random(corpus.seed).shuffle(order)  # noqa: S311 (no secret)
    found: list[Probe] = []
    longest = 0
    for index in order:
        answer = _last_answer(tokenizer, corpus.training[index], corpus.max_length)
        if answer is None:
            continue
        before, ids = answer
        longest = max(longest, len(ids))
        middle = options.prefix_tokens
        end = middle + options.continuation_tokens
        if len(ids) >= end:
            found.append(Probe(corpus.training[index], [*before, *ids[:middle]], ids[middle:end]))
        if len(found) == options.rows:
            break
    if len(found) < 2:
        raise ConfigError(
            f"{len(found)} of {len(order)} training answers have {options.prefix_tokens} + "
            f"{options.continuation_tokens} tokens; the longest has {longest}",
            where=_WHERE,
            fix="lower prefix_tokens or continuation_tokens, or leave the metric out for such short answers",
        )
    return found


def _last_answer(tokenizer: ChatTokenizer, row: Conversation, max_length: int) -> tuple[list[int], list[int]] | None:
    """(ids before the last trained answer, its ids without the end token), exactly as they are trained; None for a row
    that is not trained at this length."""
    try:
        example = tokenizer.examples(row, max_length=max_length)[-1]
    except (ArtifactError, TemplateRefusal):
        return None
    labels = example.labels
    end = max(place for place, label in enumerate(labels) if label != IGNORED) + 1
    start = max((place for place in range(end) if labels[place] == IGNORED), default=-1) + 1
    ids = list(example.input_ids)
    answer = ids[start:end]
    while answer and answer[-1] in tokenizer.end_ids:
        answer.pop()
    return ids[:start], answer


def findings(
    tokenizer: ChatTokenizer, probe: Probe, said: Sequence[int], *, prefix_tokens: int
) -> list[dict[str, Any]]:
    """Personal data and credentials that the continuation completes, that stand in the training row and that the model
    was not shown: {row, kind, shown, times}. `shown` is a mask, never the data."""
    ends = (place for place, token in enumerate(said) if token in tokenizer.end_ids)
    begun = probe.prompt[len(probe.prompt) - prefix_tokens :]
    text = tokenizer.decode([*begun, *said[: next(ends, len(said))]])
    given = len(tokenizer.decode(begun).rstrip("\ufffd"))
    before = tokenizer.decode(probe.prompt)
    trained = "\n".join(turn.content or "" for turn in probe.row.messages)
    secret = values(trained) - values(before)
    counted: Counter[tuple[str, str]] = Counter()
    for span in sensitive(text):
        original = text[span.start : span.end]
        if span.end > given and (span.kind, _plain(original)) in secret:
            counted[span.kind, mask(original, [Span(span.kind, 0, len(original))])] += 1
    return [
        {"row": probe.row.id, "kind": kind, "shown": shown, "times": times}
        for (kind, shown), times in sorted(counted.items())
    ]


def sensitive(text: str) -> list[Span]:
    """Personal data and credentials, in order, without overlaps."""
    personal = find_pii(text)
    keys = [span for span in find_secrets(text) if free(personal, span.start, span.end)]
    return sorted([*personal, *keys], key=lambda span: span.start)


def values(text: str) -> set[tuple[str, str]]:
    """(kind, value without spaces, signs and width) of all sensitive data of a text."""
    return {(span.kind, _plain(text[span.start : span.end])) for span in sensitive(text)}


def _plain(value: str) -> str:
    return "".join(letter for letter in fold(value).text.casefold() if letter.isalnum() or letter in "@.:")
