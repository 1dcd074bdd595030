"""3D Gaussians: what a splat file holds (`Gaussians`) and what the renderer draws (`Kernels`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.checks import as_array
from jaxphys.pytree import pytree
from jaxphys.splats.harmonics import DEGREE_OF_COUNT, rgb_to_sh, rotate_sh

Y_DOWN_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Rotation of the usual capture frame (x right, y down, z forward) into this library's world (Z up):
`gaussians.transform(rotation=Y_DOWN_TO_Z_UP)`."""


@pytree
class Kernels:
    """Gaussians with an explicit covariance, as the renderer takes them; see `deform`."""

    mean: jax.Array  # centre [m] (N, 3)
    cov: jax.Array  # covariance [m^2] (N, 3, 3), symmetric
    opacity: jax.Array  # peak opacity in 0..1 (N,)
    sh: jax.Array  # colour coefficients (N, K, 3), in the frame of the undeformed Gaussian
    rotation: jax.Array | None = None  # (N, 3, 3): the colour in direction d is that of `sh` at rotation^T d; None = I


@pytree
class Gaussians:
    """A 3D Gaussian splat scene: covariance R(quat) diag(scale^2) R(quat)^T, colour max(0, 0.5 + SH(direction))."""

    mean: jax.Array  # centre [m] (N, 3)
    scale: jax.Array  # standard deviation along the three axes [m] (N, 3)
    quat: jax.Array  # orientation w, x, y, z (N, 4); any length but zero: normalised where it is used
    opacity: jax.Array  # peak opacity in 0..1 (N,)
    sh: jax.Array  # colour coefficients (N, K, 3), K = 1, 4, 9, 16 for degree 0..3

    @classmethod
    def create(cls, mean, scale, *, color=None, sh=None, quat=(1.0, 0.0, 0.0, 0.0), opacity=1.0) -> Gaussians:
        """Gaussians from array-likes, broadcast to the N of `mean`, with shapes and ranges checked.

        Args:
            mean: (N, 3) centres [m].
            scale: (), (N, 1), (3,) or (N, 3) standard deviations [m].
            color: () or (3,) or (N, 3) RGB in 0..1; give this or `sh`.
            sh: (N, K, 3) coefficients.
            quat: (4,) or (N, 4) w, x, y, z.
            opacity: () or (N,) in 0..1.

        Raises:
            ValueError: a wrong shape, a non-finite value, a negative scale, an opacity outside 0..1, a zero quaternion.

        >>> Gaussians.create([[0.0, 0.0, 1.0]], scale=0.1, color=(1.0, 0.0, 0.0)).degree
        0
        """
        # Checks and defaults in numpy: every operation of jax on a new N compiles a program of its own.
        mean = mean if isinstance(mean, jax.Array) else np.asarray(mean)
        mean = as_array(mean, jnp.result_type(float, jax.dtypes.canonicalize_dtype(mean.dtype)))
        if mean.ndim != 2 or mean.shape[1] != 3:
            raise ValueError(f"mean must have shape (N, 3), got {mean.shape}")
        if (color is None) == (sh is None):
            raise ValueError("give exactly one of color (RGB in 0..1) and sh (N, K, 3)")
        n, dtype = len(mean), mean.dtype

        def fill(name, value, shape):
            value = np.asarray(value, dtype)
            try:
                return np.broadcast_to(value, shape)
            except ValueError:
                raise ValueError(f"{name} of shape {value.shape} does not broadcast to {shape}") from None

        sh = rgb_to_sh(fill("color", color, (n, 3))) if sh is None else np.asarray(sh, dtype)
        gaussians = cls(
            mean,
            fill("scale", scale, (n, 3)),
            fill("quat", quat, (n, 4)),
            fill("opacity", opacity, (n,)),
            fill("sh", sh, (n, sh.shape[-2] if sh.ndim >= 2 else 1, 3)),
        )
        check_shapes(gaussians)
        for field in dataclasses.fields(gaussians):
            if not np.isfinite(np.asarray(getattr(gaussians, field.name))).all():
                raise ValueError(f"{field.name} holds NaN or infinite values; remove or repair those Gaussians")
        if (gaussians.scale < 0).any():
            raise ValueError("scale must be >= 0 (a standard deviation in metres, not its logarithm)")
        if ((gaussians.opacity < 0) | (gaussians.opacity > 1)).any():
            raise ValueError("opacity must lie in 0..1 (not a logit: apply a sigmoid first)")
        if (gaussians.quat == 0).all(-1).any():
            raise ValueError("quat holds a zero quaternion, which has no orientation; use (1, 0, 0, 0)")
        return jax.tree.map(as_array, gaussians)

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0..3."""
        return DEGREE_OF_COUNT[self.sh.shape[-2]]

    def __len__(self) -> int:
        return self.mean.shape[0]

    @jax.jit
    def covariance(self) -> jax.Array:
        """Sigma = R diag(scale^2) R^T [m^2], (N, 3, 3).

        >>> Gaussians.create([[0.0, 0.0, 0.0]], scale=(1.0, 2.0, 3.0), color=1.0).covariance()[0].diagonal()
        Array([1., 4., 9.], dtype=float32)
        """
        axes = quat_to_matrix(self.quat) * self.scale[..., None, :]
        return jnp.einsum("...ik,...jk->...ij", axes, axes, precision=jax.lax.Precision.HIGHEST)

    def kernels(self) -> Kernels:
        """The same scene with explicit covariances."""
        return Kernels(self.mean, self.covariance(), self.opacity, self.sh)

    def select(self, index) -> Gaussians:
        """The Gaussians at `index`: an integer array, a slice, or (outside a trace) a boolean mask (N,)."""
        if not isinstance(index, jax.core.Tracer):
            index = np.arange(len(self))[np.asarray(index) if isinstance(index, jax.Array) else index]
        return _take(self, index)

    def transform(self, rotation=None, translation=None, scale: float = 1.0) -> Gaussians:
        """The scene moved by x -> scale R x + translation, view-dependent colours included.

        Args:
            rotation: (3, 3) rotation matrix R, determinant +1; default identity. `Y_DOWN_TO_Z_UP` puts a captured
                scene upright.
            translation: (3,) [m].
            scale: uniform factor > 0.

        Raises:
            ValueError: `rotation` is not a rotation (a mirror image has no quaternion), or `scale` is not positive.

        >>> g = Gaussians.create([[0.0, -1.0, 0.0]], scale=0.1, color=1.0)  # one metre above, in a y-down file
        >>> g.transform(rotation=Y_DOWN_TO_Z_UP).mean
        Array([[0., 0., 1.]], dtype=float32)
        """
        dtype = self.mean.dtype
        R = as_array(np.eye(3) if rotation is None else rotation, dtype)
        t = as_array(np.zeros(3) if translation is None else translation, dtype)
        if R.shape != (3, 3) or t.shape != (3,):
            raise ValueError(f"rotation must be (3, 3) and translation (3,), got {R.shape} and {t.shape}")
        if not isinstance(R, jax.core.Tracer):
            r = np.asarray(R, np.float64)
            if not np.allclose(r @ r.T, np.eye(3), atol=1e-4) or np.linalg.det(r) < 0:
                raise ValueError("rotation must be orthogonal with determinant +1; pass a uniform scale as `scale`")
        if not isinstance(scale, jax.core.Tracer) and not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"scale must be a positive number, got {scale}")
        return _transform(self, R, t, scale)


@jax.jit
def _take(gaussians: Gaussians, index) -> Gaussians:
    return jax.tree.map(lambda a: a[index], gaussians)


@jax.jit
def _transform(gaussians: Gaussians, R, t, scale) -> Gaussians:
    moved = jnp.einsum("ij,nj->ni", R, gaussians.mean, precision=jax.lax.Precision.HIGHEST)
    return Gaussians(
        scale * moved + t,
        gaussians.scale * scale,
        quat_multiply(matrix_to_quat(R), gaussians.quat),
        gaussians.opacity,
        rotate_sh(gaussians.sh, R),
    )


def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
    """One scene of several; lower-degree colours are padded with zero coefficients.

    >>> g = Gaussians.create([[0.0, 0.0, 0.0]], scale=0.1, color=1.0)
    >>> len(concatenate([g, g, g]))
    3
    """
    parts = list(parts)
    if not parts:
        raise ValueError("concatenate needs at least one Gaussians")
    return _concatenate(parts)


@jax.jit
def _concatenate(parts: list[Gaussians]) -> Gaussians:
    count = max(p.sh.shape[1] for p in parts)
    padded = [dataclasses.replace(p, sh=jnp.pad(p.sh, ((0, 0), (0, count - p.sh.shape[1]), (0, 0)))) for p in parts]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *padded)


def check_shapes(scene: Gaussians | Kernels) -> None:
    """Raises ValueError unless the arrays of `scene` agree in N, in shape and in being float32 or float64."""
    if not isinstance(scene, (Gaussians, Kernels)):
        raise ValueError(f"expected Gaussians or Kernels, got {type(scene).__name__}")
    n = scene.mean.shape[0] if scene.mean.ndim else 0
    expected = {"mean": (n, 3), "opacity": (n,)}
    expected |= {"scale": (n, 3), "quat": (n, 4)} if isinstance(scene, Gaussians) else {"cov": (n, 3, 3)}
    if isinstance(scene, Kernels) and scene.rotation is not None:
        expected["rotation"] = (n, 3, 3)
    if n == 0:
        raise ValueError(f"mean must have shape (N, 3) with N >= 1, got {scene.mean.shape}")
    for name, shape in expected.items():
        if getattr(scene, name).shape != shape:
            raise ValueError(f"{name} must have shape {shape} to match mean, got {getattr(scene, name).shape}")
    if scene.sh.ndim != 3 or scene.sh.shape[0] != n or scene.sh.shape[2] != 3 or scene.sh.shape[1] not in (1, 4, 9, 16):
        raise ValueError(f"sh must have shape ({n}, K, 3) with K = 1, 4, 9 or 16, got {scene.sh.shape}")
    for name in (*expected, "sh"):
        if getattr(scene, name).dtype not in (jnp.float32, jnp.float64):
            raise ValueError(f"{name} must be float32 or float64, got {getattr(scene, name).dtype}; cast it first")


@jax.jit
def quat_to_matrix(quat: jax.Array) -> jax.Array:
    """Rotation matrices (..., 3, 3) of quaternions w, x, y, z (..., 4) of any non-zero length.

    >>> import jax.numpy as jnp
    >>> quat_to_matrix(jnp.array([0.0, 0.0, 0.0, 2.0])).diagonal()
    Array([-1., -1.,  1.], dtype=float32)
    """
    w, x, y, z = (quat[..., i] for i in range(4))
    s = 2.0 / (w * w + x * x + y * y + z * z)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
        (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


@jax.jit
def matrix_to_quat(R: jax.Array) -> jax.Array:
    """Unit quaternion w, x, y, z (..., 4) of rotation matrices (..., 3, 3).

    The four rows of the symmetric matrix 4 q q^T follow from R; the row with the largest diagonal is well conditioned
    for every rotation (Shepperd 1978).

    >>> import jax.numpy as jnp
    >>> matrix_to_quat(jnp.eye(3))
    Array([1., 0., 0., 0.], dtype=float32)
    """
    r = [[R[..., i, j] for j in range(3)] for i in range(3)]
    ww, xx = 1 + r[0][0] + r[1][1] + r[2][2], 1 + r[0][0] - r[1][1] - r[2][2]
    yy, zz = 1 - r[0][0] + r[1][1] - r[2][2], 1 - r[0][0] - r[1][1] + r[2][2]
    wx, wy, wz = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
    xy, xz, yz = r[1][0] + r[0][1], r[0][2] + r[2][0], r[2][1] + r[1][2]
    rows = ((ww, wx, wy, wz), (wx, xx, xy, xz), (wy, xy, yy, yz), (wz, xz, yz, zz))
    outer = jnp.stack([jnp.stack(row, -1) for row in rows], -2)
    best = jnp.argmax(jnp.stack([ww, xx, yy, zz], -1), -1)
    row = jnp.take_along_axis(outer, best[..., None, None], -2)[..., 0, :]
    return row / jnp.linalg.norm(row, axis=-1, keepdims=True)


@jax.jit
def quat_multiply(p: jax.Array, q: jax.Array) -> jax.Array:
    """Hamilton product p q of quaternions w, x, y, z: first q's rotation, then p's."""
    pw, px, py, pz = (p[..., i] for i in range(4))
    qw, qx, qy, qz = (q[..., i] for i in range(4))
    return jnp.stack(
        [
            pw * qw - px * qx - py * qy - pz * qz,
            pw * qx + px * qw + py * qz - pz * qy,
            pw * qy - px * qz + py * qw + pz * qx,
            pw * qz + px * qy - py * qx + pz * qw,
        ],
        -1,
    )
