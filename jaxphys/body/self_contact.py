"""Self-contact: signed distances between the capsules of a body, without a mesh.

A capsule is a segment with a radius, so the signed distance of two capsules is the distance of two segments less both
radii. All pairs are evaluated as one (C, C) block: no gather, so no scatter in the gradient.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.body.kinematics import points
from jaxphys.body.skeleton import Skeleton
from jaxphys.numerics import safe_sqrt

SOFTNESS = 0.005  # [m] over which contact sets in
_TINY = 1e-10  # [m^2] keeps the root of a distance differentiable where axes cross


def segment_distance(p1: jax.Array, q1: jax.Array, p2: jax.Array, q2: jax.Array) -> jax.Array:
    """Distance between the segments p1 q1 and p2 q2, which may be points.

    The nearest point of the infinite lines is clamped to the first segment, projected onto the second, clamped there
    and projected back (Ericson, Real-Time Collision Detection, 2005, section 5.1.9), with selections instead of
    branches. Between parallel segments, where every nearest pair gives the same distance, one pair is chosen.

    Args:
        p1, q1, p2, q2: (..., 3) ends [m], broadcast against each other.

    Returns:
        (...) [m], sqrt(d^2 + 1e-10), so that crossing axes have a finite derivative.

    >>> x = jnp.eye(3)
    >>> round(float(segment_distance(x[0], -x[0], x[1] + x[2], x[2] - x[1])), 4)
    1.0
    """
    u, v, r = ([b[..., k] - a[..., k] for k in range(3)] for a, b in ((p1, q1), (p2, q2), (p2, p1)))

    def dot(x, y):
        return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]

    a, e, b, c, f = dot(u, u), dot(v, v), dot(u, v), dot(u, r), dot(v, r)
    a, e = (jnp.maximum(x, 1e-12) for x in (a, e))
    cross2 = a * e - b * b
    skew = cross2 > 1e-6 * a * e
    s = jnp.clip(jnp.where(skew, (b * f - c * e) / jnp.where(skew, cross2, 1.0), 0.5), 0.0, 1.0)
    t = jnp.clip((b * s + f) / e, 0.0, 1.0)
    s = jnp.clip((b * t - c) / a, 0.0, 1.0)
    gap = [r_k + s * u_k - t * v_k for r_k, u_k, v_k in zip(r, u, v)]
    return jnp.sqrt(dot(gap, gap) + _TINY)


@functools.cache
def tree_distance(parents: tuple[int, ...]) -> np.ndarray:
    """(J, J) number of joints between two bodies.

    >>> tree_distance((-1, 0, 0, 1))[2].tolist()
    [1, 2, 0, 3]
    """
    count = len(parents)
    paths = []
    for j in range(count):
        path = [j]
        while parents[path[-1]] >= 0:
            path.append(parents[path[-1]])
        paths.append(path)
    out = np.zeros((count, count), int)
    for i in range(count):
        for j in range(count):
            shared = len(set(paths[i]) & set(paths[j]))
            out[i, j] = len(paths[i]) + len(paths[j]) - 2 * shared
    return out


def candidates(skeleton: Skeleton, separation: int = 3) -> np.ndarray:
    """(C, C) bool, upper triangle: the pairs of capsules whose bodies are at least `separation` joints apart."""
    bodies = np.asarray(skeleton.capsule_body)
    far = tree_distance(skeleton.parents)[np.ix_(bodies, bodies)] >= separation
    return np.triu(far, 1)


def clearance(skeleton: Skeleton, R: jax.Array, p: jax.Array) -> jax.Array:
    """Signed distance of every two capsules, negative where they overlap.

    Args:
        skeleton: with C capsules.
        R: (..., J, 3, 3) world rotations.
        p: (..., J, 3) world joint positions [m].

    Returns:
        (..., C, C) [m], symmetric; the diagonal is minus the diameter.

    >>> from jaxphys.body.skeleton import humanoid
    >>> from jaxphys.body.kinematics import forward
    >>> body = humanoid()
    >>> d = clearance(body, *forward(body, jnp.broadcast_to(jnp.eye(3), (24, 3, 3)), jnp.zeros(3)))
    >>> bool(jnp.all(jnp.where(candidates(body), d, 1.0) > 0.0))
    True
    """
    a = points(skeleton, R, p, skeleton.capsule_a, skeleton.capsule_body)
    b = points(skeleton, R, p, skeleton.capsule_b, skeleton.capsule_body)
    radius = jnp.asarray(skeleton.capsule_radius, a.dtype)
    distance = segment_distance(a[..., :, None, :], b[..., :, None, :], a[..., None, :, :], b[..., None, :, :])
    return distance - radius[:, None] - radius[None, :]


def penetration(clearance: jax.Array, allowance: jax.Array, mask: np.ndarray) -> jax.Array:
    """Depth by which the body enters itself: that of the pairs of a mask, in the norm of order 4.

    depth_ij = softness softplus(-(d_ij + allowance_ij) / softness); the deepest pair decides, and an arm that also lies
    in its neighbours' capsules is not counted as often.

    Args:
        clearance: (..., C, C) from `clearance` [m].
        allowance: (C, C) overlap that a pair of these capsules shows in clean motion [m], not less than 0: a capsule is
            thicker than a wrist, and soft tissue gives way.
        mask: (C, C) pairs that count.

    Returns:
        (...) [m].
    """
    depth = SOFTNESS * jax.nn.softplus(-(clearance + allowance) / SOFTNESS)
    return safe_sqrt(safe_sqrt(jnp.sum(jnp.where(mask, depth, 0.0) ** 4, (-2, -1))))
