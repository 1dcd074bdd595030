"""Pinhole cameras in a Z-up world.

Camera axes follow OpenCV: x right, y down, z forward. Pixel (column i, row j) has its centre at (i + 0.5, j + 0.5).
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.checks import as_array, is_concrete
from jaxphys.pytree import pytree, static


@pytree
class Camera:
    """A pinhole camera: x_camera = R x_world + t, pixel = (fx x/z + cx, fy y/z + cy).

    Leaves may have a leading axis: one camera per frame of a video.
    """

    fx: jax.Array  # focal lengths [pixel] ()
    fy: jax.Array
    cx: jax.Array  # principal point [pixel] ()
    cy: jax.Array
    R: jax.Array  # world-to-camera rotation (3, 3)
    t: jax.Array  # world-to-camera translation [m] (3,)
    width: int = static()  # [pixel]
    height: int = static()  # [pixel]

    @classmethod
    def look_at(
        cls, eye, target, *, up=(0.0, 0.0, 1.0), fov_degrees: float = 45.0, width: int = 512, height: int = 512
    ) -> Camera:
        """A camera at `eye` whose optical axis passes through `target`, with `up` upwards in the picture.

        Args:
            eye: (3,) position [m].
            target: (3,) point at the centre of the picture [m].
            up: (3,) direction, not parallel to the view.
            fov_degrees: vertical field of view in (0, 180) [degree]; pixels are square.
            width, height: picture size [pixel].

        Raises:
            ValueError: eye and target coincide, `up` is parallel to the view, a bad field of view or size.

        >>> cam = Camera.look_at((0.0, -2.0, 1.0), (0.0, 0.0, 1.0), width=64, height=48)
        >>> pixel, depth = cam.project(jnp.array([0.0, 0.0, 1.0]))
        >>> pixel, depth
        (Array([32., 24.], dtype=float32), Array(2., dtype=float32))
        """
        _check_size(width, height)
        if not isinstance(fov_degrees, jax.core.Tracer) and not 0 < fov_degrees < 180:
            raise ValueError(f"fov_degrees must lie between 0 and 180, got {fov_degrees}")
        eye, target, up = (
            jnp.asarray(v, dtype=jnp.result_type(float, jnp.asarray(v).dtype)) for v in (eye, target, up)
        )
        for name, v in (("eye", eye), ("target", target), ("up", up)):
            if v.shape != (3,):
                raise ValueError(f"{name} must have shape (3,), got {v.shape}")
        if is_concrete((eye, target, up)):
            forward = np.subtract(target, eye, dtype=np.float64)
            least = 1e-6 * np.linalg.norm(forward) * np.linalg.norm(up)
            if not np.linalg.norm(np.cross(forward, up)) > least:
                raise ValueError(
                    f"eye {eye}, target {target} and up {up} do not define a view: eye and target must differ and "
                    "up must not be parallel to the line between them"
                )
        return _look_at(eye, target, up, fov_degrees, width, height)

    @classmethod
    def orbit(cls, target, radius, azimuth_degrees, elevation_degrees=20.0, **options) -> Camera:
        """A camera on a sphere about `target`, looking at it; arrays of angles or radii give one camera per entry.

        Azimuth 0 is on the +x side, 90 on the +y side; elevation is the angle above the horizontal.

        Args:
            target: (3,) [m].
            radius: () or (T,) distance [m].
            azimuth_degrees, elevation_degrees: () or (T,); elevation within -90..90, both ends excluded.
            options: `fov_degrees`, `width`, `height` as in `look_at`.

        Returns:
            One camera, or a camera with leaves (T, ...).

        >>> Camera.orbit((0, 0, 0), 2.0, 90.0, 30.0, width=8, height=8).position[2]
        Array(1., dtype=float32)
        >>> Camera.orbit((0, 0, 0), 2.0, jnp.linspace(0, 360, 5), width=8, height=8).R.shape
        (5, 3, 3)
        """
        radius, azimuth, elevation = jnp.broadcast_arrays(
            *(jnp.asarray(v, dtype=float) for v in (radius, azimuth_degrees, elevation_degrees))
        )
        if radius.ndim > 1:
            raise ValueError(f"radius and angles must be scalars or (T,), got shape {radius.shape}")
        if not isinstance(radius, jax.core.Tracer) and not bool((radius > 0).all()):
            raise ValueError("radius must be positive")
        if not isinstance(elevation, jax.core.Tracer) and not bool((jnp.abs(elevation) < 90).all()):
            raise ValueError("elevation_degrees must lie within -90..90, both ends excluded: up is undefined at a pole")
        target = jnp.asarray(target, dtype=float)

        def one(r, a, e):
            return cls.look_at(_on_sphere(target, r, a, e), target, **options)

        return (jax.vmap(one) if radius.ndim else one)(radius, azimuth, elevation)

    @classmethod
    def from_pose(cls, position, rotation, *, fx, fy, cx=None, cy=None, width: int, height: int) -> Camera:
        """A camera from its centre and its camera-to-world rotation, as `cameras.json` of a splat scene stores them.

        Args:
            position: (3,) camera centre [m].
            rotation: (3, 3) camera-to-world, OpenCV axes.
            fx, fy: focal lengths [pixel].
            cx, cy: principal point [pixel]; default the picture's centre.
            width, height: picture size [pixel].
        """
        _check_size(width, height)
        R = jnp.asarray(rotation, dtype=float).T
        position = jnp.asarray(position, dtype=float)
        if R.shape != (3, 3) or position.shape != (3,):
            raise ValueError(f"rotation must be (3, 3) and position (3,), got {R.shape} and {position.shape}")
        values = (fx, fy, 0.5 * width if cx is None else cx, 0.5 * height if cy is None else cy)
        return cls(*(jnp.asarray(v, R.dtype) for v in values), R, -_matvec(R, position), width, height)

    @property
    def position(self) -> jax.Array:
        """Camera centre in the world [m], -R^T t."""
        return _centre(self.R, self.t)

    def project(self, points: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Pixel coordinates (..., 2) and depth z (...) [m] of world points (..., 3).

        A point with depth <= 0 is behind the camera and its pixel means nothing: mask by the depth.
        """
        points = as_array(points)
        if points.shape[-1:] != (3,):
            raise ValueError(f"points must have shape (..., 3), got {points.shape}")
        return _project(self, points)

    def resized(self, width: int, height: int) -> Camera:
        """The same view at another resolution (half the size costs a quarter and gives nearly the same gradients)."""
        _check_size(width, height)
        sx, sy = width / self.width, height / self.height
        return dataclasses.replace(
            self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy, width=width, height=height
        )


