"""Killed with kill -9 at random steps and resumed, a run ends bit for bit as the one that nobody touched.

Eight runs of `experiments.toy_training` with a checkpoint every five steps, each killed once or twice after a random
step and a random fraction of a second (so in the middle of a step, or of a write), then resumed: every loss of every
step and a hash of the final parameters, moments and averages. CPU, fixed threads. About four minutes on one core.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.report import ROOT

if TYPE_CHECKING:
    from experiments import toy_training  # noqa: F401 - runs in processes of its own; a change of it makes results old

STEPS = 30
RUNS = 8


def start(workdir: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.toy_training", f"--workdir={workdir}", f"--steps={STEPS}", *options]
    environment = os.environ | {"XLA_FLAGS": ""}  # what runs this may have asked for eight devices
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    """Waits; an error of the run is an error here."""
    _, error = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"experiments.toy_training ended with {process.returncode}:\n{error.decode()[-2000:]}")


def curve(workdir: Path) -> dict[int, tuple[float, float]]:
    """{step: (loss, gradient norm)}, written so that every bit counts; complete lines only."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in rows}


def interrupt(workdir: Path, step: int, delay: float, how: int = signal.SIGKILL) -> int:
    """Starts a run and kills it `delay` seconds after `step` was reported; returns the last step reported."""
    process = start(workdir)
    while process.poll() is None and max(curve(workdir), default=0) < step:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(how)
    process.communicate(timeout=600)
    return max(curve(workdir), default=0)


def compare(workdir: Path, whole: Path) -> tuple[int, bool]:
    """(steps whose loss or gradient norm differs in any bit or is missing, whether the final states have one hash)."""
    a, b = curve(workdir), curve(whole)
    differing = sum(a.get(step) != b[step] for step in b) + len(set(a) - set(b))
    return differing, (workdir / "final.json").read_text() == (whole / "final.json").read_text()


def run() -> dict:
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        finish(start(whole))
        differing, same, kills, steps = 0, 0, 0, []
        for number in range(RUNS):
            workdir = Path(folder) / f"run_{number}"
            for _ in range(draw.choice((1, 1, 2))):
                first = max(curve(workdir), default=0)
                target = draw.randint(min(first + 1, STEPS - 2), STEPS - 2)
                steps.append(interrupt(workdir, target, draw.uniform(0.0, 0.05)))
                kills += 1
            finish(start(workdir))
            count, equal = compare(workdir, whole)
            differing, same = differing + count, same + equal
        losses = [loss for loss, _ in curve(whole).values()]
    return {
        "runs": RUNS,
        "kills": kills,
        "killed_after_steps": steps,
        "steps": STEPS,
        "differing_steps": differing,
        "runs_with_another_final_state": RUNS - same,
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }


CHECKS = {"differing_steps": ("<=", 0), "runs_with_another_final_state": ("<=", 0), "kills": (">=", 8)}
