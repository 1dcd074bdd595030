"""Forces on particles, in world space, each with a time window.

A force has three hooks: `prepare` (what it remembers of t = 0), `accelerate` (velocity before the transfer to the
grid) and
`constrain` (position and velocity after it).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxphys.checks import cast, check_number, check_vector, is_concrete
from jaxphys.mpm.boundary import check_window
from jaxphys.pytree import pytree, static
from jaxphys.shapes import Shape


def column(a, like):
    return jnp.asarray(a, like.dtype).reshape(3, 1)


class ParticleForce:
    """Hooks that do nothing, and the region at t = 0."""

    shape: Shape | None  # the particles inside it at t = 0; None: all

    def check(self, x: np.ndarray) -> None:
        """Raises ValueError when the region holds none of the particles at x (N, 3)."""
        region = getattr(self, "shape", None)
        if region is None or not is_concrete(region):
            return
        if not np.any(np.asarray(region.distance(tuple(x.T))) <= 0):
            raise ValueError(
                f"{type(self).__name__}: no particle lies inside its region {region}; the particles span "
                f"{x.min(0).tolist()} "
                f"to {x.max(0).tolist()}: move or enlarge the region"
            )

    def inside(self, x):
        """1 in the region, 0 outside; NaN everywhere if it is empty, which only a trace can get past `check`."""
        one = jnp.ones_like(x[0])
        if self.shape is None:
            return one
        held = cast(self.shape, x.dtype).distance(tuple(x)) <= 0
        return jnp.where(jnp.any(held), jnp.where(held, one, 0.0), jnp.nan)

    def prepare(self, x, mass):
        return self.inside(x)

    def accelerate(self, v, x, aux, mass, t, dt):
        return v

    def constrain(self, x, v, C, aux, t):
        return x, v, C


def share(start, end, t, dt):
    """Part of the step [t, t + dt] that lies in the window [start, end].

    In units of steps, t = k dt with a whole k, so the parts of all steps add up to the window in any precision. In
    seconds they do not: in float32 the end t + dt of a step and the t of the next differ by up to 1e-7 t.
    """
    dtype = jnp.result_type(start, end)
    k = jnp.round(t / dt).astype(dtype)
    return jnp.maximum(jnp.minimum(end / dt, k + 1.0) - jnp.maximum(start / dt, k), 0.0)


def share_of_mass(inside, mass):
    """1 / (mass of the region) inside it, 0 outside."""
    total = jnp.sum(inside * mass)
    return inside / jnp.where(total == 0, 1.0, total)


@pytree
class Impulse(ParticleForce):
    """A total impulse [N s] on the particles of a region, shared by mass, at `start` or spread evenly up to `end`.

    At once means over the length of one step from `start`; a shorter window is widened to that. The total is exact.
    """

    impulse: Any  # [N s], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = None  # [s]; None: at once

    def __post_init__(self):
        check_vector("Impulse", "impulse", self.impulse)
        check_window("Impulse", self.start, self.end)
        check_number("Impulse", "start", self.start, least=0.0)

    def prepare(self, x, mass):
        return share_of_mass(self.inside(x), mass)

    def accelerate(self, v, x, aux, mass, t, dt):
        start, impulse = cast((self.start, self.impulse), v.dtype)
        first = start / dt
        last = first + 1.0 if self.end is None else jnp.maximum(cast(self.end, v.dtype) / dt, first + 1.0)
        part = share(first, last, t / dt, 1.0) / (last - first)
        return v + column(impulse, v) * (aux * part)


@pytree
class Force(ParticleForce):
    """A total force [N] on the particles of a region, shared by mass."""

    force: Any  # [N], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def __post_init__(self):
        check_vector("Force", "force", self.force)
        check_window("Force", self.start, self.end)

    def prepare(self, x, mass):
        return share_of_mass(self.inside(x), mass)

    def accelerate(self, v, x, aux, mass, t, dt):
        seconds = dt * share(*cast((self.start, self.end), v.dtype), t, dt)
        return v + column(self.force, v) * (aux * seconds)


@pytree
class Acceleration(ParticleForce):
    """An acceleration [m/s^2] of the particles of a region."""

    acceleration: Any  # [m/s^2], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def __post_init__(self):
        check_vector("Acceleration", "acceleration", self.acceleration)
        check_window("Acceleration", self.start, self.end)

    def accelerate(self, v, x, aux, mass, t, dt):
        seconds = dt * share(*cast((self.start, self.end), v.dtype), t, dt)
        return v + column(self.acceleration, v) * (aux * seconds)


@pytree
class Drag(ParticleForce):
    """Linear drag toward a wind: dv/dt = rate (wind - v), integrated exactly, so any rate is stable."""

    wind: Any  # [m/s], (3,)
    rate: Any  # [1/s]
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def __post_init__(self):
        check_vector("Drag", "wind", self.wind)
        check_number("Drag", "rate", self.rate, least=0.0)
        check_window("Drag", self.start, self.end)

    def accelerate(self, v, x, aux, mass, t, dt):
        seconds = dt * share(*cast((self.start, self.end), v.dtype), t, dt)
        rate = cast(self.rate, v.dtype)
        gain = -jnp.expm1(-rate * seconds) * aux
        return v + gain * (column(self.wind, v) - v)


@pytree
class Release(ParticleForce):
    """Holds particles where they are and lets them go layer by layer, the lowest along `direction` first, at `start`.

    Layer k of n goes at start + (end - start) k / n.
    """

    direction: Any  # any length, (3,)
    start: Any  # [s]
    end: Any  # [s]
    layers: int = static(default=1)
    shape: Shape | None = None

    def __post_init__(self):
        check_vector("Release", "direction", self.direction, nonzero=True)
        check_window("Release", self.start, self.end)
        if self.layers < 1:
            raise ValueError(f"Release: layers must be a positive number, got {self.layers}")
        if is_concrete(self.start, self.end) and not np.all(np.isfinite([float(self.start), float(self.end)])):
            raise ValueError(f"Release: start and end must be finite, got start={self.start} s, end={self.end} s")

    def prepare(self, x, mass):
        inside = self.inside(x) > 0
        height = jnp.sum(column(self.direction, x) * x, 0)
        lowest = jnp.min(jnp.where(inside, height, jnp.inf))
        span = jnp.max(jnp.where(inside, height, -jnp.inf)) - lowest
        layer = jnp.clip(
            jnp.floor(self.layers * (height - lowest) / jnp.where(span > 0, span, 1.0)), 0, self.layers - 1
        )
        start, end = cast((self.start, self.end), x.dtype)
        time = start + (end - start) * layer / self.layers
        return x, jnp.where(inside, time, -jnp.inf)

    def constrain(self, x, v, C, aux, t):
        where, time = aux
        held = t < time
        return jnp.where(held, where, x), jnp.where(held, 0.0, v), jnp.where(held, 0.0, C)