@functools.partial(jax.jit, static_argnames=("width", "height"))
def _look_at(eye, target, up, fov_degrees, width: int, height: int) -> Camera:
    forward = target - eye
    right = jnp.cross(forward, up)
    forward = forward / jnp.linalg.norm(forward)
    right = right / jnp.linalg.norm(right)
    R = jnp.stack([right, jnp.cross(forward, right), forward])
    focal = 0.5 * height / jnp.tan(jnp.deg2rad(jnp.asarray(fov_degrees, R.dtype)) / 2)
    centre = [jnp.asarray(0.5 * n, R.dtype) for n in (width, height)]
    return Camera(focal, focal, *centre, R, -_matvec(R, eye), width, height)


@jax.jit
def _on_sphere(center, radius, azimuth_degrees, elevation_degrees):
    a, e = jnp.deg2rad(azimuth_degrees), jnp.deg2rad(elevation_degrees)
    return center + radius * jnp.stack([jnp.cos(e) * jnp.cos(a), jnp.cos(e) * jnp.sin(a), jnp.sin(e)])


@jax.jit
def _project(camera: Camera, points):
    x, y, z = jnp.moveaxis(_matvec(camera.R, points) + camera.t, -1, 0)
    safe = jnp.where(jnp.abs(z) > 1e-12, z, 1e-12)
    return jnp.stack([camera.fx * x / safe + camera.cx, camera.fy * y / safe + camera.cy], -1), z


@jax.jit
def _centre(R, t):
    return -jnp.einsum("...ji,...j->...i", R, t, precision=jax.lax.Precision.HIGHEST)


@jax.jit
def _matvec(R: jax.Array, v: jax.Array) -> jax.Array:
    """R v for v (..., 3), without the reduced precision that accelerators use for small products."""
    return jnp.einsum("ij,...j->...i", R, v, precision=jax.lax.Precision.HIGHEST)


def _check_size(width: int, height: int) -> None:
    for name, n in (("width", width), ("height", height)):
        if not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"{name} must be a positive integer number of pixels, got {n!r}")
