"""Analytic shapes in world space: signed distance and outward normal, at any points, with safe gradients.

A point is a tuple of three arrays that broadcast together, so a grid is never materialised: (nx, 1, 1), (1, ny, 1),
(1, 1, nz).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxphys.numerics import safe_div, safe_sqrt

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


def rotate(v: Vector, w: Vector, angle_scale=1.0) -> Vector:
    """v turned by the rotation vector `angle_scale` w [rad] (Rodrigues), exact and differentiable at w = 0."""
    squared = dot(w, w) * angle_scale**2
    small = squared < 1e-8
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    s = jnp.where(small, 1.0 - squared / 6.0, jnp.sin(angle) / angle) * angle_scale
    c = jnp.where(small, 0.5 - squared / 24.0, (1.0 - jnp.cos(angle)) / angle**2) * angle_scale**2
    wv = cross(w, v)
    return combine(combine(v, s, wv), c, cross(w, wv))


def shape(cls):
    """Class decorator: a frozen dataclass registered as a pytree, every field a leaf."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, eq=False)(cls))


class Shape:
    """A solid: negative distance inside."""

    def distance(self, p: Vector):
        """Signed distance [m]."""
        raise NotImplementedError

    def normal(self, p: Vector) -> Vector:
        """Outward unit normal: the gradient of the distance, 0 where the distance has none (the centre of a sphere)."""

        def along(axis):
            tangent = tuple(jnp.ones_like(c) if k == axis else jnp.zeros_like(c) for k, c in enumerate(p))
            return jax.jvp(self.distance, (p,), (tangent,))[1]

        return tuple(along(axis) for axis in range(3))


@shape
class HalfSpace(Shape):
    """Everything below a plane: distance (p - point) . normal.

    >>> ground = HalfSpace(point=(0.0, 0.0, 0.5), normal_vector=(0.0, 0.0, 2.0))
    >>> float(ground.distance((0.0, 0.0, 0.2)))
    -0.30000001192092896
    """

    point: Any  # a point of the plane [m], (3,)
    normal_vector: Any  # outward, any length, (3,)

    def distance(self, p):
        return dot(subtract(p, self.point), unit(tuple(jnp.asarray(c, float) for c in self.normal_vector)))


@shape
class Sphere(Shape):
    """A ball: |p - center| - radius."""

    center: Any  # [m], (3,)
    radius: Any  # [m]

    def distance(self, p):
        return norm(subtract(p, self.center)) - self.radius


@shape
class Box(Shape):
    """A box with half sizes along its own axes, turned by a rotation vector."""

    center: Any  # [m], (3,)
    half_size: Any  # [m], (3,)
    rotation: Any = (0.0, 0.0, 0.0)  # rotation vector [rad], (3,)

    def distance(self, p):
        local = rotate(subtract(p, self.center), tuple(self.rotation), -1.0)
        over = tuple(jnp.abs(c) - h for c, h in zip(local, self.half_size))
        outside = norm(tuple(jnp.maximum(c, 0.0) for c in over))
        return outside + jnp.minimum(jnp.maximum(jnp.maximum(over[0], over[1]), over[2]), 0.0)


@shape
class Capsule(Shape):
    """A rod with round ends: all points within `radius` of a segment."""

    start: Any  # [m], (3,)
    end: Any  # [m], (3,)
    radius: Any  # [m]

    def distance(self, p):
        axis = subtract(self.end, self.start)
        along = jnp.clip(dot(subtract(p, self.start), axis) / dot(axis, axis), 0.0, 1.0)
        return norm(combine(subtract(p, self.start), -along, axis)) - self.radius


@shape
class Cylinder(Shape):
    """A rod with flat ends."""

    center: Any  # [m], (3,)
    axis: Any  # any length, (3,)
    half_height: Any  # [m]
    radius: Any  # [m]

    def distance(self, p):
        axis = unit(tuple(jnp.asarray(c, float) for c in self.axis))
        local = subtract(p, self.center)
        height = dot(local, axis)
        over = (norm(combine(local, -height, axis)) - self.radius, jnp.abs(height) - self.half_height)
        outside = safe_sqrt(jnp.maximum(over[0], 0.0) ** 2 + jnp.maximum(over[1], 0.0) ** 2)
        return outside + jnp.minimum(jnp.maximum(over[0], over[1]), 0.0)
