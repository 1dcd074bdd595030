"""Analytic shapes in world space: signed distance and outward normal, at any points, with safe gradients.

A point is a tuple of three arrays that broadcast together, so a grid is never materialised: (nx, 1, 1), (1, ny, 1),
(1, 1, nz).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxphys.checks import check_number, check_vector, is_concrete
from jaxphys.numerics import safe_div, safe_sqrt
from jaxphys.pytree import pytree

Vector = tuple[Any, Any, Any]


def dot(a: Vector, b: Vector):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def subtract(a: Vector, b: Vector) -> Vector:
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def combine(a: Vector, s, b: Vector) -> Vector:
    """a + s b."""
    return (a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2])


def norm(a: Vector):
    """|a|, with derivative 0 at a = 0."""
    return safe_sqrt(dot(a, a))


def unit(a: Vector) -> Vector:
    length = norm(a)
    return tuple(safe_div(c, length) for c in a)


def unit_or(a: Vector, fallback: Vector) -> Vector:
    """a / |a|, or `fallback` where a = 0."""
    length = norm(a)
    inside = length > 0
    return tuple(jnp.where(inside, safe_div(c, length), f) for c, f in zip(a, fallback))


def perpendicular(a: Vector) -> Vector:
    """A unit vector at right angles to a."""
    x_is_least = jnp.abs(a[0]) <= jnp.minimum(jnp.abs(a[1]), jnp.abs(a[2]))
    y_is_least = jnp.abs(a[1]) <= jnp.abs(a[2])
    x = jnp.where(x_is_least, 1.0, 0.0)
    y = jnp.where(x_is_least | ~y_is_least, 0.0, 1.0)
    return unit(cross(a, (x, y, 1.0 - x - y)))


def rotate(v: Vector, w: Vector, angle_scale=1.0) -> Vector:
    """v turned by the rotation vector `angle_scale` w [rad] (Rodrigues), exact and differentiable at w = 0."""
    squared = dot(w, w) * angle_scale**2
    small = squared < 1e-8
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    s = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle) * angle_scale
    c = jnp.where(small, 0.5 - squared / 24.0, (1.0 - jnp.cos(angle)) / angle**2) * angle_scale**2
    wv = cross(w, v)
    return combine(combine(v, s, wv), c, cross(w, wv))


UP = (0.0, 0.0, 1.0)


def float64(a) -> np.ndarray:
    return np.asarray(a, np.float64)


class Shape:
    """A solid: negative distance inside."""

    def distance(self, p: Vector):
        """Signed distance [m]."""
        raise NotImplementedError

    def normal(self, p: Vector) -> Vector:
        """Outward unit normal: the gradient of the distance.

        Where the distance has a kink (the centre of a sphere, the axis of a rod, the planes on which two faces of a box
        are equally near) it is one of the limits, still of unit length: nodes of a grid that is aligned with a box lie
        there, and a thin plate or rod holds no other nodes.
        """
        raise NotImplementedError

    def reach(self, point) -> float:
        """Greatest distance [m] of the solid from a point (concrete values), or a bound on it."""
        raise NotImplementedError


def nearest_face(over: tuple, directions: tuple[Vector, ...]) -> Vector:
    """Unit normal of the solid where every `over` is negative, with the gradient `directions` of each.

    Outside it points away from the nearest edge or corner; inside and on the surface it is that of the nearest face,
    the first of equals.
    """
    outside = tuple(jnp.maximum(c, 0.0) for c in over)
    greatest, taken, nearest = over[0], over[0] != over[0], []
    for c in over[1:]:
        greatest = jnp.maximum(greatest, c)
    for c in over:
        first = (c >= greatest) & ~taken
        nearest.append(jnp.where(first, 1.0, 0.0))
        taken = taken | first
    weights = jnp.sqrt(jnp.where(greatest > 0, sum(c * c for c in outside), 1.0))
    parts = tuple(jnp.where(greatest > 0, c / weights, n) for c, n in zip(outside, nearest))
    return tuple(sum(w * d[k] for w, d in zip(parts, directions)) for k in range(3))


@pytree
class HalfSpace(Shape):
    """Everything below a plane: distance (p - point) . normal.

    >>> ground = HalfSpace(point=(0.0, 0.0, 0.5), normal_vector=(0.0, 0.0, 2.0))
    >>> float(ground.distance((0.0, 0.0, 0.2)))
    -0.30000001192092896
    """

    point: Any  # a point of the plane [m], (3,)
    normal_vector: Any  # outward, any length, (3,)

    def __post_init__(self):
        check_vector("HalfSpace", "point", self.point)
        check_vector("HalfSpace", "normal_vector", self.normal_vector, nonzero=True)

    def distance(self, p):
        return dot(subtract(p, self.point), unit(tuple(self.normal_vector)))

    def normal(self, p):
        shape = jnp.broadcast_shapes(*(jnp.shape(c) for c in p))
        return tuple(jnp.broadcast_to(c, shape) for c in unit(tuple(self.normal_vector)))

    def reach(self, point):
        return float("inf")


@pytree
class Sphere(Shape):
    """A ball: |p - center| - radius."""

    center: Any  # [m], (3,)
    radius: Any  # [m]

    def __post_init__(self):
        check_vector("Sphere", "center", self.center)
        check_number("Sphere", "radius", self.radius, above=0.0)

    def distance(self, p):
        return norm(subtract(p, self.center)) - self.radius

    def normal(self, p):
        return unit_or(subtract(p, self.center), UP)

    def reach(self, point):
        return float(np.linalg.norm(float64(self.center) - float64(point)) + float64(self.radius))


@pytree
class Box(Shape):
    """A box with half sizes along its own axes, turned by a rotation vector."""

    center: Any  # [m], (3,)
    half_size: Any  # [m], (3,)
    rotation: Any = (0.0, 0.0, 0.0)  # rotation vector [rad], (3,)

    def __post_init__(self):
        check_vector("Box", "center", self.center)
        check_vector("Box", "half_size", self.half_size, above=0.0)
        check_vector("Box", "rotation", self.rotation)

    def _local(self, p):
        return rotate(subtract(p, self.center), tuple(self.rotation), -1.0)

    def distance(self, p):
        over = tuple(jnp.abs(c) - h for c, h in zip(self._local(p), self.half_size))
        outside = norm(tuple(jnp.maximum(c, 0.0) for c in over))
        return outside + jnp.minimum(jnp.maximum(jnp.maximum(over[0], over[1]), over[2]), 0.0)

    def normal(self, p):
        local = self._local(p)
        over = tuple(jnp.abs(c) - h for c, h in zip(local, self.half_size))
        sign = tuple(jnp.where(c < 0, -1.0, 1.0) for c in local)
        zero = jnp.zeros_like(sign[0])
        faces = ((sign[0], zero, zero), (zero, sign[1], zero), (zero, zero, sign[2]))
        return rotate(nearest_face(over, faces), tuple(self.rotation))

    def reach(self, point):
        centre = np.linalg.norm(float64(self.center) - float64(point))
        return float(centre + np.linalg.norm(float64(self.half_size)))


@pytree
class Capsule(Shape):
    """A rod with round ends: all points within `radius` of a segment."""

    start: Any  # [m], (3,)
    end: Any  # [m], (3,)
    radius: Any  # [m]

    def __post_init__(self):
        check_vector("Capsule", "start", self.start)
        check_vector("Capsule", "end", self.end)
        check_number("Capsule", "radius", self.radius, above=0.0)
        if is_concrete(self.start, self.end) and np.array_equal(float64(self.start), float64(self.end)):
            raise ValueError(f"Capsule: start and end are one point, {self.start}; use Sphere")

    def _from_axis(self, p):
        """The vector from the nearest point of the segment."""
        axis = subtract(self.end, self.start)
        along = jnp.clip(dot(subtract(p, self.start), axis) / dot(axis, axis), 0.0, 1.0)
        return combine(subtract(p, self.start), -along, axis)

    def distance(self, p):
        return norm(self._from_axis(p)) - self.radius

    def normal(self, p):
        return unit_or(self._from_axis(p), perpendicular(subtract(self.end, self.start)))

    def reach(self, point):
        ends = (np.linalg.norm(float64(a) - float64(point)) for a in (self.start, self.end))
        return float(max(ends) + float64(self.radius))


@pytree
class Cylinder(Shape):
    """A rod with flat ends."""

    center: Any  # [m], (3,)
    axis: Any  # any length, (3,)
    half_height: Any  # [m]
    radius: Any  # [m]

    def __post_init__(self):
        check_vector("Cylinder", "center", self.center)
        check_vector("Cylinder", "axis", self.axis, nonzero=True)
        check_number("Cylinder", "half_height", self.half_height, above=0.0)
        check_number("Cylinder", "radius", self.radius, above=0.0)

    def _local(self, p):
        """Axis, height along it, and the vector from it."""
        axis = unit(tuple(self.axis))
        local = subtract(p, self.center)
        height = dot(local, axis)
        return axis, height, combine(local, -height, axis)

    def distance(self, p):
        _, height, radial = self._local(p)
        over = (norm(radial) - self.radius, jnp.abs(height) - self.half_height)
        outside = safe_sqrt(jnp.maximum(over[0], 0.0) ** 2 + jnp.maximum(over[1], 0.0) ** 2)
        return outside + jnp.minimum(jnp.maximum(over[0], over[1]), 0.0)

    def normal(self, p):
        axis, height, radial = self._local(p)
        over = (norm(radial) - self.radius, jnp.abs(height) - self.half_height)
        sign = jnp.where(height < 0, -1.0, 1.0)
        return nearest_face(over, (unit_or(radial, perpendicular(axis)), tuple(sign * c for c in axis)))

    def reach(self, point):
        centre = np.linalg.norm(float64(self.center) - float64(point))
        return float(centre + np.hypot(float64(self.half_height), float64(self.radius)))
