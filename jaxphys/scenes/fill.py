"""Solids made of voxels: the inside of a mesh, of a shape, of a shell of Gaussians; and the particles that fill it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from jaxphys import mpm
from jaxphys.checks import as_array
from jaxphys.mesh import Mesh
from jaxphys.shapes import Capsule, HalfSpace, Shape
from jaxphys.splats import Gaussians

MARGIN = 4  # empty voxels around a solid
LARGEST = 3 * 10**7  # voxels: a few seconds and a gigabyte
REACH = 4  # voxels on each side that a Gaussian adds opacity to, at most: one of any size costs no more than that


@dataclasses.dataclass(frozen=True)
class Solid:
    """Voxel (i, j, k) spans origin + (i, j, k) spacing to origin + (i+1, j+1, k+1) spacing."""

    inside: np.ndarray  # bool (nx, ny, nz)
    origin: np.ndarray  # lower corner [m], (3,)
    spacing: float  # [m]
    hollow: bool = (
        False  # the surface it was made from encloses nothing at this spacing: a sheet, or a shell that leaks
    )

    @property
    def volume(self) -> float:
        """[m^3]"""
        return float(self.inside.sum()) * self.spacing**3

    def points(self, per_axis: int = 2) -> np.ndarray:
        """A regular lattice of per_axis^3 points in every voxel inside, (N, 3)."""
        steps = (np.arange(per_axis) + 0.5) / per_axis
        lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        return (self.origin + (np.argwhere(self.inside)[:, None] + lattice) * self.spacing).reshape(-1, 3)

    def share(self, points: np.ndarray) -> np.ndarray:
        """Volume of each point (N,) [m^3]: what lies in a voxel shares its volume.

        A point beside the solid, up to two voxels away (the Gaussians of a surface stand on it, so half of them do),
        belongs to the nearest voxel inside. Farther out it has a voxel of its own: a stem too thin to be solid.
        """
        index = np.floor((points - self.origin) / self.spacing).astype(int)
        shape = np.array(self.inside.shape)
        within = np.clip(index, 0, shape - 1)
        if self.inside.any():
            found: Any = ndimage.distance_transform_edt(~self.inside, return_indices=True)
            distance, near = found
            steps = distance[tuple(within.T)]
            adopted = (steps <= 2.0) & (index == within).all(1)
            index = np.where(adopted[:, None], np.stack([n[tuple(within.T)] for n in near], 1), index)
        _, cell, count = np.unique(index, axis=0, return_inverse=True, return_counts=True)
        return self.spacing**3 / count[cell.reshape(-1)]


def solid_of_mesh(mesh: Mesh, spacing: float) -> Solid:
    """The inside of a closed mesh: the voxels whose centres lie in it, by winding number.

    Raises:
        ValueError: the mesh is not closed, the spacing is too coarse or too fine.

    >>> tetrahedron = Mesh(np.eye(4, 3), np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]))
    >>> round(solid_of_mesh(tetrahedron, 0.02).volume * 6, 2)
    1.0
    """
    used = mesh.vertices[mesh.faces.reshape(-1)]
    origin, shape = _grid(used.min(0), used.max(0), spacing)
    return _not_empty(Solid(mesh.inside(origin, spacing, shape), origin, spacing), "mesh")


def solid_of_shape(shape: Shape, spacing: float) -> Solid:
    """The inside of an analytic shape: the voxels whose centres have a negative distance.

    Raises:
        ValueError: a half-space, which has no volume; the spacing is too coarse or too fine.
    """
    if isinstance(shape, HalfSpace):
        raise ValueError("fill: a HalfSpace is infinite and cannot be filled; use a Box")
    at: Any = shape
    center = (np.asarray(at.start) + np.asarray(at.end)) / 2 if isinstance(shape, Capsule) else at.center
    center = np.asarray(center, np.float64)
    reach = shape.reach(center)
    origin, size = _grid(center - reach, center + reach, spacing)
    axes = np.meshgrid(*(o + (np.arange(n) + 0.5) * spacing for o, n in zip(origin, size)), indexing="ij")
    inside = np.asarray(_distance(shape, tuple(as_array(a) for a in axes))) <= 0
    return _not_empty(Solid(inside, origin, spacing), type(shape).__name__)


@jax.jit
def _distance(shape: Shape, points):
    return shape.distance(points)


def opacity_field(gaussians: Gaussians, origin: np.ndarray, spacing: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Sum of opacity exp(-1/2 d^T S^-1 d) at the centres of the voxels, float64 of `shape`.

    S is the covariance plus (spacing / 2)^2 I, so that no Gaussian is so thin that it falls between the centres, and
    each reaches as many voxels as three standard deviations span, at most four.
    """
    mean = (np.asarray(gaussians.mean, np.float64) - origin) / spacing - 0.5
    cov = np.asarray(gaussians.covariance(), np.float64) / spacing**2 + 0.25 * np.eye(3)
    opacity = np.asarray(gaussians.opacity, np.float64)
    inverse = np.linalg.inv(cov)
    reach = np.ceil(3.0 * np.sqrt(np.linalg.eigvalsh(cov)[:, -1])).clip(1, REACH).astype(int)
    nearest = np.round(mean).astype(int)
    field = np.zeros(int(np.prod(shape)))
    for r in np.unique(reach):
        steps = np.stack(np.meshgrid(*[np.arange(-r, r + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
        members = np.flatnonzero(reach == r)
        for part in np.array_split(members, -(-len(members) * len(steps) // 3_000_000)):
            at = nearest[part][:, None] + steps
            d = at - mean[part][:, None]
            value = opacity[part, None] * np.exp(-0.5 * ((d @ inverse[part]) * d).sum(-1))
            valid = ((at >= 0) & (at < shape)).all(-1)
            cell = np.ravel_multi_index(tuple(at[valid].T), shape)
            field += np.bincount(cell, value[valid], len(field))
    return field.reshape(shape)


def solid_of_gaussians(gaussians: Gaussians, spacing: float, *, threshold: float = 0.1, close: int = 2) -> Solid:
    """What a shell (or a cloud) of Gaussians encloses, up to the surface on which its outermost centres lie.

    Where the opacity field exceeds `threshold` there is a wall. Gaps in it are closed by thickening it by `close`
    voxels, the outside is flooded from the edge of the grid, and what it does not reach is solid, thinned again by
    `close`. A wall is blurred, so it stands out from the surface: `_below_surface` takes off what is above it. Where
    that leaves nothing deeper than a voxel (a sheet, or a shell with wider gaps), the voxels that hold a centre are
    the solid, and `hollow` says so.

    Args:
        gaussians: the object, in metres.
        spacing: voxel size [m].
        threshold: of the opacity field, whose peak at a Gaussian of opacity 1 is 1.
        close: gaps up to twice as many voxels wide are closed.

    Raises:
        ValueError: no Gaussian, a bad spacing or threshold, nothing reaches the threshold.
    """
    if not (threshold > 0 and close >= 0):
        raise ValueError(f"fill: needs threshold > 0 and close >= 0, got {threshold} and {close}")
    x = np.asarray(gaussians.mean, np.float64)
    if not len(x):
        raise ValueError("fill: there is no Gaussian to fill")
    origin, shape = _grid(x.min(0), x.max(0), spacing, MARGIN + REACH + close)
    wall = opacity_field(gaussians, origin, spacing, shape) > threshold
    if not wall.any():
        raise ValueError(
            f"fill: the opacity reaches the threshold {threshold} nowhere; lower it, or enlarge the spacing {spacing}"
        )
    distance: Any = ndimage.distance_transform_edt(~wall) if close else None  # thickening by a ball
    closed = distance <= close if close else wall
    labels: Any = ndimage.label(~closed)
    outside = labels[0] == labels[0][0, 0, 0]
    depth: Any = ndimage.distance_transform_edt(~outside)
    solid = (depth > close) | wall
    depth = ndimage.distance_transform_edt(solid)
    inside, deepest = _below_surface(x, solid, depth, origin, spacing)
    if deepest >= 1.0:
        return Solid(inside, origin, spacing)
    held = np.zeros_like(inside)
    held[tuple(np.floor((x - origin) / spacing).astype(int).T)] = True
    return Solid(held, origin, spacing, hollow=True)


def _below_surface(x: np.ndarray, solid: np.ndarray, depth: Any, origin: np.ndarray, spacing: float) -> tuple:
    """The voxels of a solid whose centres lie below the surface through the points x, which the solid stands out from;
    and how deep the deepest of them lies [voxels].

    First, how deep below the faces of the solid the surface lies: the mean, over the voxels around it, of their depth
    and their height above it. Then the voxels around it are in or out by their own height, and deeper ones are in. The
    height is that above the nearest points, along the normal, so that the gaps between the points do not count.
    """
    outside: Any = ndimage.distance_transform_edt(~solid)
    soft = ndimage.gaussian_filter((depth - outside).astype(np.float32), 1.0)
    slope = [np.gradient(soft, axis=k) for k in range(3)]
    tree, count = cKDTree(x), min(4, len(x))
    found, band, height = 1.0, np.zeros((0, 3), int), np.zeros(0)
    for _ in range(3):  # the faces first, then the voxels around what was found
        band = np.argwhere(solid & (np.abs(depth - found) <= 1.5))
        if not len(band):
            break
        normal = -np.stack([a[tuple(band.T)] for a in slope], 1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        centre = origin + (band + 0.5) * spacing
        nearest = np.asarray(tree.query(centre, count)[1]).reshape(len(band), count)
        height = ((centre - x[nearest].mean(1)) * normal).sum(1) / spacing
        found = max(1.0, float((height + depth[tuple(band.T)]).mean()))
    inside = depth > found + 1.5
    near = np.abs(depth[tuple(band.T)] - found) <= 1.5
    inside[tuple(band[near & (height <= 0.0)].T)] = True
    return inside, float(depth.max()) - found


def fill(solid: Solid, *, surface=None, per_axis: int = 2, v=(0.0, 0.0, 0.0), material: int = 0) -> mpm.Particles:
    """Particles that fill a solid: those of `surface` first, then a regular lattice; they share the volume of voxels.

    Args:
        solid: what to fill.
        surface: (N, 3) points that must be particles, such as the centres of Gaussians [m]; None: none.
        per_axis: lattice points per voxel and axis.
        v: velocity [m/s], (3,).
        material: index of the law.

    Returns:
        The particles; their volumes add up to `solid.volume`, plus a voxel for every stray point of `surface`.

    Raises:
        ValueError: per_axis < 1, or nothing to fill.
    """
    if per_axis < 1:
        raise ValueError(f"fill: per_axis must be a positive number, got {per_axis}")
    points = solid.points(per_axis)
    if surface is not None:
        points = np.concatenate([np.asarray(surface, np.float64).reshape(-1, 3), points])
    if not len(points):
        raise ValueError("fill: the solid is empty and there are no surface points; make the spacing smaller")
    volume = solid.share(points)
    return mpm.Particles.create(np.asarray(points, np.float32), volume, v=np.asarray(v, np.float32), material=material)


def cell_volumes(x, dx: float) -> np.ndarray:
    """Volume of particles that nothing fills: dx^3 shared by those in a cell of the grid (N,) [m^3]."""
    index = np.floor(np.asarray(x, np.float64) / dx).astype(np.int64)
    _, cell, count = np.unique(index, axis=0, return_inverse=True, return_counts=True)
    return dx**3 / count[cell.reshape(-1)]


def _grid(lo, hi, spacing: float, margin: int = MARGIN) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Origin and shape of a grid of voxels around a box."""
    if not (np.isfinite(spacing) and spacing > 0):
        raise ValueError(f"fill: the spacing must be a positive number of metres, got {spacing}")
    cells = np.ceil((np.asarray(hi) - lo) / spacing) + 2 * margin + 1
    if not np.prod(cells) <= LARGEST:
        raise ValueError(
            f"fill: a spacing of {spacing} m over {(np.asarray(hi) - lo).tolist()} m takes {np.prod(cells):.3g} "
            f"voxels, more than {LARGEST}; enlarge the spacing, or select the object first"
        )
    return np.asarray(lo, np.float64) - margin * spacing, tuple(int(n) for n in cells)


def _not_empty(solid: Solid, what: str) -> Solid:
    if not solid.inside.any():
        raise ValueError(f"fill: no voxel centre lies in the {what} at a spacing of {solid.spacing} m; make it smaller")
    return solid
