"""Splats to particles: which Gaussians move, what fills the inside, how much volume each particle has."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from jaxphys import mpm
from jaxphys.splats import Gaussians

OPAQUE = 0.02  # Gaussians below this opacity carry no matter


def select_box(gaussians: Gaussians, lo, hi) -> np.ndarray:
    """Mask (N,) of the Gaussians whose centres lie in a box.

    Raises:
        ValueError: the box holds none.
    """
    x = np.asarray(gaussians.mean)
    mask = np.all((x >= np.asarray(lo)) & (x <= np.asarray(hi)), axis=1) & (np.asarray(gaussians.opacity) > OPAQUE)
    if not mask.any():
        raise ValueError(
            f"select_box: no opaque Gaussian lies in {tuple(lo)} to {tuple(hi)}; the scene spans "
            f"{x.min(0).tolist()} to "
            f"{x.max(0).tolist()}"
        )
    return mask


def select_component(gaussians: Gaussians, voxel: float, share: float = 0.05) -> np.ndarray:
    """Mask (N,) of the highest connected cluster of Gaussians: the object over its ground.

    Opaque Gaussians smaller than three voxels mark voxels; voxels that touch (26 neighbours) are one component; of the
    components with at least `share` of the marked Gaussians, the one whose centre is highest is taken.

    Args:
        gaussians: a scene with z up.
        voxel: gaps narrower than this do not separate [m].
        share: smaller components are ignored.

    Raises:
        ValueError: nothing is opaque enough, or there is one component only (then select by a box).
    """
    x = np.asarray(gaussians.mean)
    marks = (np.asarray(gaussians.opacity) > 0.1) & (np.asarray(gaussians.scale).max(1) < 3 * voxel)
    if not marks.any():
        raise ValueError(
            f"select_component: no opaque Gaussian is smaller than three voxels of {voxel} m; enlarge voxel"
        )
    index = np.floor((x - x.min(0)) / voxel).astype(int)
    volume = np.zeros(index.max(0) + 1, bool)
    volume[tuple(index[marks].T)] = True
    labels: Any = ndimage.label(volume, np.ones((3, 3, 3)))
    labels = labels[0]
    label = labels[tuple(index.T)]
    large = [k for k in np.unique(label[label > 0]) if np.sum(label == k) >= share * marks.sum()]
    if len(large) < 2:
        raise ValueError(
            f"select_component: the scene is one piece at voxel={voxel} m; make voxel smaller, or select "
            f"the object by a box "
            f"inside {x.min(0).tolist()} to {x.max(0).tolist()}"
        )
    return label == max(large, key=lambda k: x[label == k, 2].mean())


@dataclasses.dataclass(frozen=True)
class Binding:
    """Particles of an object: the first `len(gaussians)` carry its Gaussians, the rest fill its inside unseen."""

    gaussians: Gaussians
    particles: mpm.Particles
    volume: float  # of the filled object [m^3]


def bind(gaussians: Gaussians, spacing: float, *, v=(0.0, 0.0, 0.0)) -> Binding:
    """Particles for an object given as a shell of Gaussians.

    The shell is voxelised at `spacing`, closed over gaps of up to two voxels, and filled; every voxel gets eight
    regular
    particles, and the volume of a voxel is shared by all particles in it, those of its Gaussians included. So the
    volumes sum to
    the volume of the filled voxels, whatever the density of the shell.

    Args:
        gaussians: the object, in world coordinates.
        spacing: voxel size [m], usually the grid's dx.
        v: initial velocity [m/s], (3,).

    Returns:
        A `Binding`.

    Raises:
        ValueError: no Gaussian, or spacing not positive.
    """
    x = np.asarray(gaussians.mean, np.float64)
    if len(x) == 0 or spacing <= 0:
        raise ValueError(f"bind: needs Gaussians and a positive spacing, got {len(x)} Gaussians and spacing={spacing}")
    margin = 3
    origin = x.min(0) - margin * spacing
    index = np.floor((x - origin) / spacing).astype(int)
    shell = np.zeros(index.max(0) + 1 + margin, bool)
    shell[tuple(index.T)] = True
    thick: Any = ndimage.binary_dilation(shell, iterations=2)  # a sampled shell leaks; two voxels thicker it does not
    solid = ndimage.binary_erosion(ndimage.binary_fill_holes(thick), iterations=2) | shell
    corners = np.argwhere(solid)
    eighths = (np.stack(np.meshgrid(*[[0.25, 0.75]] * 3, indexing="ij"), -1)).reshape(-1, 3)
    fill = (origin + (corners[:, None] + eighths) * spacing).reshape(-1, 3)
    points = np.concatenate([x, fill])
    cell = np.ravel_multi_index(tuple(np.floor((points - origin) / spacing).astype(int).T), solid.shape)
    count = np.bincount(cell, minlength=solid.size)
    volume = spacing**3 / count[cell]
    particles = mpm.Particles.create(np.asarray(points, np.float32), volume, v=np.asarray(v, np.float32))
    return Binding(gaussians, particles, float(solid.sum() * spacing**3))
