"""What /metrics shows: Prometheus' text format, one registry a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tunewright.serve.answers import Answer, Engine, State

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FIRST_TOKEN_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 30, 60)
_A_TOKEN_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
_ANSWER_S = (0.1, 0.5, 1, 2, 5, 10, 20, 40, 80, 160, 320, 640)


class Metrics:
    """The numbers of one server over one engine."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self._now = _Now(engine)
        self.registry.register(self._now)
        made: dict[str, Any] = {"namespace": "tunewright", "registry": self.registry}
        self._requests = Counter("requests", "Requests", ["path", "method", "status"], **made)
        self._prompt = Counter("prompt_tokens", "Tokens of the prompts that were read", **made)
        self._endings = Counter("answers", "Generations by how they ended", ["finish"], **made)
        self._first = Histogram(
            "first_token_seconds", "From acceptance to the first token", buckets=_FIRST_TOKEN_S, **made
        )
        self._each = Histogram("token_seconds", "Between two tokens of an answer, mean", buckets=_A_TOKEN_S, **made)
        self._answer = Histogram("answer_seconds", "From acceptance to the end", buckets=_ANSWER_S, **made)
        self._cache = Counter("cache_lookups", "Questions by what the answer cache did", ["result"], **made)

    def request(self, path: str, method: str, status: int) -> None:
        """A request has ended. path: the route's, never what a client made up."""
        self._requests.labels(path, method, str(status)).inc()

    def looked_up(self, result: str) -> None:
        """hit, semantic (kept for a question that means the same), shared (with a running generation), miss, skip."""
        self._cache.labels(result).inc()

    def generated(self, answer: Answer) -> None:
        """A generation has ended."""
        request = answer.request
        self._endings.labels("fault" if answer.fault else request.finish or "cancelled").inc()
        if not request.output_ids:
            return
        self._prompt.inc(answer.prompt_tokens)
        self._first.observe(request.first_token_s)
        self._answer.observe(request.seconds)
        if len(request.output_ids) > 1:
            self._each.observe((request.seconds - request.first_token_s) / (len(request.output_ids) - 1))

    def text(self, jobs: Mapping[str, int] | None = None) -> bytes:
        """The page. jobs: how many are in each state now, and have ended in each way since the first."""
        self._now.jobs = jobs
        return generate_latest(self.registry)


class _Now:
    """What is read at the moment of the question, not counted along the way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.jobs: Mapping[str, int] | None = None

    def describe(self) -> Iterator[Metric]:
        """The names alone, for the registry."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All values."""
        engine = self._engine
        waiting = max(0, engine.outstanding - engine.running)
        yield GaugeMetricFamily("tunewright_queue_requests", "Accepted requests that wait", waiting)
        yield GaugeMetricFamily("tunewright_batch_requests", "Requests that generate together", engine.running)
        yield CounterMetricFamily("tunewright_generated_tokens", "Tokens; its rate is the speed", engine.tokens)
        states = GaugeMetricFamily("tunewright_engine_state", "1 for the engine's state", labels=["state"])
        for name in get_args(State):
            states.add_metric([name], float(engine.state == name))
        yield states
        if self.jobs is not None:
            yield from _jobs(self.jobs)


def _jobs(counts: Mapping[str, int]) -> Iterator[Metric]:
    now = GaugeMetricFamily("tunewright_jobs", "Unfinished jobs by state", labels=["state"])
    ended = CounterMetricFamily("tunewright_jobs_finished", "Finished jobs by how they ended", labels=["state"])
    for state, count in counts.items():
        (now if state in ("queued", "running") else ended).add_metric([state], count)
    yield now
    yield ended
