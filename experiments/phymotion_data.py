"""Windows of clean motion for the calibration and the benchmark of the PhyMotion reward."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from jaxphys.body import Motion, Skeleton, motion_files
from jaxphys.body.contact import estimate_ground, sole_motion
from jaxphys.body.inverse import from_trajectory


@dataclasses.dataclass(frozen=True)
class CleanClip:
    """A clean motion at the rate of the benchmark, with its ground."""

    name: str
    subject: str
    skeleton: Skeleton
    motion: Motion
    ground: float  # [m]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of equal length from several clips, stacked."""

    clips: tuple[str, ...]  # name of the clip of each
    subjects: tuple[str, ...]
    skeleton: Skeleton  # leaves (B, ...)
    motion: Motion  # (B, T, ...)
    ground: np.ndarray  # (B,) [m]


def at_rate(motion: Motion, fps: float, rate: float) -> Motion:
    """The motion at another frame rate, by cubic splines through the rotation matrices and positions."""
    if abs(fps - rate) < 1e-9:
        return motion
    t = np.arange(motion.frames) / fps
    new = np.arange(int(np.floor(t[-1] * rate + 1e-6)) + 1) / rate
    R = CubicSpline(t, np.asarray(motion.matrices(), np.float64))(new)
    w = Rotation.from_matrix(R.reshape(-1, 3, 3)).as_rotvec().reshape(len(new), -1, 3)
    x = CubicSpline(t, np.asarray(motion.translation, np.float64))(new)
    return Motion(jnp.asarray(w, jnp.float32), jnp.asarray(x, jnp.float32))


def subject_of(name: str) -> str:
    """`02_04_mjpc` is of subject 02."""
    return name.split("_")[0]


@functools.partial(jax.jit, static_argnames="fps")
def _ground(skeleton: Skeleton, motion: Motion, fps: float) -> jax.Array:
    dynamics = from_trajectory(skeleton, motion.matrices(), motion.translation, fps)
    return estimate_ground(*sole_motion(skeleton, dynamics, fps)).height


def ground_of(skeleton: Skeleton, motion: Motion, fps: float, frames: int = 31) -> float:
    """Height of the ground under a clean clip [m]: median over pieces of equal length (which compile once)."""
    count = max(1, motion.frames // frames)
    if motion.frames < frames:
        return float(_ground(skeleton, motion, fps))
    return float(np.median([_ground(skeleton, pick(motion, k * frames, frames), fps) for k in range(count)]))


def load(
    folder: str | Path,
    fps: float,
    subjects: Iterable[str],
    excluded: Iterable[str],
    skip_seconds: Mapping[str, float],
) -> list[CleanClip]:
    """The clips of some subjects, in the order of their names.

    Raises:
        ValueError: no motion file in the folder.
    """
    files = sorted(Path(folder).glob("*.npz"))
    if not files:
        raise ValueError(f"no motion files (*.npz) in {folder}: write them with experiments/make_motions.py")
    clips = []
    for path in files:
        if subject_of(path.stem) in subjects and path.stem not in excluded:
            clip = motion_files.read(path)
            motion = at_rate(clip.motion, clip.fps, fps)
            skip = round(fps * skip_seconds.get(path.stem, 0.0))
            motion = pick(motion, skip, motion.frames - skip)
            skeleton = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), clip.skeleton)
            ground = ground_of(skeleton, motion, fps)
            clips.append(CleanClip(path.stem, subject_of(path.stem), skeleton, motion, ground))
    return clips


def pick(motion: Motion, start: int, frames: int) -> Motion:
    return Motion(motion.rotation[start : start + frames], motion.translation[start : start + frames])


def windows(clips: list[CleanClip], lengths: tuple[int, ...], most: int) -> dict[int, Windows]:
    """Per clip up to `most` windows at equal distances, of the greatest of the lengths that fits into it."""
    rows: dict[int, list] = {n: [] for n in lengths}
    for clip in clips:
        fitting = [n for n in lengths if n <= clip.motion.frames]
        if not fitting:
            continue
        n = max(fitting)
        count = min(most, clip.motion.frames // n)
        free = clip.motion.frames - n
        starts = [free // 2] if count == 1 else np.linspace(0, free, count).astype(int)
        rows[n] += [(clip, pick(clip.motion, int(s), n)) for s in starts]
    return {n: stack(r) for n, r in rows.items() if r}


def stack(rows: list[tuple[CleanClip, Motion]]) -> Windows:
    clips, motions = zip(*rows)
    pile = lambda trees: jax.tree.map(lambda *a: jnp.stack(a), *trees)
    return Windows(
        clips=tuple(c.name for c in clips),
        subjects=tuple(c.subject for c in clips),
        skeleton=pile([c.skeleton for c in clips]),
        motion=pile(motions),
        ground=np.asarray([c.ground for c in clips], np.float32),
    )
