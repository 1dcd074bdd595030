"""Shapes: normals at every node of an aligned grid, gradients at the bad points, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import shapes

SOLIDS = {
    "half-space": shapes.HalfSpace((0.0, 0.0, 0.25), (0.0, 3.0, 4.0)),
    "sphere": shapes.Sphere((0.0, 0.0, 0.0), 0.5),
    "box": shapes.Box((0.0, 0.0, 0.0), (0.5, 0.25, 0.5)),
    "turned box": shapes.Box((0.1, 0.0, 0.2), (0.3, 0.2, 0.4), (0.4, -0.9, 0.3)),
    "plate": shapes.Box((0.0, 0.0, 0.0), (0.5, 0.5, 0.01)),
    "capsule": shapes.Capsule((-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), 0.125),
    "cylinder": shapes.Cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 2.0), 0.25, 0.5),
    "slanted cylinder": shapes.Cylinder((0.1, 0.0, 0.0), (1.0, 2.0, -1.0), 0.3, 0.2),
}
distance = jax.jit(lambda solid, p: solid.distance(p))  # eagerly every operation would compile for itself
normal = jax.jit(lambda solid, p: solid.normal(p))
every_solid = pytest.mark.parametrize("solid", SOLIDS.values(), ids=list(SOLIDS))


def lattice():
    """Points on the faces, edges, corners, centres, axes and mid-planes of the solids."""
    axis = np.arange(-8, 9) / 8
    return tuple(np.float32(c.ravel()) for c in np.meshgrid(axis, axis, axis, indexing="ij"))


@every_solid
def test_normal_has_unit_length_at_every_node(solid):
    np.testing.assert_allclose(np.linalg.norm(np.stack(normal(solid, lattice())), axis=0), 1.0, atol=1e-5)


@every_solid
def test_a_step_along_the_normal_leaves_the_solid_by_that_step(solid, float64):
    """True at kinks too: outward along any limit of the gradient the distance grows at least at the rate of a face."""
    p = tuple(np.float64(c) for c in lattice())
    h = 1e-3
    stepped = tuple(c + h * np.asarray(n) for c, n in zip(p, normal(solid, p)))
    np.testing.assert_allclose(np.asarray(distance(solid, stepped)) - distance(solid, p), h, rtol=1e-4)


@every_solid
def test_normal_is_the_gradient_of_the_distance(solid, float64):
    p = np.random.default_rng(1).uniform(-0.9, 0.9, (3, 300))
    gradient = jax.jit(jax.vmap(jax.grad(lambda q: solid.distance(tuple(q))), 1, 1))(p)
    np.testing.assert_allclose(np.stack(normal(solid, tuple(p))), gradient, atol=1e-9)


@every_solid
def test_distance_is_the_way_to_the_surface(solid, float64):
    """Against brute force: the nearest of many points of the zero level, found along random rays."""
    rng = np.random.default_rng(2)
    p = tuple(rng.uniform(-0.7, 0.7, (3, 40)))
    d = np.asarray(distance(solid, p))
    surface = tuple(rng.uniform(-1.2, 1.2, (3, 40000)))
    for _ in range(20):  # |grad distance| = 1, so this projects onto the surface
        gap, n = np.asarray(distance(solid, surface)), normal(solid, surface)
        surface = tuple(c - gap * np.asarray(k) for c, k in zip(surface, n))
    assert np.abs(distance(solid, surface)).max() < 1e-9
    apart = np.sqrt(sum((np.asarray(a)[:, None] - np.asarray(b)[None]) ** 2 for a, b in zip(p, surface)))
    nearest = apart.min(1)
    assert (nearest >= np.abs(d) - 1e-9).all()  # nothing is nearer than the distance says
    assert (nearest - np.abs(d)).max() < 0.06  # and something is about as near


@every_solid
def test_gradients_are_finite_at_every_node(solid):
    def total(solid, p):
        return sum(jnp.sum(c * k) for k, c in enumerate((solid.distance(p), *solid.normal(p)), 1))

    for gradient in jax.tree.leaves(jax.jit(jax.grad(total, argnums=(0, 1)))(solid, lattice())):
        assert bool(jnp.isfinite(gradient).all())


def test_gradient_with_respect_to_the_shape_against_differences(float64):
    p = (0.31, -0.22, 0.43)

    @jax.jit
    def measure(a):
        solids = (
            shapes.Sphere(a[:3], a[3]),
            shapes.Box(a[:3], (0.1, 0.2, a[3]), a[4:7]),
            shapes.Capsule(a[:3], a[4:7], a[3]),
            shapes.Cylinder(a[:3], a[4:7], a[3], 0.1),
            shapes.HalfSpace(a[:3], a[4:7]),
        )
        return sum(s.distance(p) * w + jnp.dot(jnp.stack(s.normal(p)), a[:3]) for w, s in enumerate(solids, 1))

    a = np.array([0.02, 0.05, -0.04, 0.15, 0.3, 0.5, -0.2])
    exact = jax.jit(jax.grad(measure))(a)
    best = np.full(7, np.inf)
    for h in (1e-4, 1e-5, 1e-6):
        central = np.array([(measure(a + h * e) - measure(a - h * e)) / (2 * h) for e in np.eye(7)])
        best = np.minimum(best, np.abs(exact - central))
    assert np.abs(exact).min() > 1e-2
    assert (best <= 1e-7 * np.abs(exact)).all()


@every_solid
def test_reach_bounds_the_solid(solid):
    p = lattice()
    inside = np.asarray(distance(solid, p)) <= 0
    farthest = np.sqrt(sum((np.asarray(c)[inside] - a) ** 2 for c, a in zip(p, (0.5, 0.25, 0.0)))).max()
    assert solid.reach((0.5, 0.25, 0.0)) >= farthest - 1e-6


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: shapes.HalfSpace((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), "normal_vector must not be zero"),
        (lambda: shapes.Box((0.0, 0.0, 0.0), (1.0, 0.0, 1.0)), "greater than 0"),
        (lambda: shapes.Sphere((0.0, 0.0), 1.0), "three numbers"),
        (lambda: shapes.Sphere((0.0, 0.0, float("nan")), 1.0), "NaN"),
        (lambda: shapes.Sphere((0.0, 0.0, 0.0), -1.0), "greater than 0"),
        (lambda: shapes.Capsule((0.0, 0.0, 1.0), (0.0, 0.0, 1.0), 0.1), "use Sphere"),
        (lambda: shapes.Cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, 1.0), "axis must not be zero"),
    ],
)
def test_impossible_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
