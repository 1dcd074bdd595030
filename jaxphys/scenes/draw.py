"""Pictures of a simulation: which kernels to draw at a frame, a floor, a camera."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.camera import Camera
from jaxphys.splats import Gaussians, Kernels, deform

FLOWING = ("sand", "snow", "newtonian", "non_newtonian", "water")


def drawing_gradient(law: str, F: jnp.ndarray) -> jnp.ndarray:
    """The deformation gradient that Gaussians are drawn with.

    A solid's own. What flows has no shape to keep: its total deformation grows without bound and would draw needles,
    so its
    Gaussians move undeformed.

    Args:
        law: name of the law.
        F: total deformation gradient, (..., 3, 3).
    """
    return jnp.broadcast_to(jnp.eye(3, dtype=F.dtype), F.shape) if law in FLOWING else F


@jax.jit
def frame_kernels(moving: Gaussians, still: Gaussians | None, x, F) -> Kernels:
    """The kernels of one frame: the object deformed, its surroundings as they are.

    Args:
        moving: Gaussians of the object, (N,).
        still: the rest, or None.
        x: centres of the object's Gaussians at this frame [m], (N, 3).
        F: their deformation gradients, (N, 3, 3).
    """
    kernels = deform(moving, x, F)
    if still is None:
        return kernels
    rest = still.kernels()
    degree = max(kernels.sh.shape[1], rest.sh.shape[1])

    def pad(sh):
        return jnp.pad(sh, ((0, 0), (0, degree - sh.shape[1]), (0, 0)))

    eye = jnp.broadcast_to(jnp.eye(3, dtype=rest.cov.dtype), rest.cov.shape)
    rotation = kernels.rotation if kernels.rotation is not None else jnp.broadcast_to(jnp.eye(3), kernels.cov.shape)
    return Kernels(
        mean=jnp.concatenate([kernels.mean, rest.mean]),
        cov=jnp.concatenate([kernels.cov, rest.cov]),
        opacity=jnp.concatenate([kernels.opacity, rest.opacity]),
        sh=jnp.concatenate([pad(kernels.sh), pad(rest.sh)]),
        rotation=jnp.concatenate([rotation, eye]),
    )


def floor(center, height: float, half_size: float, tiles: int = 8) -> Gaussians:
    """A checkerboard of flat Gaussians at a height [m].

    Args:
        center: (x, y) [m].
        height: z of the floor [m].
        half_size: half the side of the board [m].
        tiles: fields per side.
    """
    per_tile = 6
    n = tiles * per_tile
    axis = (np.arange(n) + 0.5) / n * 2 * half_size - half_size
    u, w = (a.reshape(-1) for a in np.meshgrid(axis, axis, indexing="ij"))
    spacing = 2 * half_size / n
    mean = np.stack([u + center[0], w + center[1], np.full(u.shape, height - 0.1 * spacing)], 1)
    field = np.floor((u + half_size) / (2 * half_size / tiles)) + np.floor((w + half_size) / (2 * half_size / tiles))
    color = np.where((field % 2 == 0)[:, None], [0.75, 0.75, 0.78], [0.55, 0.57, 0.62])
    scale = np.broadcast_to([0.6 * spacing, 0.6 * spacing, 0.05 * spacing], mean.shape)
    return Gaussians.create(mean, scale, color=color, opacity=0.95)


def suggest_camera(
    points, *, width: int, height: int, azimuth_degrees: float = 35.0, elevation_degrees: float = 18.0
) -> Camera:
    """A camera that sees all the points with a margin, looking at their middle.

    Args:
        points: what must be seen [m], (N, 3).
        width, height: picture size [pixel].
        azimuth_degrees, elevation_degrees: where the camera stands.
    """
    points = np.asarray(points)
    lo, hi = points.min(0), points.max(0)
    fov = 45.0
    radius = 0.5 * float(np.linalg.norm(hi - lo))
    distance = 1.05 * radius / np.tan(np.radians(fov / 2)) * max(1.0, width / height)
    target = tuple(((lo + hi) / 2).tolist())
    return Camera.orbit(
        target, distance, azimuth_degrees, elevation_degrees, fov_degrees=fov, width=width, height=height
    )
