"""Everything that stands behind /v1/jobs in a running server: broker, queue, workers, and the sweep for lost jobs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import redis

from tunewright.core import files
from tunewright.core.errors import TunewrightError
from tunewright.core.events import say
from tunewright.serve.config import JobsConfig
from tunewright.serve.jobs.broker import EmbeddedBroker
from tunewright.serve.jobs.queue import ANSWER, NOTIFY, JobQueue, queue_name
from tunewright.serve.jobs.records import JobStore
from tunewright.serve.jobs.worker import PLACE, WorkerSettings

STOP_S = 5.0


class JobService:
    """The jobs of one project. `start` before the first request, `stop` after the last."""

    def __init__(
        self,
        project: str,
        config: JobsConfig,
        folder: Path,
        *,
        keys: Mapping[str, str],
        tell: Callable[[str], None] = say,
    ) -> None:
        """folder: for the embedded broker's data and `place.json`; keys: API key of each tenant."""
        self.config = config
        self._project, self._folder, self._keys, self._tell = project, folder, dict(keys), tell
        self.broker = EmbeddedBroker(folder / "broker") if config.broker == "embedded" else None
        self._address = self.broker.start() if self.broker else config.url()
        self.store = JobStore(self._address, project, config)
        self.queue = JobQueue(self._address, project, config)
        self.workers: list[subprocess.Popen[str]] = []
        self._url = ""
        self._stop = threading.Event()
        self._sweep = threading.Thread(target=self._watch, name="jobs", daemon=True)

    def start(self, url: str) -> None:
        """Runs the workers against the server at `url`, and the sweep."""
        self._url = url
        files.write_json(self._folder / PLACE, {"url": url, "broker": self._address if self.broker else ""})
        (self._folder / PLACE).chmod(0o600)
        self.workers = [self._worker() for _ in range(self.config.workers)]
        self._sweep.start()

    def stop(self) -> None:
        """Ends workers and broker; unfinished jobs stay where they are for the next start."""
        self._stop.set()
        if self._sweep.ident is not None:
            self._sweep.join()
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            _end(worker)
        self.queue.close()
        self.store.close()
        (self._folder / PLACE).unlink(missing_ok=True)
        if self.broker is not None:
            self.broker.stop()

    def _worker(self) -> subprocess.Popen[str]:
        settings = WorkerSettings(
            project=self._project,
            folder=self._folder,
            broker=self._address,
            fallback_url=self._url,
            keys=self._keys,
            jobs=self.config,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "tunewright.serve.jobs.worker"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is the server's to handle: it drains first
        )
        assert process.stdin is not None
        process.stdin.write(settings.model_dump_json() + "\n")
        process.stdin.flush()
        return process

    def _watch(self) -> None:
        """Looks after broker, workers, lost jobs and webhooks, several times in a lease."""
        while not self._stop.wait(min(2.0, self.config.lease_s / 4)):
            try:
                self._look()
            except redis.RedisError as error:
                self._tell(f"serve: jobs: the broker does not answer ({type(error).__name__})")
            except (TunewrightError, OSError) as error:
                self._tell(f"serve: jobs: {error}")

    def _look(self) -> None:
        if self.broker is not None and self.broker.revive():
            self._tell("serve: jobs: the broker had ended and was started again")
        for place, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self._tell(f"serve: jobs: a worker ended with {worker.returncode}; another is started")
                self.workers[place] = self._worker()
        is_empty = self.store.waiting_messages(queue_name(self._project)) == 0
        for job_id in self.store.requeue_lost(idle_s=self.config.lease_s if is_empty else 0):
            self.queue.send(ANSWER, job_id)
        for job_id in self.store.due_hooks():
            self.queue.send(NOTIFY, job_id)


def _end(worker: subprocess.Popen[str]) -> None:
    try:
        worker.wait(STOP_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
    if worker.stdin is not None:
        worker.stdin.close()
