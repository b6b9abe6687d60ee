"""A server in a process of its own, for the signal tests: `python served_process.py SECONDS_A_STEP SHUTDOWN_S`."""

from __future__ import annotations

import sys
import time

import serving_kit as kit

from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.server import Server


class SlowModel:
    """The model with a pause before each pass, so that a signal meets a running answer."""

    def __init__(self, model, pause_s: float) -> None:
        self._model, self._pause_s = model, pause_s
        self.device, self.config = model.device, model.config

    def __call__(self, **inputs):
        time.sleep(self._pause_s)
        return self._model(**inputs)


if __name__ == "__main__":
    loaded = kit.tiny()
    slow = type(loaded)(SlowModel(loaded.model, float(sys.argv[1])), loaded.tokenizer, loaded.context)
    config = ServeConfig(port=0, shutdown_timeout_s=float(sys.argv[2]))
    Server(TransformersEngine(lambda: slow, batch_size=4, queue=4), config, kit.named()).run()
