"""Two processes of one device each (gloo) follow the loss curve of one process to 1e-6.

`experiments.toy_training` with the batch spread over two processes that know of each other through `jax.distributed`,
against the same run in one process. Then the checkpoint that the two wrote together is taken on by one process, and its
curve compared as well. CPU. About a minute on two cores.
"""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

from experiments.cases.resume import STEPS, curve, finish, start

SWITCH = 20  # the step after which one process takes over


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def two_processes(workdir: Path, *options: str) -> None:
    address = f"--address=localhost:{free_port()}"
    pair = [start(workdir, address, "--processes=2", f"--index={i}", *options) for i in range(2)]
    for process in pair:
        finish(process)


def distance(workdir: Path, whole: Path, steps: int = STEPS) -> float:
    """The greatest relative difference of the loss of a step; infinite where a step is missing."""
    a, b = curve(workdir), curve(whole)
    if not set(range(1, steps + 1)) == set(a) <= set(b):
        return float("inf")
    return max(abs(a[step][0] / b[step][0] - 1.0) for step in a)


def run() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        one, two, both = (Path(folder) / name for name in ("one", "two", "both"))
        finish(start(one))
        two_processes(two)
        two_processes(both, f"--steps={SWITCH}", f"--checkpoint-every={SWITCH}")
        finish(start(both))
        return {
            "steps": STEPS,
            "loss_relative_difference": distance(two, one),
            "loss_relative_difference_after_one_process_took_over": distance(both, one),
        }


CHECKS = {
    "loss_relative_difference": ("<=", 1e-6),
    "loss_relative_difference_after_one_process_took_over": ("<=", 1e-6),
}
