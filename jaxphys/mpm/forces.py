"""Forces on particles, in world space, each with a time window.

A force has three hooks: `prepare` (what it remembers of t = 0), `accelerate` (velocity before the transfer to the
grid) and
`constrain` (position and velocity after it).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.mpm.boundary import check_window
from jaxphys.mpm.state import is_concrete
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
        one = jnp.ones_like(x[0])
        return one if self.shape is None else jnp.where(self.shape.distance(tuple(x)) <= 0, one, 0.0)

    def prepare(self, x, mass):
        return self.inside(x)

    def accelerate(self, v, x, aux, mass, t, dt):
        return v

    def constrain(self, x, v, C, aux, t):
        return x, v, C


def force(cls):
    """Class decorator: a frozen dataclass registered as a pytree, its time window checked."""

    def check(self):
        check_window(cls.__name__, self.start, self.end)

    cls.__post_init__ = check
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


def overlap(start, end, t, dt):
    """Seconds of the step [t, t + dt] inside the window [start, end]."""
    return jnp.maximum(jnp.minimum(end, t + dt) - jnp.maximum(start, t), 0.0)


def share_of_mass(inside, mass):
    """1 / (mass of the region) inside it, 0 outside."""
    total = jnp.sum(inside * mass)
    return inside / jnp.where(total > 0, total, 1.0)


@force
class Impulse(ParticleForce):
    """A total impulse [N s] on the particles of a region, shared by mass, at `start` or spread evenly up to `end`."""

    impulse: Any  # [N s], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = 0.0  # [s]; equal to start: at once

    def prepare(self, x, mass):
        return share_of_mass(self.inside(x), mass)

    def accelerate(self, v, x, aux, mass, t, dt):
        spread = self.end > self.start
        length = jnp.where(spread, self.end - self.start, 1.0)
        at_once = jnp.where((t <= self.start) & (self.start < t + dt), 1.0, 0.0)
        part = jnp.where(spread, overlap(self.start, self.end, t, dt) / length, at_once)
        return v + column(self.impulse, v) * (aux * part)


@force
class Force(ParticleForce):
    """A total force [N] on the particles of a region, shared by mass."""

    force: Any  # [N], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def prepare(self, x, mass):
        return share_of_mass(self.inside(x), mass)

    def accelerate(self, v, x, aux, mass, t, dt):
        return v + column(self.force, v) * (aux * overlap(self.start, self.end, t, dt))


@force
class Acceleration(ParticleForce):
    """An acceleration [m/s^2] of the particles of a region."""

    acceleration: Any  # [m/s^2], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def accelerate(self, v, x, aux, mass, t, dt):
        return v + column(self.acceleration, v) * (aux * overlap(self.start, self.end, t, dt))


@force
class Drag(ParticleForce):
    """Linear drag toward a wind: dv/dt = rate (wind - v), integrated exactly, so any rate is stable."""

    wind: Any  # [m/s], (3,)
    rate: Any  # [1/s]
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def accelerate(self, v, x, aux, mass, t, dt):
        gain = -jnp.expm1(-self.rate * overlap(self.start, self.end, t, dt)) * aux
        return v + gain * (column(self.wind, v) - v)


@force
class Release(ParticleForce):
    """Holds particles where they are and lets them go layer by layer, the lowest along `direction` first, at `start`.

    Layer k of n goes at start + (end - start) k / n.
    """

    direction: Any  # any length, (3,)
    start: Any  # [s]
    end: Any  # [s]
    layers: int = dataclasses.field(default=1, metadata=dict(static=True))
    shape: Shape | None = None

    def prepare(self, x, mass):
        inside = self.inside(x) > 0
        height = jnp.sum(column(self.direction, x) * x, 0)
        lowest = jnp.min(jnp.where(inside, height, jnp.inf))
        span = jnp.max(jnp.where(inside, height, -jnp.inf)) - lowest
        layer = jnp.clip(
            jnp.floor(self.layers * (height - lowest) / jnp.where(span > 0, span, 1.0)), 0, self.layers - 1
        )
        time = self.start + (self.end - self.start) * layer / self.layers
        return x, jnp.where(inside, time, -jnp.inf)

    def constrain(self, x, v, C, aux, t):
        where, time = aux
        held = t < time
        return jnp.where(held, where, x), jnp.where(held, 0.0, v), jnp.where(held, 0.0, C)
