"""Shards of clips, read whole and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


@dataclasses.dataclass(frozen=True)
class Clips:
    """All clips of a set in memory; arrays with a leading axis of clips."""

    maps: np.ndarray  # (N, T, H, W, 3) uint8
    tokens: np.ndarray  # caption, without a colour (N, S) int32
    scalars: np.ndarray  # (N, K), NaN where the law has no such parameter
    outcomes: np.ndarray  # (N, len(captions.OUTCOMES))
    view: np.ndarray  # (N, 3)

    def __len__(self) -> int:
        return len(self.maps)

    def take(self, index) -> Clips:
        """The clips at an index."""
        return Clips(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))


def load_clips(folder: str | Path, *, held_out: float = 0.05) -> tuple[Clips, Clips]:
    """The training clips and the held-out clips: the last `held_out` of every shard, so of every kind of scene.

    Raises:
        ValueError: there is no manifest, or a shard is missing or not what the manifest says.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").exists():
        raise ValueError(
            f"{folder} holds no manifest.json: make the clips first, with python -m experiments.make_clips"
        )
    shards = json.loads((folder / "manifest.json").read_text())["shards"]
    parts = []
    for entry in shards:
        path = folder / entry["file"]
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            state = "is missing" if not path.exists() else "is corrupt (its checksum differs from the manifest's)"
            raise ValueError(f"{path} {state}: delete {path.with_suffix('.json').name} and run make_clips again")
        arrays = load_file(path)
        parts.append(Clips(**arrays))
    whole = Clips(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(Clips)))
    sizes = np.asarray([len(p) for p in parts])
    place = np.concatenate([np.arange(n) for n in sizes])
    kept = place < np.repeat(sizes - np.ceil(held_out * sizes), sizes)
    return whole.take(kept), whole.take(~kept)
