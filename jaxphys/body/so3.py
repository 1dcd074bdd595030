"""Rotations: exponential, logarithm, quaternions, and 3x3 algebra written out.

Products are sums of broadcast components, without `dot` and `jnp.cross`: XLA fuses them into the loops around them, and
programs built of many of them compile several times faster.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

SERIES = 1e-6  # below this squared angle [rad^2] the series are used: their next term is under 1e-14


def cross(a: jax.Array, b: jax.Array) -> jax.Array:
    """a x b of (..., 3) vectors.

    >>> cross(jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    a0, a1, a2, b0, b1, b2 = (v[..., k] for v in (a, b) for k in range(3))
    return jnp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1)


def matvec(A: jax.Array, x: jax.Array) -> jax.Array:
    """A x of (..., 3, 3) and (..., 3)."""
    return A[..., 0] * x[..., None, 0] + A[..., 1] * x[..., None, 1] + A[..., 2] * x[..., None, 2]


def matvec_t(A: jax.Array, x: jax.Array) -> jax.Array:
    """A^T x of (..., 3, 3) and (..., 3)."""
    return A[..., 0, :] * x[..., 0, None] + A[..., 1, :] * x[..., 1, None] + A[..., 2, :] * x[..., 2, None]


def matmul(A: jax.Array, B: jax.Array) -> jax.Array:
    """A B of (..., 3, 3)."""
    return sum((A[..., :, k, None] * B[..., None, k, :] for k in range(1, 3)), A[..., :, 0, None] * B[..., None, 0, :])


def transpose(A: jax.Array) -> jax.Array:
    """A^T of (..., 3, 3)."""
    return jnp.swapaxes(A, -1, -2)


def hat(w: jax.Array) -> jax.Array:
    """The matrix of w x: hat(w) u = w x u.

    Args:
        w: (..., 3).

    Returns:
        (..., 3, 3), skew.

    >>> hat(jnp.array([1.0, 2.0, 3.0]))[0].tolist()
    [0.0, -3.0, 2.0]
    """
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    o = jnp.zeros_like(x)
    return jnp.stack([o, -z, y, z, o, -x, -y, x, o], -1).reshape(*w.shape[:-1], 3, 3)


def exp(w: jax.Array) -> jax.Array:
    """Rotation matrix of the rotation vector w: R = I + (sin t / t) hat(w) + ((1 - cos t) / t^2) hat(w)^2, t = |w|.

    Rodrigues' formula (Murray, Li and Sastry 1994, equation 2.14), with its series near 0, so that values and
    derivatives are right at w = 0.

    Args:
        w: (..., 3) axis times angle [rad].

    Returns:
        (..., 3, 3).

    >>> exp(jnp.zeros(3)).diagonal().tolist()
    [1.0, 1.0, 1.0]
    """
    t2 = jnp.sum(w * w, -1)
    small = t2 < SERIES
    t2_safe = jnp.where(small, 1.0, t2)
    t = jnp.sqrt(t2_safe)
    a = jnp.where(small, 1.0 - t2 / 6.0, jnp.sin(t) / t)
    half = jnp.sin(0.5 * t)  # 1 - cos t = 2 sin^2(t/2) keeps its digits for small angles
    b = jnp.where(small, 0.5 - t2 / 24.0, 2.0 * half * half / t2_safe)
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    bx, by, bz, ax, ay, az = b * x, b * y, b * z, a * x, a * y, a * z
    xy, xz, yz = bx * y, bx * z, by * z
    xx, yy, zz = bx * x, by * y, bz * z
    rows = [1.0 - yy - zz, xy - az, xz + ay, xy + az, 1.0 - xx - zz, yz - ax, xz - ay, yz + ax, 1.0 - xx - yy]
    return jnp.stack(rows, -1).reshape(*w.shape[:-1], 3, 3)


