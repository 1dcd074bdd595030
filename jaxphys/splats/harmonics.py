"""Real spherical harmonics of degree 0 to 3, in the order and with the signs that 3D Gaussian splat files use.

Order within degree l: m = -l ... l, with the Condon-Shortley sign (-1)^m. A direction is a unit vector.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.tensor import Tensor3

DEGREE_OF_COUNT = {1: 0, 4: 1, 9: 2, 16: 3}  # number of coefficients K = (degree + 1)^2 -> degree
_C0 = math.sqrt(1 / (4 * math.pi))


def sh_basis(direction: tuple, count: int) -> list:
    """The first `count` basis functions at the unit vectors (x, y, z), each given as an array of one shape.

    Args:
        direction: three arrays x, y, z of one shape, with x^2 + y^2 + z^2 = 1.
        count: K = 1, 4, 9 or 16.

    Returns:
        K arrays of that shape.

    >>> import jax.numpy as jnp
    >>> x, y, z = jnp.eye(3)
    >>> [round(float(b[2]), 4) for b in sh_basis((x, y, z), 4)]  # at the z axis
    [0.2821, -0.0, 0.4886, -0.0]
    """
    if count not in DEGREE_OF_COUNT:
        raise ValueError(f"spherical harmonics need K = 1, 4, 9 or 16 coefficients, got {count}")
    x, y, z = direction
    basis = [0 * x + _C0]
    if count >= 4:
        c = math.sqrt(3 / (4 * math.pi))
        basis += [-c * y, c * z, -c * x]
    if count >= 9:
        c = 0.25 * math.sqrt(15 / math.pi)
        c0 = 0.25 * math.sqrt(5 / math.pi)
        xx, yy, zz = x * x, y * y, z * z
        basis += [2 * c * x * y, -2 * c * y * z, c0 * (2 * zz - xx - yy), -2 * c * x * z, c * (xx - yy)]
    if count >= 16:
        c3, c2 = 0.25 * math.sqrt(35 / (2 * math.pi)), 0.25 * math.sqrt(105 / math.pi)
        c1, c0 = 0.25 * math.sqrt(21 / (2 * math.pi)), 0.25 * math.sqrt(7 / math.pi)
        basis += [
            -c3 * y * (3 * xx - yy),
            2 * c2 * x * y * z,
            -c1 * y * (4 * zz - xx - yy),
            c0 * z * (2 * zz - 3 * xx - 3 * yy),
            -c1 * x * (4 * zz - xx - yy),
            c2 * z * (xx - yy),
            -c3 * x * (xx - 3 * yy),
        ]
    return basis


def evaluate_sh(sh: jax.Array, direction: jax.Array) -> jax.Array:
    """sum_k sh[..., k, :] Y_k(direction), without the offset 0.5 that turns it into a colour.

    Args:
        sh: (..., K, C) coefficients, K = 1, 4, 9 or 16.
        direction: (..., 3) unit vectors.

    Returns:
        (..., C).

    >>> import jax.numpy as jnp
    >>> evaluate_sh(rgb_to_sh(jnp.full((1, 3), 0.75)), jnp.array([[0.0, 0.0, 1.0]])).round(4)
    Array([[0.25, 0.25, 0.25]], dtype=float32)
    """
    basis = sh_basis((direction[..., 0], direction[..., 1], direction[..., 2]), sh.shape[-2])
    return sum(b[..., None] * sh[..., k, :] for k, b in enumerate(basis))


def rgb_to_sh(rgb: jax.Array) -> jax.Array:
    """Degree-0 coefficients (..., 1, 3) of a colour (..., 3) that is the same from every side.

    >>> import jax.numpy as jnp
    >>> rgb_to_sh(jnp.full((2, 3), 0.5)).shape
    (2, 1, 3)
    """
    return ((rgb - 0.5) / _C0)[..., None, :]


def sh_to_rgb(sh: jax.Array) -> jax.Array:
    """The colour (..., 3) of the degree-0 coefficient alone: 0.5 + Y_0 sh_0, not clipped."""
    return 0.5 + _C0 * sh[..., 0, :]


def _sphere_points(count: int) -> np.ndarray:
    """Directions (count, 3) spread evenly (Fibonacci lattice)."""
    i = np.arange(count) + 0.5
    z, phi = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    r = np.sqrt(1 - z * z)
    return np.stack([r * np.cos(phi), r * np.sin(phi), z], -1)


@jax.jit
def rotate_sh(sh: jax.Array, rotation: jax.Array) -> jax.Array:
    """Coefficients of the rotated function f'(d) = f(R^T d).

    Each degree is closed under rotation, so the matrix that does it is found exactly by fitting: with Y the basis at
    more directions D than coefficients, Y(D) sh' = Y(R^T D) sh. The pseudo-inverse of Y(D) is a constant.

    Args:
        sh: (..., K, C).
        rotation: (3, 3) rotation matrix R.

    Returns:
        (..., K, C).

    >>> import jax.numpy as jnp
    >>> half_turn = jnp.diag(jnp.array([-1.0, -1.0, 1.0]))  # about z
    >>> rotate_sh(jnp.arange(4.0)[:, None], half_turn)[:, 0].round(5)
    Array([ 0., -1.,  2., -3.], dtype=float32)
    """
    count = sh.shape[-2]
    points = _sphere_points(4 * count)
    fit = np.linalg.pinv(np.stack(sh_basis(tuple(points.T), count), -1))
    rotation = jnp.asarray(rotation, sh.dtype)
    x, y, z = (jnp.asarray(points[:, i], sh.dtype) for i in range(3))
    rotated = Tensor3.from_array(rotation).T.apply((x, y, z))
    basis = jnp.stack(sh_basis(rotated, count), -1)
    matrix = jnp.matmul(jnp.asarray(fit, sh.dtype), basis, precision=jax.lax.Precision.HIGHEST)
    return jnp.einsum("jk,...kc->...jc", matrix, sh, precision=jax.lax.Precision.HIGHEST)
