"""`tunewright train --emit KIND`: a job file for many machines. Nothing is started. Loads no torch.

All machines need the project's folder on a disk that they share. A stopped job goes on where it was when it is
started again, with as many ranks.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

PORT = 29500
SAVE_S = 300
"""Seconds between the signal to save and the end."""
IMAGE = "REGISTRY/tunewright:latest"


@dataclass(frozen=True)
class Job:
    """project: the project's name. words: what stands after `tunewright train`, the project file first. machines of
    `ranks` GPUs each. folder: the shared project folder, as the machines see it."""

    project: str
    words: Sequence[str]
    machines: int
    ranks: int
    folder: str

    @property
    def name(self) -> str:
        """A DNS label."""
        return re.sub(r"[^a-z0-9]+", "-", f"train-{self.project}".lower()).strip("-")[:50] or "train"

    @property
    def command(self) -> str:
        """`tunewright train ...`, quoted."""
        return shlex.join(["tunewright", "train", *self.words])


def slurm(job: Job) -> str:
    """A batch script: one task a GPU, without torchrun between, so that each gets Slurm's signal once. The job asks for
    the signal SAVE_S seconds before its time is over, and is queued again."""
    task = f'export RANK="$SLURM_PROCID" LOCAL_RANK="$SLURM_LOCALID"; exec {job.command}'
    return f"""#!/bin/bash
#SBATCH --job-name={job.name}
#SBATCH --nodes={job.machines}
#SBATCH --ntasks-per-node={job.ranks}
#SBATCH --gpus-per-node={job.ranks}
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@{SAVE_S}
#SBATCH --requeue
#SBATCH --output=%x-%j.log
# Submit with `sbatch FILE`. After a stop, submit it again: the training goes on from its last checkpoint.
set -euo pipefail
cd {shlex.quote(job.folder)}
# Not `| head -n 1`: with pipefail, a scontrol that is still writing would end the job.
read -r MASTER_ADDR < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MASTER_ADDR MASTER_PORT={PORT} WORLD_SIZE="$SLURM_NTASKS" LOCAL_WORLD_SIZE={job.ranks}
export OMP_NUM_THREADS="$SLURM_CPUS_PER_TASK"
srun --kill-on-bad-exit=1 bash -c {shlex.quote(task)}
"""


def skypilot(job: Job) -> str:
    """A SkyPilot task: `sky launch FILE`, or `sky jobs launch FILE` to have it restarted."""
    document = {
        "name": job.name,
        "num_nodes": job.machines,
        "resources": {"accelerators": f"A100:{job.ranks}", "use_spot": False},
        "file_mounts": {job.folder: {"name": f"{job.name}-files", "mode": "MOUNT"}},
        "setup": "pip install 'tunewright[train,deepspeed]'",
        "run": f"cd {shlex.quote(job.folder)}\n"
        + _torchrun(
            job,
            machines='"$SKYPILOT_NUM_NODES"',
            machine='"$SKYPILOT_NODE_RANK"',
            address='"$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"',
        ),
    }
    return "# Adapt `accelerators` and `file_mounts` (a bucket or volume that all nodes share).\n" + _yaml(document)


def k8s(job: Job) -> str:
    """A headless service and an indexed job: one pod a machine, which find each other by name."""
    labels = {"app": job.name}
    container = {
        "name": "train",
        "image": IMAGE,
        "workingDir": job.folder,
        "command": ["bash", "-c"],
        "args": [
            "exec "
            + _torchrun(
                job, machines=str(job.machines), machine='"$JOB_COMPLETION_INDEX"', address=f"{job.name}-0.{job.name}"
            )
        ],
        "resources": {"limits": {"nvidia.com/gpu": job.ranks}},
        "volumeMounts": [{"name": "project", "mountPath": job.folder}, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108 (a mount point)
    }
    pod = {
        "subdomain": job.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": SAVE_S,
        "containers": [container],
        "volumes": [
            {"name": "project", "persistentVolumeClaim": {"claimName": f"{job.name}-files"}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name},
        "spec": {"clusterIP": "None", "selector": labels, "publishNotReadyAddresses": True},
    }
    batch = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name},
        "spec": {
            "completions": job.machines,
            "parallelism": job.machines,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    note = "# Adapt `image` and `claimName` (a ReadWriteMany volume that holds the project's folder).\n"
    return note + _yaml(service) + "---\n" + _yaml(batch)


EMITTERS: dict[str, Callable[[Job], str]] = {"slurm": slurm, "skypilot": skypilot, "k8s": k8s}


def _torchrun(job: Job, *, machines: str, machine: str, address: str) -> str:
    """A command line; machines, machine and address are shell words."""
    return (
        f"torchrun --nnodes={machines} --node-rank={machine} --nproc-per-node={job.ranks} "
        f"--master-addr={address} --master-port={PORT} -m {job.command}\n"
    )


def _yaml(document: dict[str, Any]) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000)
