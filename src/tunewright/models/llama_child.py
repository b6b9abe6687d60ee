"""The xllamacpp wheel as a server of its own, run by its path: `python llama_child.py '{"path": ..., ...}'`.

A process of its own, because a fault inside llama.cpp ends the process it is in.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

_ERRORS_ONLY = 1


def main(settings: dict[str, Any]) -> None:
    """Serves until it is killed. settings: the fields of llama_program.LlamaSettings."""
    import xllamacpp

    parameters: Any = xllamacpp.CommonParams()
    parameters.model.path = settings["path"]
    parameters.n_ctx, parameters.n_parallel = settings["context"] * settings["slots"], settings["slots"]
    parameters.verbosity, parameters.ui = _ERRORS_ONLY, False
    parameters.hostnames, parameters.port = ["127.0.0.1"], settings["port"]
    parameters.api_keys = [os.environ["LLAMA_API_KEY"]]
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings["threads"]
    server = xllamacpp.Server(parameters)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
