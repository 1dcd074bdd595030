"""Which Gaussians touch which tile of the picture: a list of (tile, Gaussian) pairs of fixed length, in depth order."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxphys.pytree import pytree
from jaxphys.splats.project import Screen

_INT_MAX = 2**31 - 1
KEY_BITS = 32  # width of the packed sort key


@pytree
class Bins:
    """Pairs sorted by tile and, within a tile, front to back."""

    order: jax.Array  # (N,) index of the Gaussian at each depth rank
    rank: jax.Array  # (capacity,) depth rank of the Gaussian of each pair
    start: jax.Array  # (tiles + 1,) first pair of each tile
    needed: jax.Array  # () number of pairs that the whole picture needs


def tile_counts(width: int, height: int, tile: int) -> tuple[int, int]:
    """Number of tiles along the width and along the height."""
    return -(-width // tile), -(-height // tile)


def _tile_box(screen: Screen, width: int, height: int, tile: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First tile, last tile + 1 (N, 2) and number of tiles (N,) of each Gaussian's box."""
    size = jnp.array([width, height], jnp.int32)
    # Slack: the box must not lose a pixel to rounding; one too many costs time only.
    half = screen.extent * 1.0001 + 0.01
    centre = lax.stop_gradient(screen.geometry[:, :2])
    limit = size.astype(centre.dtype)
    first = jnp.clip(jnp.ceil(centre - half - 0.5), 0, limit).astype(jnp.int32)
    last = jnp.clip(jnp.floor(centre + half - 0.5), -1, limit - 1).astype(jnp.int32)
    lo, hi = first // tile, last // tile + 1
    touched = screen.visible & (first <= last).all(-1)
    return lo, hi, jnp.where(touched, (hi - lo)[:, 0] * (hi - lo)[:, 1], 0)


def _total(count: jax.Array) -> jax.Array:
    """Sum of the counts, saturated at the greatest int32 so that an overflow cannot look like a small number."""
    # The float sum is only precise enough to detect the overflow, the integer sum only right without one.
    overflow = jnp.sum(count.astype(jnp.float32)) > 0.99 * _INT_MAX
    return jnp.where(overflow, _INT_MAX, jnp.sum(count, dtype=jnp.int32))


def count_pairs(screen: Screen, width: int, height: int, tile: int) -> jax.Array:
    """Number of (tile, Gaussian) pairs of a picture, ()."""
    return _total(_tile_box(screen, width, height, tile)[2])


def bin_tiles(screen: Screen, width: int, height: int, tile: int, capacity: int) -> Bins:
    """Lists the pairs; where `needed` exceeds `capacity` those of the farthest Gaussians are missing.

    Gaussians are sorted by depth once; pairs are then written in depth order, so sorting them by tile alone, with ties
    kept in order, gives every tile's list front to back. Where tile and depth rank fit in 32 bits they are one sort
    key, which is about three times faster than a stable sort of pairs.
    """
    n = screen.depth.shape[0]
    across, down = tile_counts(width, height, tile)
    tiles = across * down
    order = jnp.argsort(jnp.where(screen.visible, lax.stop_gradient(screen.depth), jnp.inf)).astype(jnp.int32)
    lo, hi, count = _tile_box(screen, width, height, tile)
    box = jnp.concatenate([lo, hi], -1)[order]
    count = count[order]
    first_slot = jnp.cumsum(count, dtype=jnp.int32) - count
    ranks = jnp.arange(n, dtype=jnp.int32)
    # The owner of a slot is the last Gaussian whose first slot is not after it.
    owner = jnp.zeros(capacity, jnp.int32).at[jnp.where(count > 0, first_slot, capacity)].max(ranks, mode="drop")
    owner = lax.cummax(owner)
    slot = jnp.arange(capacity, dtype=jnp.int32)
    k = slot - first_slot[owner]
    x0, y0, x1, _ = (box[owner, i] for i in range(4))
    columns = jnp.maximum(x1 - x0, 1)
    needed = _total(count)
    index = jnp.where(slot < needed, (y0 + k // columns) * across + x0 + k % columns, tiles)
    edges = jnp.arange(tiles + 1, dtype=jnp.int32)
    bits = max(1, math.ceil(math.log2(max(n, 2))))
    if (tiles + 1) << bits <= 2**KEY_BITS:
        key = lax.sort((index.astype(jnp.uint32) << bits) | owner.astype(jnp.uint32), is_stable=False)
        rank = (key & jnp.uint32((1 << bits) - 1)).astype(jnp.int32)
        start = jnp.searchsorted(key, edges.astype(jnp.uint32) << bits)
    else:
        index, rank = lax.sort((index, owner), num_keys=1, is_stable=True)
        start = jnp.searchsorted(index, edges)
    return Bins(order, rank, start.astype(jnp.int32), needed)