def to_quat(R: jax.Array) -> jax.Array:
    """Unit quaternion (w, x, y, z), w >= 0, of a rotation matrix.

    Of the four columns of the matrix 4 q q^T the one with the greatest diagonal is normalised (Shepperd 1978), so it is
    accurate, and its derivative finite, at every angle.

    Args:
        R: (..., 3, 3).

    Returns:
        (..., 4).

    >>> to_quat(jnp.diag(jnp.array([1.0, -1.0, -1.0]))).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    r = [[R[..., i, j] for j in range(3)] for i in range(3)]
    d = [
        1.0 + r[0][0] + r[1][1] + r[2][2],
        1.0 + r[0][0] - r[1][1] - r[2][2],
        1.0 - r[0][0] + r[1][1] - r[2][2],
        1.0 - r[0][0] - r[1][1] + r[2][2],
    ]
    wx, wy, wz = r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]
    xy, xz, yz = r[1][0] + r[0][1], r[0][2] + r[2][0], r[2][1] + r[1][2]
    columns = [(d[0], wx, wy, wz), (wx, d[1], xy, xz), (wy, xy, d[2], yz), (wz, xz, yz, d[3])]
    q, top = list(columns[0]), d[0]
    for k in range(1, 4):
        greater = d[k] > top
        q = [jnp.where(greater, new, old) for new, old in zip(columns[k], q)]
        top = jnp.where(greater, d[k], top)
    scale = jnp.where(q[0] < 0, -0.5, 0.5) * jax.lax.rsqrt(
        top
    )  # the column is 4 q_k q, with length 4 q_k = 2 sqrt(d_k)
    return jnp.stack([scale * c for c in q], -1)


def from_quat(q: jax.Array) -> jax.Array:
    """Rotation matrix of a quaternion (w, x, y, z) of any length but 0.

    Args:
        q: (..., 4).

    Returns:
        (..., 3, 3).

    >>> from_quat(jnp.array([2.0, 0.0, 0.0, 0.0])).diagonal().tolist()
    [1.0, 1.0, 1.0]
    """
    q = q * jax.lax.rsqrt(jnp.sum(q * q, -1, keepdims=True))
    w, x, y, z = (q[..., k] for k in range(4))
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)]
    rows += [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)]
    rows += [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return jnp.stack(rows, -1).reshape(*q.shape[:-1], 3, 3)


def log(R: jax.Array) -> jax.Array:
    """Rotation vector of a rotation matrix: the inverse of `exp` for angles up to pi.

    Through the quaternion (c, s n) of half the angle: w = 2 atan2(s, c) n, with the series of atan2(s, c) / s near 0.
    Finite with finite derivatives at every rotation; at the angle pi, where n and -n are the same rotation, one of the
    two is returned.

    Args:
        R: (..., 3, 3).

    Returns:
        (..., 3) [rad].

    >>> w = jnp.array([0.3, -0.2, 0.1])
    >>> bool(jnp.allclose(log(exp(w)), w, atol=1e-6))
    True
    """
    q = to_quat(R)
    c, v = q[..., 0], q[..., 1:]
    s2 = jnp.sum(v * v, -1)
    small = s2 < SERIES
    s = jnp.sqrt(jnp.where(small, 1.0, s2))
    c_safe = jnp.where(small, c, 1.0)
    series = (1.0 - s2 / (3.0 * c_safe * c_safe)) / c_safe  # atan(u) / u = 1 - u^2 / 3, u = s / c
    factor = 2.0 * jnp.where(small, series, jnp.arctan2(s, jnp.where(small, 1.0, c)) / s)
    return factor[..., None] * v


def log_step(R: jax.Array) -> jax.Array:
    """`log` for the rotation of one frame to the next: cheaper, for angles well below pi (up to about 2.5 rad).

    w = (t / sin t) axial(R), axial(R) = (R - R^T) / 2, with the series near 0.

    Args:
        R: (..., 3, 3).

    Returns:
        (..., 3) [rad].

    >>> w = jnp.array([0.3, -0.2, 0.1])
    >>> bool(jnp.allclose(log_step(exp(w)), w, atol=1e-6))
    True
    """
    v = 0.5 * jnp.stack(
        [R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], axis=-1
    )
    c = 0.5 * (R[..., 0, 0] + R[..., 1, 1] + R[..., 2, 2] - 1.0)
    s2 = jnp.sum(v * v, -1)
    small = (s2 < SERIES) & (c > 0)
    s = jnp.sqrt(jnp.where(small | (s2 == 0), 1.0, s2))
    c_safe = jnp.where(small, 1.0, c)
    factor = jnp.where(small, 1.0 + s2 / 6.0, jnp.arctan2(s, c_safe) / s)
    return factor[..., None] * v


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def project(A: jax.Array, steps: int | None = None) -> jax.Array:
    """Nearest rotation of a matrix near SO(3): the polar factor, by Newton-Schulz steps X <- X (3 I - X^T X) / 2.

    Converges quadratically for singular values in (0, sqrt 3) (Higham 2008, section 8.3); those of a mean of rotations
    less than 60 degrees apart are in [1/2, 1], from where four steps reach 1e-7 (float32) and six 1e-15 (float64). The
    derivative is that of the polar factor itself: with A = X P, dX = X hat(w), (tr(P) I - P) w = axial(X^T dA) and
    axial(hat(u)) = 2 u.

    Args:
        A: (..., 3, 3).
        steps: number of steps; None: four, or six in float64.

    Returns:
        (..., 3, 3).

    >>> bool(jnp.allclose(project(0.9 * jnp.eye(3)), jnp.eye(3), atol=1e-6))
    True
    """
    for _ in range(steps or (6 if A.dtype == jnp.float64 else 4)):
        A = 1.5 * A - 0.5 * matmul(A, matmul(transpose(A), A))
    return A


@project.defjvp
def _project_jvp(steps, primals, tangents):
    (A,), (dA,) = primals, tangents
    X = project(A, steps)
    P = matmul(transpose(X), A)
    p = [[0.5 * (P[..., i, j] + P[..., j, i]) for j in range(3)] for i in range(3)]
    K = [[(p[0][0] + p[1][1] + p[2][2] if i == j else 0.0) - p[i][j] for j in range(3)] for i in range(3)]
    # the inverse of the symmetric K: cross products of its columns over the determinant
    columns = [jnp.stack([K[i][j] for i in range(3)], -1) for j in range(3)]
    adjugate = jnp.stack([cross(columns[(j + 1) % 3], columns[(j + 2) % 3]) for j in range(3)], -1)
    inverse = adjugate / jnp.sum(columns[0] * adjugate[..., 0], -1)[..., None, None]
    Y = matmul(transpose(X), dA)
    axial = jnp.stack([Y[..., 2, 1] - Y[..., 1, 2], Y[..., 0, 2] - Y[..., 2, 0], Y[..., 1, 0] - Y[..., 0, 1]], axis=-1)
    return X, matmul(X, hat(matvec(inverse, axial)))
