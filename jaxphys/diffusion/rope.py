"""Rotary position embedding on a grid of tokens in time, height and width (Su et al., RoFormer, 2021)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

THETA = 10000.0


def tables(head: int, grid: tuple[int, int, int]) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, each (tokens, head / 2), of position times THETA^(-2 i / n), axis after axis.

    Of the head's channels height and width take 2 floor(head / 6) each and time the rest. Each axis is tabulated in
    float64; only these small tables are constants of the program.

    Args:
        head: channels per head, even.
        grid: tokens in time, height, width; row-major order.

    >>> tables(16, (2, 3, 3))[0].shape
    (18, 8)
    """
    space = 2 * (head // 6)
    parts: dict = {np.cos: [], np.sin: []}
    for axis, (positions, width) in enumerate(zip(grid, (head - 2 * space, space, space))):
        frequencies = THETA ** (-np.arange(0, width, 2) / max(width, 1))
        shape = [1, 1, 1, width // 2]
        shape[axis] = positions
        for function, rows in parts.items():
            table = function(np.outer(np.arange(positions), frequencies)).reshape(shape)
            rows.append(jnp.broadcast_to(jnp.asarray(table), (*grid, width // 2)))
    cos, sin = (jnp.concatenate(rows, -1).reshape(-1, head // 2) for rows in parts.values())
    return cos, sin


def split_pairs(weight: jax.Array, head: int) -> jax.Array:
    """Reorders the last axis, heads of interleaved pairs (0, 1), (2, 3), ..., to halves: first members, then second.

    Wan rotates neighbouring channels. The scores q k^T do not change when q and k are reordered alike, so the weights
    that make them are reordered, which is small work, and the rotation reads two contiguous halves of every head.

    >>> split_pairs(jnp.arange(8), 4).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return weight.reshape(*weight.shape[:-1], -1, head // 2, 2).swapaxes(-1, -2).reshape(weight.shape)


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """x (T, H, d) in halves, rotated by angles of which the cosine and sine (T, 1, d / 2) are given; in x's dtype."""
    a, b = jnp.split(x.astype(jnp.promote_types(x.dtype, cos.dtype)), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)
