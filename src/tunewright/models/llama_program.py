"""How llama.cpp is started as a server of its own: a `llama-server` on PATH, else the `xllamacpp` wheel.

Both speak the same HTTP. The key is read from the environment variable LLAMA_API_KEY, so it stands on no command line.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from tunewright.core.errors import MissingExtraError
from tunewright.core.machine import usable_cores

PROGRAM = "llama-server"
WHEEL = "xllamacpp"
KEY = "LLAMA_API_KEY"


@dataclass(frozen=True)
class LlamaSettings:
    """context: tokens of prompt and answer of each of `slots` answers at the same time; threads: 0 for all cores."""

    path: str
    context: int
    slots: int
    port: int
    threads: int = 0


def is_present() -> bool:
    """Whether there is a llama.cpp to start."""
    return shutil.which(PROGRAM) is not None or find_spec(WHEEL) is not None


def check_present(what: str) -> None:
    """Raises MissingExtraError that says for what llama.cpp is needed, such as "serving a GGUF variant"."""
    if not is_present():
        raise MissingExtraError(
            f"{what} needs llama.cpp, and there is neither {PROGRAM} nor {WHEEL}",
            fix="pip install 'tunewright[quantize]', or put llama-server on PATH",
        )


def words_for(settings: LlamaSettings) -> list[str]:
    """The command line that serves a GGUF file on 127.0.0.1. Raises MissingExtraError when there is none."""
    check_present("serving a GGUF variant")
    threads = settings.threads or usable_cores()
    program = shutil.which(PROGRAM)
    if program is None:
        given = asdict(settings) | {"threads": threads}
        return [sys.executable, "-P", str(Path(__file__).with_name("llama_child.py")), json.dumps(given)]
    words = [program, "--model", settings.path, "--ctx-size", str(settings.context * settings.slots)]
    words += ["--parallel", str(settings.slots), "--host", "127.0.0.1", "--port", str(settings.port)]
    return [*words, "--threads", str(threads)]


def reason_in(log: str) -> str:
    """What llama.cpp's last lines say of why it ended; empty when they say nothing."""
    lines = [line for line in log.splitlines() if " E " in line or "error" in line.lower()]
    return lines[0].split(" E ")[-1].strip() if lines else ""
