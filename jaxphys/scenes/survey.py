"""What a capture looks like before anyone says so: its size, which way is up, where its ground lies."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxphys.splats import Gaussians, quat_to_matrix

AXES = ("+x", "-x", "+y", "-y", "+z", "-z")
_CORE = (2.0, 98.0)  # percentiles that hold the scene without its floaters


@dataclasses.dataclass(frozen=True)
class Survey:
    """A guess, with how sure it is."""

    center: np.ndarray  # of the core of the scene (3,)
    size: np.ndarray  # of the core (3,)
    up: str  # one of AXES
    ground: float  # coordinate of the ground along the axis of `up`, in the file's units
    share: float  # part of the flat area that lies in the ground, 0..1; below 0.2 there is hardly a ground

    def describe(self) -> str:
        size = " x ".join(f"{a:.3g}" for a in self.size)
        sure = "" if self.share >= 0.2 else " (uncertain: no plane stands out)"
        return f"size {size}, up {self.up}, ground at {self.up[1]} = {self.ground:.4g}{sure}"


def survey(gaussians: Gaussians) -> Survey:
    """Size, up axis and ground of a scene.

    A ground is many flat Gaussians in one thin layer, with the rest of the scene on one side of it. For each axis the
    flat ones that face along it (the shortest of their axes within 30 degrees of it) vote by area in layers of 2 % of
    the scene; the layer with most votes of all is the ground, and up is the side on which more of the scene stands.

    Args:
        gaussians: a scene, in any orientation of its axes.

    Raises:
        ValueError: no Gaussian is opaque.

    >>> from jaxphys.scenes.draw import floor
    >>> found = survey(floor((0.0, 0.0), 0.25, 1.0))
    >>> found.up, round(found.ground, 2)
    ('+z', 0.25)
    """
    keep = np.asarray(gaussians.opacity) > 0.1
    if not keep.any():
        raise ValueError("survey: no Gaussian has an opacity above 0.1")
    x = np.asarray(gaussians.mean, np.float64)[keep]
    scale = np.asarray(gaussians.scale, np.float64)[keep]
    turn = np.asarray(quat_to_matrix(gaussians.quat), np.float64)[keep]
    lo, hi = np.percentile(x, _CORE, axis=0)
    size = np.maximum(hi - lo, 0.0)
    layer = 0.02 * max(float(size.max()), 1e-12)
    core = ((x >= lo - layer) & (x <= hi + layer)).all(1)
    ordered = np.sort(scale, axis=1)
    area = np.minimum(ordered[:, 1] * ordered[:, 2], layer**2 * 25)  # one huge Gaussian is no ground
    normal = np.take_along_axis(turn, scale.argmin(1)[:, None, None], 2)[..., 0]
    flat = core & (ordered[:, 0] < 0.5 * ordered[:, 1])
    total = max(float(area[flat].sum()), 1e-300)
    best = (-1.0, 0, 0.0)
    for axis in range(3):
        facing = flat & (np.abs(normal[:, axis]) > np.cos(np.radians(30)))
        if not facing.any():
            continue
        index = np.floor((x[facing, axis] - lo[axis]) / layer).astype(int)
        first = index.min()
        votes = np.bincount(index - first, area[facing])
        votes = np.convolve(votes, np.ones(2))  # two neighbours: a ground on the border of two layers counts whole
        k = int(votes.argmax())
        near = facing.copy()
        near[facing] = np.isin(index - first, (k - 1, k))
        height = float(np.average(x[near, axis], weights=area[near]))
        best = max(best, (float(votes[k]) / total, axis, height))
    share, axis, ground = best
    if share < 0:  # nothing is flat: nothing is known of the ground
        share, axis, ground = 0.0, 2, float(lo[2])
    beside = x[core, axis] - ground
    above, below = (int((side > 2 * layer).sum()) for side in (beside, -beside))
    up = AXES[2 * axis + (0 if above >= below else 1)]
    return Survey((lo + hi) / 2, size, up, ground, max(share, 0.0))
