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

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxphys.checks import cast, check_number, check_vector, is_concrete
from jaxphys.numerics import materialize, safe_sqrt
from jaxphys.pytree import pytree, static
from jaxphys.shapes import Shape, Vector, combine, cross, dot, norm, rotate, subtract

KINDS = ("slip", "separate", "sticky")


def check_common(name: str, kind: str, friction, start, end) -> None:
    if kind not in KINDS:
        raise ValueError(f"{name}: kind must be one of {KINDS}, got {kind!r}")
    if friction is not None:
        if kind != "separate":
            raise ValueError(f"{name}: friction needs kind='separate', got kind={kind!r}")
        check_number(name, "friction", friction)
        if is_concrete(friction) and float(friction) < 0:
            raise ValueError(f"{name}: friction must not be negative, got {friction}")
    check_window(name, start, end)


def check_window(name: str, start, end) -> None:
    check_number(name, "start", start)
    if end is None:
        return
    check_number(name, "end", end)
    if is_concrete(start, end) and np.any(np.asarray(start) > np.asarray(end)):
        raise ValueError(f"{name}: the time window ends before it starts, start={start} s, end={end} s")


def is_open(start, end, t, dt):
    """Whether the middle of the step [t, t + dt] lies in the window: no rounding of t moves it by a step."""
    middle = t + 0.5 * dt
    return (middle >= start) & (middle < end)


def slide(tangent_speed, removed, friction):
    """Factor on the tangential velocity after Coulomb friction: max(0, 1 - friction removed / |v_t|).

    At rest under load (|v_t| = 0) the node sticks, so the factor, which is then the derivative of the result with
    respect to v_t, is 0; without load it is 1.
    """
    loss = friction * removed
    slides = tangent_speed >= loss
    speed = jnp.where(slides & (tangent_speed > 0), tangent_speed, 1.0)
    return jnp.where(slides, 1.0 - loss / speed, 0.0)


@pytree
class Walls:
    """The six faces of a box, material inside. Nodes on or beyond a face are held; a face at infinity is open.

    >>> import jax.numpy as jnp
    >>> walls = Walls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), kind="separate")
    >>> nodes = tuple(jnp.linspace(-0.5, 1.5, 5).reshape(s) for s in ((5, 1, 1), (1, 5, 1), (1, 1, 5)))
    >>> v = walls.apply((jnp.full((5, 5, 5), -1.0),) * 3, nodes, 0.0, 1e-3)
    >>> v[2][2, 2].tolist()
    [0.0, 0.0, -1.0, -1.0, -1.0]
    """

    lo: Any  # lower corner [m], (3,)
    hi: Any  # upper corner [m], (3,)
    kind: str = static(default="separate")
    friction: Any = None  # Coulomb coefficient; None: frictionless
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]

    def __post_init__(self):
        check_common("Walls", self.kind, self.friction, self.start, self.end)
        check_vector("Walls", "lo", self.lo)
        check_vector("Walls", "hi", self.hi)
        if is_concrete(self.lo, self.hi) and np.any(np.asarray(self.lo) >= np.asarray(self.hi)):
            raise ValueError(f"Walls: lo must be less than hi on each axis, got lo={self.lo}, hi={self.hi}")

    def apply(self, v: Any, nodes: Vector, t, dt) -> Vector:
        # Friction reads all three components: unwritten, every axis would compute the ones before it anew, three times.
        written = list if self.friction is None else lambda v: list(materialize(tuple(v)))
        v = written(v)
        self = cast(self, v[0].dtype)
        active = is_open(self.start, self.end, t, dt)
        for axis in range(3):
            slack = 0.01 * (nodes[axis].reshape(-1)[1] - nodes[axis].reshape(-1)[0])  # a node on the face is held
            below, above = nodes[axis] <= self.lo[axis] + slack, nodes[axis] >= self.hi[axis] - slack
            held = active & (below | above)
            if self.kind == "sticky":
                v = [jnp.where(held, 0.0, c) for c in v]
            elif self.kind == "slip":
                v[axis] = jnp.where(held, 0.0, v[axis])
            else:
                outward = jnp.where(below, -1.0, 1.0).astype(v[axis].dtype)
                approach = jnp.where(held, jnp.maximum(outward * v[axis], 0.0), 0.0)
                if self.friction is not None:
                    a, b = (k for k in range(3) if k != axis)
                    factor = jnp.where(held, slide(safe_sqrt(v[a] ** 2 + v[b] ** 2), approach, self.friction), 1.0)
                    v[a], v[b] = factor * v[a], factor * v[b]
                v[axis] = v[axis] - outward * approach
                v = written(v)
        return tuple(v)


@pytree
class Collider:
    """A solid obstacle, fixed or moving with a constant velocity and spin while its time window is open.

    A sticky collider is also how a velocity is prescribed on a region of material (translate, rotate). With
    `moving=False` the region stays and only its surface moves: a conveyor belt, a turntable, an inlet.
    """

    shape: Shape  # where it is at t = start
    kind: str = static(default="separate")
    friction: Any = None  # Coulomb coefficient; None: frictionless
    velocity: Any = (0.0, 0.0, 0.0)  # [m/s], (3,)
    angular_velocity: Any = (0.0, 0.0, 0.0)  # [rad/s], (3,)
    center: Any = (0.0, 0.0, 0.0)  # a point of the axis of rotation at t = start [m], (3,)
    start: Any = 0.0  # [s]
    end: Any = float("inf")  # [s]
    reach: Any = None  # greatest distance from the axis [m], for the speed that limits the step; None: of the shape
    moving: bool = static(default=True)  # False: only the surface moves

    def __post_init__(self):
        check_common("Collider", self.kind, self.friction, self.start, self.end)
        for name in ("velocity", "angular_velocity", "center"):
            check_vector("Collider", name, getattr(self, name))
        if self.reach is not None:
            check_number("Collider", "reach", self.reach, least=0.0)

    def max_speed(self):
        """Greatest surface speed [m/s]: |velocity| + |angular_velocity| reach."""
        v, w = (float(np.linalg.norm(np.asarray(a, np.float64))) for a in (self.velocity, self.angular_velocity))
        if w == 0.0:
            return v
        reach = self.shape.reach(self.center) if self.reach is None else float(self.reach)
        if not np.isfinite(reach):
            raise ValueError(
                "Collider: a half-space that turns has no greatest speed to choose the time step by; give reach [m], "
                "the distance of the farthest material from the axis, or use a Box or a Cylinder"
            )
        return v + w * reach

    def apply(self, v: Any, nodes: Vector, t, dt) -> Vector:
        self = cast(self, v[0].dtype)
        active = is_open(self.start, self.end, t, dt)
        elapsed = jnp.where(active & self.moving, jnp.maximum(t - self.start, 0.0), 0.0)
        arm = subtract(nodes, combine(tuple(self.center), elapsed, tuple(self.velocity)))
        spin = tuple(self.angular_velocity)
        local = combine(tuple(self.center), 1.0, rotate(arm, spin, -elapsed))
        v, local = materialize((tuple(v), local))
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
