"""Boundaries: what they do to the velocity of the grid nodes that they hold.

    slip      the normal part of the relative velocity is removed
    separate  the same, but only where the material approaches; with Coulomb friction
    sticky    the material moves with the surface

Friction is Coulomb's on the impulse of one step: the tangential relative velocity loses at most friction times the
normal
velocity that was removed, so a sliding body decelerates by friction times its normal pressure, and sticks when that
is enough.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.mpm.state import is_concrete
from jaxphys.numerics import safe_sqrt
from jaxphys.shapes import Shape, Vector, combine, cross, dot, norm, rotate, subtract

KINDS = ("slip", "separate", "sticky")


def check_common(name: str, kind: str, friction, start=0.0, end=0.0) -> None:
    if kind not in KINDS:
        raise ValueError(f"{name}: kind must be one of {KINDS}, got {kind!r}")
    if friction is not None and kind != "separate":
        raise ValueError(f"{name}: friction needs kind='separate', got kind={kind!r}")
    if friction is not None and is_concrete(friction) and np.any(np.asarray(friction) < 0):
        raise ValueError(f"{name}: friction must not be negative, got {friction}")
    check_window(name, start, end)


def check_window(name: str, start, end) -> None:
    if is_concrete(start, end) and np.any(np.asarray(start) > np.asarray(end)):
        raise ValueError(f"{name}: the time window ends before it starts, start={start} s, end={end} s")


def slide(tangent_speed, removed, friction):
    """Factor on the tangential velocity after Coulomb friction: max(0, 1 - friction removed / |v_t|)."""
    moving = tangent_speed > 0
    return jnp.where(moving, jnp.maximum(1.0 - friction * removed / jnp.where(moving, tangent_speed, 1.0), 0.0), 1.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Walls:
    """The six faces of a box, material inside. Nodes on or beyond a face are held.

    >>> import jax.numpy as jnp
    >>> walls = Walls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), kind="separate")
    >>> nodes = tuple(jnp.linspace(-0.5, 1.5, 5).reshape(s) for s in ((5, 1, 1), (1, 5, 1), (1, 1, 5)))
    >>> v = walls.apply((jnp.full((5, 5, 5), -1.0),) * 3, nodes, 0.0, 1e-3)
    >>> v[2][2, 2].tolist()
    [0.0, 0.0, -1.0, -1.0, -1.0]
    """

    lo: Any  # lower corner [m], (3,)
    hi: Any  # upper corner [m], (3,)
    kind: str = dataclasses.field(default="separate", metadata=dict(static=True))
    friction: Any = None  # Coulomb coefficient; None: frictionless

    def __post_init__(self):
        check_common("Walls", self.kind, self.friction)

    def apply(self, v: Any, nodes: Vector, t, dt) -> Vector:
        v = list(v)
        for axis in range(3):
            slack = 0.01 * (nodes[axis].reshape(-1)[1] - nodes[axis].reshape(-1)[0])  # a node on the face is held
            faces = ((nodes[axis] <= self.lo[axis] + slack, 1.0), (nodes[axis] >= self.hi[axis] - slack, -1.0))
            for held, inward in faces:
                if self.kind == "sticky":
                    v = [jnp.where(held, 0.0, c) for c in v]
                elif self.kind == "slip":
                    v[axis] = jnp.where(held, 0.0, v[axis])
                else:
                    removed = jnp.maximum(-inward * v[axis], 0.0)
                    if self.friction is not None:
                        a, b = (k for k in range(3) if k != axis)
                        factor = slide(safe_sqrt(v[a] ** 2 + v[b] ** 2), removed, self.friction)
                        v[a], v[b] = (jnp.where(held, factor * v[k], v[k]) for k in (a, b))
                    v[axis] = jnp.where(held, v[axis] + inward * removed, v[axis])
        return tuple(v)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Collider:
    """A solid obstacle, fixed or moving with a constant velocity and spin while its time window is open.

    A sticky collider is also how a velocity is prescribed on a region of material (translate, rotate).
    """

    shape: Shape  # where it is at t = start
    kind: str = dataclasses.field(default="separate", metadata=dict(static=True))
    friction: Any = None  # Coulomb coefficient; None: frictionless
    velocity: Any = (0.0, 0.0, 0.0)  # [m/s], (3,)
    angular_velocity: Any = (0.0, 0.0, 0.0)  # [rad/s], (3,)
    center: Any = (0.0, 0.0, 0.0)  # a point of the axis of rotation at t = start [m], (3,)
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]
    reach: Any = 0.0  # greatest distance from the axis [m], for the speed that limits the time step

    def __post_init__(self):
        check_common("Collider", self.kind, self.friction, self.start, self.end)

    def max_speed(self):
        """Greatest surface speed [m/s]: |velocity| + |angular_velocity| reach."""
        v, w = (np.linalg.norm(np.asarray(a, np.float64)) for a in (self.velocity, self.angular_velocity))
        return v + w * float(self.reach)

    def apply(self, v: Any, nodes: Vector, t, dt) -> Vector:
        active = (t >= self.start) & (t < self.end)
        elapsed = jnp.where(active, t - self.start, 0.0)
        arm = subtract(nodes, combine(tuple(self.center), elapsed, tuple(self.velocity)))
        spin = tuple(self.angular_velocity)
        local = combine(tuple(self.center), 1.0, rotate(arm, spin, -elapsed))
        held = active & (self.shape.distance(local) <= 0.0)
        surface = combine(tuple(self.velocity), 1.0, cross(spin, arm))
        if self.kind == "sticky":
            return tuple(jnp.where(held, s, c) for s, c in zip(surface, v))
        n = rotate(self.shape.normal(local), spin, elapsed)
        relative = subtract(v, surface)
        normal_speed = dot(relative, n)
        removed = normal_speed if self.kind == "slip" else jnp.minimum(normal_speed, 0.0)
        tangent = combine(relative, -normal_speed, n)
        factor = 1.0 if self.friction is None else slide(norm(tangent), -removed, self.friction)
        kept = normal_speed - removed
        return tuple(
            jnp.where(held, s + kept * n_k + factor * t_k, c) for s, n_k, t_k, c in zip(surface, n, tangent, v)
        )
