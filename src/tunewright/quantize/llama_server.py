"""llama.cpp behind one call: the `xllamacpp` wheel in this process, else a `llama-server` on PATH over loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from tunewright.core.errors import MissingExtraError, ResourceError
from tunewright.core.listen import free_port
from tunewright.quantize.scheme import QuantizeError

START_S = 300.0
CALL_S = 600.0
LOG_S = 3.0
_ERRORS_ONLY = 1


class LlamaServer(Protocol):
    """A running llama.cpp."""

    process_id: int | None
    """Of the child it runs in; None in this process."""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """llama.cpp's own `/completion` (the OpenAI form leaves out tokens that are part of a character); raises
        QuantizeError when llama.cpp refuses."""
        ...

    def close(self) -> None:
        """Ends it."""
        ...


@dataclass(frozen=True)
class Address:
    """A llama.cpp server on this machine and its key."""

    url: str
    key: str

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The parsed answer; raises QuantizeError when the server refuses or is gone."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 (loopback)
            f"{self.url}{path}", data=json.dumps(body).encode(), headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_S) as response:  # noqa: S310
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            raise QuantizeError(f"llama.cpp refused a prompt ({error.code}): {error.read(300)!r}") from None
        except (urllib.error.URLError, OSError) as error:
            raise QuantizeError(f"llama.cpp is gone: {error}", fix="look at the memory it needs, run again") from None


def open_server(path: Path, *, context: int, slots: int = 1) -> LlamaServer:
    """Loads the GGUF file `path`. context: tokens of prompt and answer; slots: answers at the same time.

    Raises MissingExtraError when there is neither xllamacpp nor llama-server, QuantizeError when the file does not
    load.
    """
    check_present()
    if find_spec("xllamacpp") is not None:
        return InProcess(path, context, slots)
    program = shutil.which("llama-server")
    assert program is not None
    return Subprocess(program, path, context, slots)


def check_present() -> None:
    """Raises MissingExtraError when there is neither xllamacpp nor llama-server."""
    if find_spec("xllamacpp") is None and shutil.which("llama-server") is None:
        raise MissingExtraError(
            "measuring a GGUF variant needs llama.cpp, and there is neither xllamacpp nor llama-server",
            fix="pip install 'tunewright[quantize]', or put llama-server on PATH",
        )


def threads() -> int:
    """As many as torch takes (all cores, or OMP_NUM_THREADS), so that both engines are compared on the same cores."""
    return torch.get_num_threads()


def build_name() -> str:
    """Which llama.cpp `open_server` starts, in words."""
    if find_spec("xllamacpp") is not None:
        import xllamacpp

        parts = str(xllamacpp.get_system_info()).replace("CPU :", "").split("|")
        flags = [part.split("=")[0].strip() for part in parts if part.strip().endswith("= 1")]
        return f"xllamacpp {xllamacpp.__version__} ({' '.join(flags)})"
    program = shutil.which("llama-server") or "llama-server"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    found = next((line for line in (done.stderr + done.stdout).splitlines() if "version" in line), "version unknown")
    return f"llama-server, {found.strip()}"


class InProcess:
    """xllamacpp. Its in-process calls know the OpenAI form only, so it is asked over the loopback port it opens."""

    process_id: int | None = None

    def __init__(self, path: Path, context: int, slots: int) -> None:
        import xllamacpp

        key = secrets.token_hex(16)
        parameters: Any = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel = context * slots, slots
        parameters.verbosity, parameters.ui = _ERRORS_ONLY, False
        parameters.hostnames, parameters.api_keys = ["127.0.0.1"], [key]
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads()
        with _native_errors() as lines:
            try:
                self._server: Any = xllamacpp.Server(parameters)
            except RuntimeError:
                raise _does_not_load(path, _written(lines)) from None
        self.address = Address(str(self._server.listening_address), key)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """One request."""
        return self.address.post("/completion", body)

    def close(self) -> None:
        """Joins llama.cpp's threads; what they print while they end is no news."""
        with _native_errors():
            self._server = None


class Subprocess:
    """`llama-server` on a free loopback port, with a key that only the child's environment holds."""

    def __init__(self, program: str, path: Path, context: int, slots: int) -> None:
        port, key = free_port(), secrets.token_hex(16)
        self.address = Address(f"http://127.0.0.1:{port}", key)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (lives as long as the child)
        words = [program, "--model", str(path), "--host", "127.0.0.1", "--port", str(port)]
        words += ["--ctx-size", str(context * slots), "--parallel", str(slots), "--threads", str(threads())]
        self._process = subprocess.Popen(
            words, stdout=self._log, stderr=self._log, env=os.environ | {"LLAMA_API_KEY": key}
        )
        self.process_id: int | None = self._process.pid
        try:
            self._wait(path)
        except BaseException:
            self.close()
            raise

    def _wait(self, path: Path) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                self._log.seek(0)
                raise _does_not_load(path, self._log.read())
            try:
                urllib.request.urlopen(f"{self.address.url}/health", timeout=5).close()  # noqa: S310 (loopback)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise ResourceError(f"llama-server was not ready after {START_S:.0f} seconds", where=str(path))

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """One request."""
        return self.address.post("/completion", body)

    def close(self) -> None:
        """Ends the child."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


def _written(read: Callable[[], str]) -> str:
    """The log once it has a reason: llama.cpp writes it in a thread of its own, maybe after it gave up."""
    end = time.monotonic() + LOG_S
    while not _reasons(log := read()) and time.monotonic() < end:
        time.sleep(0.02)
    return log


def _reasons(log: str) -> list[str]:
    return [line for line in log.splitlines() if " E " in line or "error" in line.lower()]


def _does_not_load(path: Path, log: str) -> QuantizeError:
    lines = _reasons(log)
    reason = lines[0].split(" E ")[-1].strip() if lines else "it gave no reason"
    return QuantizeError(f"llama.cpp cannot load this file: {reason}", where=str(path), fix="delete it and run again")


@contextmanager
def _native_errors() -> Iterator[Any]:
    """Catches what native code writes to stderr inside the block; yields a function that reads it."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as caught:
        saved = os.dup(2)
        os.dup2(caught.fileno(), 2)

        def read() -> str:
            caught.seek(0)
            return caught.read()

        try:
            yield read
        finally:
            os.dup2(saved, 2)
            os.close(saved)
