"""Particle-to-grid and grid-to-particle transfer with quadratic B-splines and hand-written derivatives.

Positions are in cells: X = (x - lo) / dx + PAD, base node b = floor(X - 1/2), f = X - b in [1/2, 3/2). Offset o in
{0,1,2}^3 carries the weight W_o = w_ox(fx) w_oy(fy) w_oz(fz) with w = ((3/2-f)^2/2, 3/4-(f-1)^2, (f-1/2)^2/2).

    p2g:  g_(b+o) += W_o (q + A o),   m_(b+o) += W_o m          (momentum q at offset zero, affine part A per cell)
    g2p:  u = sum_o W_o g_(b+o),      C = 4/dx (M - u f^T),     M = sum_o W_o g_(b+o) o^T

Each is linear in its fields, and the adjoint of one is the other, so reverse mode costs one gather and one scatter. On
CPU the scatter moves two float32 channels as one complex64, which halves the number of serial scatters; loops over
offsets keep compile time low (BUILD.md has the measurements). `linear_call` would serve forward mode too but has no
vmap rule, so forward mode differentiates the plain kernels.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxphys.mpm.state import PAD, Grid
from jaxphys.numerics import materialize

MIN_SPLIT = 16384  # particles below which splitting a scatter costs more than it gains
OFFSETS = np.indices((3, 3, 3), np.int32).reshape(3, 27)  # a table costs less than the divisions of a running number
IN_BOUNDS = "promise_in_bounds"  # `stencil` clips the base node, so this holds even for a lost particle


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Static facts of a transfer."""

    grid: Grid
    mesh: Mesh | None = None

    @property
    def size(self) -> int:
        nx, ny, nz = self.grid.shape
        return nx * ny * nz

    def flat(self, i, j, k):
        """Flat index of an offset."""
        _, ny, nz = self.grid.shape
        return (i * ny + j) * nz + k


def cells(grid: Grid, x: jax.Array) -> jax.Array:
    """Positions in cells, (3, N)."""
    lo = jnp.asarray(grid.lo, x.dtype)[:, None]
    return (x - lo) * (1.0 / grid.dx) + PAD


