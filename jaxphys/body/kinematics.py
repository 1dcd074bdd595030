"""Forward kinematics, all frames at once: one matrix product per level of the tree."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.body import so3
from jaxphys.body.skeleton import Skeleton


@functools.cache
def levels(parents: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Joints by distance from the root.

    >>> levels((-1, 0, 0, 1))
    ((0,), (1, 2), (3,))
    """
    depth = [0] * len(parents)
    for j, parent in enumerate(parents):
        depth[j] = 0 if parent < 0 else depth[parent] + 1
    return tuple(tuple(j for j, d in enumerate(depth) if d == level) for level in range(max(depth) + 1))


@functools.cache
def subtree(parents: tuple[int, ...]) -> np.ndarray:
    """S (J, J): S[j, b] = 1 where body b hangs on joint j (b = j included), else 0."""
    S = np.eye(len(parents))
    for b in range(len(parents)):
        j = b
        while parents[j] >= 0:
            j = parents[j]
            S[j, b] = 1.0
    return S


def forward(skeleton: Skeleton, R: jax.Array, translation: jax.Array) -> tuple[jax.Array, jax.Array]:
    """World rotations and joint positions: R_j = R_parent R_local_j, p_j = p_parent + R_parent offset_j.

    Args:
        skeleton: J joints.
        R: (..., J, 3, 3) rotation of each joint in its parent, of the root in the world.
        translation: (..., 3) root joint in the world [m].

    Returns:
        R (..., J, 3, 3) and p (..., J, 3) [m], both in the world.

    Raises:
        ValueError: another number of joints than the skeleton's.

    >>> from jaxphys.body.skeleton import humanoid
    >>> R, p = forward(humanoid(), jnp.broadcast_to(jnp.eye(3), (24, 3, 3)), jnp.zeros(3))
    >>> p.shape
    (24, 3)
    """
    if R.shape[-3:] != (skeleton.count, 3, 3):
        raise ValueError(f"forward: R must have shape (..., {skeleton.count}, 3, 3), got {list(R.shape)}")
    offset = jnp.asarray(skeleton.offset, R.dtype)
    order = levels(skeleton.parents)
    rotations, positions = [R[..., order[0], :, :]], [translation[..., None, :]]
    for above, joints in itertools.pairwise(order):
        slot = [above.index(skeleton.parents[j]) for j in joints]
        parent = jnp.stack([rotations[-1][..., k, :, :] for k in slot], -3)
        local = R[..., joints, :, :]
        rotations.append(jnp.einsum("...ij,...jk->...ik", parent, local))
        base = jnp.stack([positions[-1][..., k, :] for k in slot], -2)
        positions.append(base + so3.matvec(parent, offset[joints, :]))
    back = np.argsort([j for joints in order for j in joints])
    return jnp.concatenate(rotations, -3)[..., back, :, :], jnp.concatenate(positions, -2)[..., back, :]


def points(skeleton: Skeleton, R: jax.Array, p: jax.Array, local: jax.Array, body: tuple[int, ...]) -> jax.Array:
    """World positions of points that are fixed to bodies: x_k = p_b + R_b local_k, b = body[k].

    Args:
        skeleton: J joints.
        R: (..., J, 3, 3) world rotations.
        p: (..., J, 3) world joint positions [m].
        local: (K, 3) points in the frames of their bodies [m].
        body: K joint numbers.

    Returns:
        (..., K, 3) [m].
    """
    if len(body) != len(local) or not all(0 <= b < skeleton.count for b in body):
        raise ValueError(f"points: {len(local)} points need as many bodies below {skeleton.count}, got {body}")
    index = list(body)
    return p[..., index, :] + so3.matvec(R[..., index, :, :], jnp.asarray(local, R.dtype))
