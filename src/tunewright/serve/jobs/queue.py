"""The Celery queue: JSON messages that name a job, acknowledged when the job is done.

A message is only a nudge; what is to be done stands in the record (records.py). So a message that comes twice does no
harm, and one that is lost is sent again by the sweep (service.py). Celery alone would give a killed worker's messages
to another one only after its visibility timeout.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tunewright.serve.config import JobsConfig

ANSWER = "tunewright.answer"
NOTIFY = "tunewright.notify"


def queue_name(project: str) -> str:
    """The queue of one project."""
    return f"tunewright.{project}"


def make_celery(url: str, project: str, config: JobsConfig) -> Any:
    """The Celery application of one project. url: as redis-py takes it; results are not Celery's."""
    app = Celery(f"tunewright-{project}", broker=url.replace("unix://", "redis+socket://", 1), set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_default_queue=queue_name(project),
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2},
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": round(2 * config.timeout_s + 60),  # twice is harmless, but costs a look
            "socket_connect_timeout": 5,
            "socket_timeout": 30,
            "health_check_interval": 10,
        },
    )
    return app


class JobQueue:
    """Sends nudges."""

    def __init__(self, url: str, project: str, config: JobsConfig) -> None:
        self._app = make_celery(url, project, config)

    def send(self, name: str, job_id: str) -> bool:
        """Queues a task; False when the broker cannot be reached: the sweep sends it again."""
        try:
            self._app.send_task(name, args=[job_id])
        except OperationalError:
            return False
        return True

    def close(self) -> None:
        """Closes the connections."""
        self._app.close()