def stencil(grid: Grid, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Flat index of the base node, (N,), and the position f relative to it in cells, (3, N).

    The base is clipped into the grid: a lost particle touches wrong nodes and is reported by the status, but never
    reads or writes outside the array.
    """
    X = cells(grid, x)
    limit = jnp.asarray(grid.shape, jnp.int32)[:, None] - 3
    base = jnp.clip(jnp.floor(lax.stop_gradient(X) - 0.5).astype(jnp.int32), 0, limit)
    _, ny, nz = grid.shape
    return (base[0] * ny + base[1]) * nz + base[2], X - base.astype(x.dtype)


def weights(f: jax.Array) -> jax.Array:
    """w[offset, axis], (3, 3, N)."""
    return jnp.stack([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1.0) ** 2, 0.5 * (f - 0.5) ** 2])


def weight_slopes(f: jax.Array) -> jax.Array:
    """dw/df[offset, axis], (3, 3, N)."""
    return jnp.stack([f - 1.5, 2.0 - 2.0 * f, f - 0.5])


def _parts(geometry: Geometry, count: int) -> int:
    return 4 if count >= max(MIN_SPLIT, geometry.size // 8) else 1


def _scatter_loop(geometry: Geometry, x, q, A, m):
    """CPU: one offset at a time, two real channels per complex scatter.

    XLA's CPU scatter is serial, but independent scatters of one loop body run concurrently: large clouds are cut into
    parts with a grid each, summed at the end.
    """
    index, f = stencil(geometry.grid, x)
    w = weights(f)
    # Without the barrier XLA recomputes the payload for every offset.
    index, w, q, A, m = materialize((index, w, q, A, m))
    pair = jnp.complex128 if x.dtype == jnp.float64 else jnp.complex64
    count = x.shape[1]
    parts = _parts(geometry, count)
    bounds = [count * p // parts for p in range(parts + 1)]

    def add_offset(t, fields):
        i, j, k = (lax.dynamic_index_in_dim(jnp.asarray(o), t, keepdims=False) for o in OFFSETS)
        o = [a.astype(x.dtype) for a in (i, j, k)]
        shift = geometry.flat(i, j, k)
        out = []
        for (first, second), start, end in zip(fields, bounds, bounds[1:]):
            s = slice(start, end)
            W = w[i, 0][s] * w[j, 1][s] * w[k, 2][s]
            p = [W * (q[c, s] + A[c, 0, s] * o[0] + A[c, 1, s] * o[1] + A[c, 2, s] * o[2]) for c in range(3)]
            last = p[2] if m is None else lax.complex(p[2], W * m[s])
            node = index[s] + shift
            out.append(
                (
                    first.at[node].add(lax.complex(p[0], p[1]), mode=IN_BOUNDS),
                    second.at[node].add(last, mode=IN_BOUNDS),
                )
            )
        return tuple(out)

    empty = jnp.zeros(geometry.size, pair), jnp.zeros(geometry.size, x.dtype if m is None else pair)
    fields = lax.fori_loop(0, 27, add_offset, (empty,) * parts)
    a, b = (functools.reduce(jnp.add, channel) for channel in zip(*fields))
    return (a.real, a.imag, b) if m is None else (a.real, a.imag, b.real, b.imag)


def _scatter_fused(geometry: Geometry, x, q, A, m):
    """Accelerators: all 27 offsets in one scatter of rows, so that the payload is read once."""
    index, f = stencil(geometry.grid, x)
    w = weights(f)
    i, j, k = (a.reshape(-1) for a in jnp.meshgrid(*[jnp.arange(3)] * 3, indexing="ij"))
    W = w[i, 0] * w[j, 1] * w[k, 2]  # (27, N)
    o = jnp.stack([i, j, k]).astype(x.dtype)[:, :, None]  # (3, 27, 1)
    rows = [W * (q[c] + A[c, 0] * o[0] + A[c, 1] * o[1] + A[c, 2] * o[2]) for c in range(3)]
    rows = jnp.stack(rows if m is None else [*rows, W * m], -1)  # (27, N, 3 or 4)
    node = index + geometry.flat(i, j, k)[:, None]
    g = jnp.zeros((geometry.size, rows.shape[-1]), x.dtype).at[node].add(rows, mode=IN_BOUNDS)
    return tuple(g[:, c] for c in range(rows.shape[-1]))


def scatter(geometry: Geometry, x, q, A, m=None) -> tuple[jax.Array, ...]:
    """sum over particles of W_o (q + A o), and of W_o m: flat grid arrays, three or four.

    With a mesh, each device scatters its own particles and one sum joins the grids: the only collective of a substep.
    It sits inside a function that is never differentiated through, so no gradient depends on shard_map's own rules.
    """
    local = _scatter_loop if jax.default_backend() == "cpu" else _scatter_fused
    if geometry.mesh is None:
        return local(geometry, x, q, A, m)
    spec = [PartitionSpec(None, "data"), PartitionSpec(None, "data"), PartitionSpec(None, None, "data")]
    args = [x, q, A]
    if m is not None:
        spec, args = [*spec, PartitionSpec("data")], [*args, m]

    def summed(x, q, A, m=None):
        return lax.psum(local(geometry, x, q, A, m), "data")

    return jax.shard_map(summed, mesh=geometry.mesh, in_specs=tuple(spec), out_specs=PartitionSpec(), check_vma=False)(
        *args
    )


def gather(geometry: Geometry, x, fields, pairing=None) -> Any:
    """Moments of grid fields at the particles, and the slope of their pairing with a particle payload.

    Args:
        geometry: static facts.
        x: positions [m], (3, N).
        fields: three or four flat grid arrays.
        pairing: (q, A, m) as in `scatter` (m None for three fields); asks for d/dx of sum_o W_o g_o . (q + A o, m).

    Returns:
        (u (3, N), M (3, 3, N), zeroth moment of the fourth field or None), and the slope (3, N) [1/m] or None.
    """
    index, f = stencil(geometry.grid, x)
    w, dw = weights(f), weight_slopes(f)
    fields = materialize(tuple(fields))
    mass = len(fields) == 4
    zero = jnp.zeros_like(x[0])

    def add_plane(i, acc):
        acc = list(acc)
        fi = i.astype(x.dtype)
        wx, dwx = w[i, 0], dw[i, 0]
        sums = [[zero, zero, zero] for _ in range(3)]  # per channel: sum, sum o_y, sum o_z over this plane
        fourth, h, hy, hz = zero, zero, zero, zero
        for j in range(3):
            rows = [[a.at[index + geometry.flat(i, j, k)].get(mode=IN_BOUNDS) for a in fields] for k in range(3)]
            wy = w[j, 1]
            for c in range(3):
                s1 = w[1, 2] * rows[1][c]
                s2 = w[2, 2] * rows[2][c]
                s0 = w[0, 2] * rows[0][c] + s1 + s2
                line = wy * s0
                sums[c][0] += line
                sums[c][1] += j * line if j else zero
                sums[c][2] += wy * (s1 + 2 * s2)
            if mass:
                fourth += wy * sum(w[k, 2] * rows[k][3] for k in range(3))
            if pairing is not None:
                q, A, m = pairing
                e, ez = zero, zero
                for k in range(3):
                    p = [q[c] + A[c, 0] * fi + A[c, 1] * j + A[c, 2] * k for c in range(3)]
                    paired = sum(rows[k][c] * p[c] for c in range(3)) + (rows[k][3] * m if mass else 0.0)
                    e += w[k, 2] * paired
                    ez += dw[k, 2] * paired
                h += wy * e
                hy += dw[j, 1] * e
                hz += wy * ez
        for c in range(3):
            u = wx * sums[c][0]
            acc[4 * c] += u
            acc[4 * c + 1] += fi * u
            acc[4 * c + 2] += wx * sums[c][1]
            acc[4 * c + 3] += wx * sums[c][2]
        acc[12] += wx * fourth
        if pairing is not None:
            acc[13] += dwx * h
            acc[14] += wx * hy
            acc[15] += wx * hz
        return tuple(acc)

    a = lax.fori_loop(0, 3, add_plane, (zero,) * 16)
    u = jnp.stack([a[0], a[4], a[8]])
    M = jnp.stack([jnp.stack(a[4 * c + 1 : 4 * c + 4]) for c in range(3)])
    slope = None if pairing is None else jnp.stack(a[13:16]) * (1.0 / geometry.grid.dx)
    return (u, M, a[12] if mass else None), slope


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def p2g(geometry: Geometry, x, q, A, m):
    """Momentum (three arrays) and mass on the flat grid. Reverse mode; `scatter` is its forward-mode twin."""
    return scatter(geometry, x, q, A, m)


def _p2g_fwd(geometry, x, q, A, m):
    return scatter(geometry, x, q, A, m), (x, q, A, m)


def _p2g_bwd(geometry, residuals, g_bar):
    x, q, A, m = residuals
    (q_bar, A_bar, m_bar), x_bar = gather(geometry, x, g_bar, (q, A, m))
    return x_bar, q_bar, A_bar, m_bar


p2g.defvjp(_p2g_fwd, _p2g_bwd)


def affine(geometry: Geometry, x, g) -> tuple[jax.Array, jax.Array]:
    """Velocity u [m/s], (3, N), and velocity gradient C = 4/dx (M - u f^T) [1/s], (3, 3, N), at the particles."""
    _, f = stencil(geometry.grid, x)
    (u, M, _), _ = gather(geometry, x, g)
    return u, (M - u[:, None] * f[None, :]) * (4.0 / geometry.grid.dx)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def g2p(geometry: Geometry, x, g):
    """v (3, N) and C (3, 3, N) from three flat grid arrays. Reverse mode; `affine` is its forward-mode twin."""
    return affine(geometry, x, g)


def _g2p_fwd(geometry, x, g):
    return affine(geometry, x, g), (x, g)


def _g2p_bwd(geometry, residuals, bars):
    (x, g), (u_bar, C_bar) = residuals, bars
    _, f = stencil(geometry.grid, x)
    M_bar = C_bar * (4.0 / geometry.grid.dx)
    q = jnp.stack([u_bar[i] - sum(M_bar[i, j] * f[j] for j in range(3)) for i in range(3)])
    # One loop gives u too, which the f in C needs; its M is not used and falls away.
    (u, _, _), slope = gather(geometry, x, g, (q, M_bar, None))
    by_f = jnp.stack([sum(M_bar[i, j] * u[i] for i in range(3)) for j in range(3)])
    return slope - by_f * (1.0 / geometry.grid.dx), scatter(geometry, x, q, M_bar)


g2p.defvjp(_g2p_fwd, _g2p_bwd)


@jax.custom_jvp
def grid_velocity(momentum: tuple, mass: jax.Array, threshold: jax.Array) -> tuple:
    """v = p / m where m > threshold, else 0, with dv = (dp - v dm) / m.

    The quotient rule p dm / m^2 overflows float32 at the nearly empty nodes on a body's fringe; this form does not.
    """
    inverse = _inverse(mass, threshold)
    return tuple(p * inverse for p in momentum)


def _inverse(mass, threshold):
    held = mass > threshold
    return jnp.where(held, 1.0 / jnp.where(held, mass, 1.0), 0.0)


@grid_velocity.defjvp
def _grid_velocity_jvp(primals, tangents):
    momentum, mass, threshold = primals
    inverse = _inverse(mass, threshold)
    v = tuple(p * inverse for p in momentum)
    return v, tuple((dp - a * tangents[1]) * inverse for dp, a in zip(tangents[0], v))
