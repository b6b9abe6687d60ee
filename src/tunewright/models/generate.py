"""The one generation engine: batched, streaming, cancellable. Evaluation, quantization's table, chat and the server
all use it, so what was measured is what is served. Its working part is `models/running.RunningBatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tunewright.core.events import Progress
from tunewright.models.request import Request, Sampling
from tunewright.models.running import RunningBatch
from tunewright.models.tokens import ChatTokenizer

__all__ = ["Request", "RunningBatch", "Sampling", "generate", "shared_prefix"]

MIN_SHARED_PREFIX = 8


def generate(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    *,
    batch_size: int = 16,
    label: str = "generating",
    on_finish: Callable[[int, Request], None] | None = None,
) -> list[Request]:
    """Answers for `prompts` in their order. Rows are sorted by length and refilled as others finish. on_finish: called
    with the place of a prompt and its answer as soon as it is there."""
    requests = [Request(list(prompt), sampling) for prompt in prompts]
    batch = RunningBatch(model, tokenizer)
    batch.share_prefix(shared_prefix(prompts))
    waiting = sorted(requests, key=lambda request: -len(request.prompt_ids))
    pending = dict(enumerate(requests))
    with Progress(label, len(requests)) as progress:
        while waiting or batch.rows:
            free = batch_size - len(batch.rows)
            if waiting and free >= max(1, batch_size // 2):
                batch.add([waiting.pop() for _ in range(min(free, len(waiting)))])
            else:
                batch.step()
            for place in [place for place, request in pending.items() if request.finish is not None]:
                request = pending.pop(place)
                if on_finish:
                    on_finish(place, request)
            progress.advance(len(requests) - len(pending) - progress.done)
    return requests


def shared_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The longest common start of all prompts, shorter than each; empty when it is not worth a pass."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    length = min(length, min(map(len, prompts)) - 1)
    return list(first[:length]) if length >= MIN_SHARED_PREFIX else []
