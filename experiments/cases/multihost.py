"""Two processes of one device each (gloo) follow the loss curve of one process to 1e-6.

`experiments.toy_training` with the batch spread over two processes that know of each other through `jax.distributed`,
against the same run in one process. Then the checkpoint that the two wrote together is taken on by one process, and its
curve compared as well. Last, one of two processes is sent SIGTERM, as a cluster does that wants its machine back: both
save the same step and end without an error. CPU. About two minutes on two cores.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from pathlib import Path

from experiments.cases.resume import STEPS, curve, finish, start

SWITCH = 20  # the step after which one process takes over


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start_two(workdir: Path, *options: str) -> list[subprocess.Popen]:
    address = f"--address=localhost:{free_port()}"
    return [start(workdir, address, "--processes=2", f"--index={i}", *options) for i in range(2)]


def two_processes(workdir: Path, *options: str) -> None:
    for process in start_two(workdir, *options):
        finish(process)


def preempt(workdir: Path) -> bool:
    """Whether two processes, one of which is told to end, save the last step that they report."""
    pair = start_two(workdir, "--steps=1000", "--checkpoint-every=1000")
    while max(curve(workdir), default=0) < 5 and all(process.poll() is None for process in pair):
        time.sleep(0.05)
    pair[1].terminate()
    for process in pair:
        finish(process)
    saved = [int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()]
    return saved == [max(curve(workdir))]


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
            "saved_when_asked_to_end": int(preempt(Path(folder) / "preempted")),
        }


CHECKS = {
    "loss_relative_difference": ("<=", 1e-6),
    "loss_relative_difference_after_one_process_took_over": ("<=", 1e-6),
    "saved_when_asked_to_end": (">=", 1),
}
