"""What scene files of the PhysGaussian family do to particles and `mpm.forces` does not: drive them, push each."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxphys.checks import cast, check_vector, is_concrete
from jaxphys.mpm.boundary import check_window, is_open
from jaxphys.mpm.forces import ParticleForce, column, share
from jaxphys.pytree import pytree
from jaxphys.shapes import Shape


@pytree
class Drive(ParticleForce):
    """Gives the particles of a region the velocity of a rigid motion, v + w x (x - center), before every step.

    The particles are those inside `shape` at t = 0, or those that `members` names. They pull at the others through the
    grid, and what the grid gives back is replaced at the next step.
    """

    velocity: Any = (0.0, 0.0, 0.0)  # [m/s], (3,)
    angular_velocity: Any = (0.0, 0.0, 0.0)  # [rad/s], (3,)
    center: Any = (0.0, 0.0, 0.0)  # a point of the axis [m], (3,)
    shape: Shape | None = None
    members: Any = None  # 1 for the particles that it drives, (N,); None: by `shape`
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def __post_init__(self):
        for name in ("velocity", "angular_velocity", "center"):
            check_vector("Drive", name, getattr(self, name))
        check_window("Drive", self.start, self.end)

    def check(self, x: np.ndarray) -> None:
        super().check(x)
        if self.members is not None and is_concrete(self.members) and np.shape(self.members) != (len(x),):
            raise ValueError(f"Drive: members must have shape ({len(x)},), got {np.shape(self.members)}")

    def max_speed(self):
        """At t = 0 [m/s]; of `members` only the translation, because how far they lie from the axis is not known."""
        v, w = (float(np.linalg.norm(np.asarray(a, np.float64))) for a in (self.velocity, self.angular_velocity))
        reach = self.shape.reach(self.center) if self.shape is not None and w > 0 else 0.0
        return v + (w * reach if np.isfinite(reach) else 0.0)

    def prepare(self, x, mass):
        return self.inside(x) if self.members is None else jnp.asarray(self.members, x.dtype)

    def accelerate(self, v, x, aux, mass, t, dt):
        active = is_open(*cast((self.start, self.end), v.dtype), t, dt) & (aux > 0)
        arm, w = x - column(self.center, x), column(self.angular_velocity, x)
        return jnp.where(active, column(self.velocity, v) + jnp.cross(w, arm, axis=0), v)


@pytree
class ForceOnEach(ParticleForce):
    """The same force [N] on every particle of a region, so that lighter ones accelerate more.

    It depends on how many particles an object has; `mpm.forces.Force` does not. Scene files mean this one.
    """

    force: Any  # [N], (3,)
    shape: Shape | None = None
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def __post_init__(self):
        check_vector("ForceOnEach", "force", self.force)
        check_window("ForceOnEach", self.start, self.end)

    def accelerate(self, v, x, aux, mass, t, dt):
        seconds = dt * share(*cast((self.start, self.end), v.dtype), t, dt)
        return v + column(self.force, v) * (aux * seconds / mass)
