"""The engine `transformers`: ours, in this process (serve/engine.py)."""

from __future__ import annotations

from tunewright.serve.choose import Choice
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.engines.config import TransformersOptions
from tunewright.serve.engines.http_engine import Place


class Transformers:
    """Makes engines for everything but GGUF variants."""

    wants = "weights"

    def __init__(self, options: TransformersOptions) -> None:
        del options  # it has none

    def make(self, choice: Choice, place: Place) -> TransformersEngine:
        """An engine, not started. Raises ArtifactError for a GGUF variant."""
        choice.refuse_gguf()
        return TransformersEngine(choice.load, batch_size=place.batch_size, queue=place.queue, say=place.say)
