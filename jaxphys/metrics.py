"""The numbers of a training run: one JSON line per step, and the same for TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path

import jax
from tensorboardX import SummaryWriter

from jaxphys.files import atomic_path


class Metrics:
    """Appends to `metrics.jsonl` and `tensorboard/` of a workdir; of several processes only the first writes.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     metrics = Metrics(folder, 0)
    ...     metrics.write([{"step": 1, "loss": 0.5}])
    ...     metrics.close()
    ...     print(metrics.path.read_text(), end="")
    {"step": 1, "loss": 0.5}
    """

    def __init__(self, workdir: str | Path, step: int):
        """
        Args:
            workdir: an existing folder.
            step: the last one that counts; what a run that was killed has written of later ones is forgotten.
        """
        self.path = Path(workdir) / "metrics.jsonl"
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines if _step_of(line) <= step))
        self.board = SummaryWriter(str(self.path.parent / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, rows: list[dict[str, float]]) -> None:
        """Rows of numbers with their "step"; what is not finite is written as a string, which JSON can hold."""
        if not self.writes:
            return
        with open(self.path, "a") as file:
            for row in rows:
                file.write(json.dumps({k: v if math.isfinite(v) else str(v) for k, v in row.items()}) + "\n")
        for row in rows:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name, value, row["step"])
        self.board.flush()

    def close(self) -> None:
        """Lets go of the files."""
        if self.writes:
            self.board.close()


def _step_of(line: str) -> float:
    """The step of a line; a line that was cut off belongs to no step that is kept."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf
