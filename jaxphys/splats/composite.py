"""Front-to-back alpha compositing of tile lists, with a hand-written derivative.

For Gaussians i = 1, 2, ... over a pixel p (Kerbl et al. 2023, eq. 3):

    alpha_i = min(0.999, o_i exp(-sigma_i)),  sigma_i = (a dx^2 + c dy^2) / 2 + b dx dy,  dropped below 1/255
    T_1 = 1,  T_{i+1} = T_i (1 - alpha_i),  w_i = alpha_i T_i,  used while T_{i+1} > 1e-4
    C = sum_i w_i f_i,  A = sum_i w_i

With cotangents gC, gA, q_i = f_i . gC + gA, L = C . gC + A gA and P_i = sum_{j <= i} w_j q_j the derivative is
dL/dalpha_i = T_i q_i - (L - P_i) / (1 - alpha_i). It needs only C and A from the forward pass and runs front to back,
in the same order and with the same early stop, so nothing is stored per pixel and Gaussian.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxphys.splats.project import ALPHA_MIN

ALPHA_MAX = 0.999  # keeps 1 - alpha away from zero, which the derivative divides by
T_MIN = 1e-4  # a pixel darker than this behind what is already drawn is finished
COMPOSITED = "splats.composited"  # checkpoint name of the forward result: saving it saves the forward loop
_DOT = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Static shape of the work."""

    across: int  # tiles along the width
    tiles: int  # number of tiles
    tile: int  # edge of a tile [pixel]
    block: int  # tiles that advance together: few on a CPU (each stops early), many on a GPU (parallel work)
    chunk: int = 16  # Gaussians per step of the loop

    @property
    def blocks(self) -> int:
        return -(-self.tiles // self.block)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def composite(table: jax.Array, rank: jax.Array, start: jax.Array, layout: Layout) -> tuple[jax.Array, jax.Array]:
    """Composites every tile.

    Args:
        table: (N, 6 + F) in depth order: centre x, y, conic a, b, c, opacity, then F values to blend.
        rank: (capacity,) row of `table` of each (tile, Gaussian) pair.
        start: (tiles + 1,) first pair of each tile.
        layout: static.

    Returns:
        Blended values (tiles, F, tile^2) and coverage (tiles, tile^2). On a GPU the gradient's last digits may differ
        from run to run, because its sums are taken in any order.
    """
    return blend(table, rank, start, layout)


def _schedule(start: jax.Array, layout: Layout) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Tile index (-1 for padding), pair count and first pair, each (blocks, block), longest tiles first."""
    count = start[1:] - start[:-1]
    order = jnp.argsort(-count).astype(jnp.int32)
    order = jnp.concatenate([order, jnp.full(layout.blocks * layout.block - layout.tiles, -1, jnp.int32)])
    count = jnp.where(order >= 0, count[order], 0)
    return tuple(a.reshape(layout.blocks, layout.block) for a in (order, count, start[order]))


def _pixels(tile: jax.Array, layout: Layout, dtype) -> tuple[jax.Array, jax.Array]:
    """Pixel centres x, y (block, tile^2)."""
    i = jnp.arange(layout.tile**2, dtype=jnp.int32)
    x = (tile % layout.across)[:, None] * layout.tile + i % layout.tile
    y = (tile // layout.across)[:, None] * layout.tile + i // layout.tile
    return x.astype(dtype) + 0.5, y.astype(dtype) + 0.5


def _load(table, rank, first, count, k, layout):
    """Chunk k of each tile's list: live (block, chunk), row numbers and rows of the table."""
    j = k * layout.chunk + jnp.arange(layout.chunk, dtype=jnp.int32)
    live = j < count[:, None]
    slot = jnp.where(live, first[:, None] + j, 0)
    row = rank.at[slot].get(mode="promise_in_bounds")
    return live, row, table.at[row].get(mode="promise_in_bounds")


def _blend(g, live, x, y, transmittance):
    """Everything that forward and backward must compute alike for one chunk."""
    dx, dy = x[:, None] - g[..., 0:1], y[:, None] - g[..., 1:2]
    sigma = 0.5 * (g[..., 2:3] * dx * dx + g[..., 4:5] * dy * dy) + g[..., 3:4] * dx * dy
    raw = g[..., 5:6] * jnp.exp(-sigma)
    alpha = jnp.where(live[..., None] & (sigma >= 0) & (raw >= ALPHA_MIN), jnp.minimum(raw, ALPHA_MAX), 0.0)
    behind = 1.0 - alpha
    # Unrolled: XLA fuses sixteen multiplications better than a cumulative product.
    t, before = transmittance, []
    for i in range(alpha.shape[1]):
        before.append(t)
        t = t * behind[:, i]
    before = jnp.stack(before, 1)
    used = before * behind > T_MIN
    weight = jnp.where(used, alpha * before, 0.0)
    return raw, alpha, behind, before, used, weight, t


def _more(k, transmittance, count, layout):
    """Whether some pixel of the block is unfinished and its tile's list not yet at its end."""
    return jnp.any((transmittance > T_MIN) & (k * layout.chunk < count)[:, None])


def blend(table, rank, start, layout):
    """`composite` without its derivative rule: its loop stops early, so only forward mode goes through it."""
    order, counts, firsts = _schedule(start, layout)
    features, pixels, dtype = table.shape[1] - 6, layout.tile**2, table.dtype

    def block(args):
        tile, count, first = args
        x, y = _pixels(tile, layout, dtype)

        def body(state):
            k, t, coverage, value = state
            live, _, g = _load(table, rank, first, count, k, layout)
            *_, weight, t = _blend(g, live, x, y, t)
            value = value + _DOT("bkf,bkp->bfp", g[..., 6:], weight)
            return k + 1, t, coverage + jnp.sum(weight, 1), value

        shape, value_shape = (layout.block, pixels), (layout.block, features, pixels)
        init = (jnp.int32(0), jnp.ones(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros(value_shape, dtype))
        _, _, coverage, value = lax.while_loop(lambda s: _more(s[0], s[1], count, layout), body, init)
        return value, coverage

    value, coverage = lax.map(block, (order, counts, firsts))
    order = order.reshape(-1)
    where = jnp.zeros(layout.tiles, jnp.int32).at[jnp.where(order >= 0, order, layout.tiles)]
    where = where.set(jnp.arange(order.shape[0], dtype=jnp.int32), mode="drop")
    return value.reshape(-1, features, pixels)[where], coverage.reshape(-1, pixels)[where]


def _forward_rule(table, rank, start, layout):
    result = checkpoint_name(blend(table, rank, start, layout), COMPOSITED)
    return result, (table, rank, start, *result)


def _backward_rule(layout, residuals, cotangents):
    table, rank, start, value, coverage = residuals
    g_value, g_coverage = cotangents
    order, counts, firsts = _schedule(start, layout)
    n, dtype = table.shape[0], table.dtype
    total = jnp.sum(value * g_value, 1) + coverage * g_coverage

    def block(gradient, args):
        tile, count, first = args
        x, y = _pixels(tile, layout, dtype)
        # Sums of v, v dx, v dy, v dx^2, ... over the pixels are one matrix product with the moments of the pixel grid
        # about the tile's centre, shifted to each Gaussian's centre afterwards: near numbers, so nothing cancels badly.
        x0, y0 = (jnp.mean(p, -1, keepdims=True) for p in (x, y))
        u, w = (x - x0)[0], (y - y0)[0]
        moments = jnp.stack([jnp.ones_like(u), u, w, u * u, u * w, w * w])
        index = jnp.maximum(tile, 0)  # a padding tile has no pairs, so what it reads does not matter
        gv, ga, whole = g_value[index], g_coverage[index], total[index]

        def body(state):
            k, t, seen, gradient = state
            live, row, g = _load(table, rank, first, count, k, layout)
            raw, alpha, behind, before, used, weight, t = _blend(g, live, x, y, t)
            q = _DOT("bkf,bfp->bkp", g[..., 6:], gv) + ga[:, None]
            wq, prefix = weight * q, []
            for i in range(layout.chunk):
                seen = seen + wq[:, i]
                prefix.append(seen)
            d_alpha = before * q - (whole[:, None] - jnp.stack(prefix, 1)) / behind
            # v = dL/dln(opacity) = -dL/dsigma; a clamped or dropped alpha does not move
            v = jnp.where(used & (alpha > 0) & (raw < ALPHA_MAX), d_alpha * raw, 0.0)
            s, su, sw, suu, suw, sww = jnp.moveaxis(_DOT("bkp,mp->bkm", v, moments), -1, 0)
            mx, my, a, b, c, opacity = (g[..., i] for i in range(6))
            mx, my = mx - x0, my - y0
            sx, sy = su - mx * s, sw - my * s  # sums of v dx and v dy
            update = [
                a * sx + b * sy,
                b * sx + c * sy,
                -0.5 * (suu - mx * (su + sx)),
                mx * sw + my * sx - suw,
                -0.5 * (sww - my * (sw + sy)),
                s / jnp.maximum(opacity, ALPHA_MIN),
            ]
            update = jnp.concatenate([jnp.stack(update, -1), _DOT("bkp,bfp->bkf", weight, gv)], -1)
            return k + 1, t, seen, gradient.at[jnp.where(live, row, n)].add(update, mode="drop")

        shape = (layout.block, layout.tile**2)
        init = (jnp.int32(0), jnp.ones(shape, dtype), jnp.zeros(shape, dtype), gradient)
        return lax.while_loop(lambda s: _more(s[0], s[1], count, layout), body, init)[3], None

    return lax.scan(block, jnp.zeros_like(table), (order, counts, firsts))[0], None, None


composite.defvjp(_forward_rule, _backward_rule)
