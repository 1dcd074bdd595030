"""Boundaries and forces against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import mpm, shapes
from jaxphys.mpm import forces

HERE = tuple(jnp.zeros((1, 1, 1)) for _ in range(3))  # one node, at the origin
GROUND = shapes.HalfSpace((0.0, 0.0, 0.1), (0.0, 0.0, 1.0))


@jax.jit
def at_origin(collider, v, t=0.0):
    return jnp.stack([c[0, 0, 0] for c in collider.apply(tuple(jnp.full((1, 1, 1), a) for a in v), HERE, t, 1e-3)])


@pytest.mark.parametrize(
    "collider, v, expected",
    [
        (mpm.Collider(GROUND, "sticky"), (1.0, 2.0, -3.0), (0.0, 0.0, 0.0)),
        (mpm.Collider(GROUND, "slip"), (1.0, 2.0, 3.0), (1.0, 2.0, 0.0)),
        (mpm.Collider(GROUND, "separate"), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),
        (mpm.Collider(GROUND, "separate"), (1.0, 2.0, -3.0), (1.0, 2.0, 0.0)),
        (mpm.Collider(GROUND, "separate", friction=0.5), (3.0, 4.0, -2.0), (2.4, 3.2, 0.0)),  # |vt| falls by 0.5 * 2
        (mpm.Collider(GROUND, "separate", friction=0.5), (0.3, 0.4, -2.0), (0.0, 0.0, 0.0)),  # sticks
        (mpm.Collider(GROUND, "separate", velocity=(0.0, 0.0, 1.0)), (1.0, 0.0, 0.0), (1.0, 0.0, 1.0)),
        (
            mpm.Collider(GROUND, "sticky", angular_velocity=(0.0, 0.0, 2.0), center=(1.0, 0.0, 0.0)),
            (9.0,) * 3,
            (0.0, -2.0, 0.0),
        ),
        (mpm.Collider(GROUND, "sticky", start=1.0), (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),  # window not open
    ],
)
def test_collider(collider, v, expected):
    np.testing.assert_allclose(at_origin(collider, v), expected, atol=1e-6)


def test_a_moving_collider_arrives():
    ball = mpm.Collider(shapes.Sphere((-1.0, 0.0, 0.0), 0.5), "sticky", velocity=(1.0, 0.0, 0.0))
    np.testing.assert_allclose(at_origin(ball, (5.0, 5.0, 5.0), t=0.4), 5.0)
    np.testing.assert_allclose(at_origin(ball, (5.0, 5.0, 5.0), t=0.6), (1.0, 0.0, 0.0))


@pytest.mark.parametrize(
    "shape, reference",
    [
        (shapes.Sphere((0.1, 0.2, 0.3), 0.4), lambda p: np.linalg.norm(p - [0.1, 0.2, 0.3], axis=1) - 0.4),
        (shapes.HalfSpace((0, 0, 0.1), (0, 3.0, 4.0)), lambda p: (p - [0, 0, 0.1]) @ [0, 0.6, 0.8]),
        (
            shapes.Capsule((0, 0, -0.5), (0, 0, 0.5), 0.2),
            lambda p: np.linalg.norm(p - np.clip(p[:, 2:], -0.5, 0.5) * [0, 0, 1], axis=1) - 0.2,
        ),
        (
            shapes.Box((0, 0, 0), (0.3, 0.2, 0.1), (0, 0, np.pi / 2)),
            lambda p: (lambda q: np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0))(
                np.abs(p) - [0.2, 0.3, 0.1]
            ),
        ),
        (
            shapes.Cylinder((0, 0, 0), (0, 0, 2.0), 0.3, 0.2),
            lambda p: (lambda q: np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0))(
                np.stack([np.hypot(p[:, 0], p[:, 1]) - 0.2, np.abs(p[:, 2]) - 0.3], 1)
            ),
        ),
    ],
)
def test_distance_and_normal(shape, reference):
    p = np.random.default_rng(0).uniform(-1, 1, (200, 3)).astype(np.float32)
    points = tuple(jnp.asarray(p.T))
    np.testing.assert_allclose(shape.distance(points), reference(p), atol=1e-5)
    normal = np.stack([np.asarray(c) for c in shape.normal(points)], 1)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1.0, atol=1e-4)
    h = 1e-2
    stepped = shape.distance(tuple(c + h * n for c, n in zip(points, normal.T)))
    assert np.median(np.abs(stepped - shape.distance(points) - h)) < 1e-5


def test_gradients_are_finite_at_the_bad_points():
    def speed(friction, v):
        collider = mpm.Collider(shapes.Sphere((0.0, 0.0, 0.0), 0.5), "separate", friction=friction)
        return sum(jnp.sum(c) for c in collider.apply(tuple(jnp.full((1, 1, 1), a) for a in v), HERE, 0.0, 1e-3))

    grads = jax.jit(jax.grad(speed, argnums=(0, 1)))(0.3, jnp.zeros(3))
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def particles(n=50):
    x = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.7, (n, 3)), jnp.float32)
    return mpm.Particles.create(x, 1e-5)


def run(force, seconds=0.1, **options):
    law = mpm.materials.NeoHookean(density=1000.0, E=1e3, nu=0.2)
    grid = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 8)
    config = mpm.Config(grid, fps=1 / seconds, frames=1, substeps=24)
    scene = mpm.Scene((0.0, 0.0, 0.0), forces=(force,))
    end = mpm.simulate(law, particles(**options), scene, config, save=("x", "v"))
    return end, 1000.0 * np.asarray(particles(**options).volume)


@pytest.mark.parametrize(
    "force, momentum",
    [
        (forces.Impulse((0.1, 0.0, -0.2), shapes.Sphere((0.5, 0.5, 0.5), 0.15)), (0.1, 0.0, -0.2)),
        (forces.Impulse((0.1, 0.0, -0.2), start=0.0123, end=0.0777), (0.1, 0.0, -0.2)),
        (forces.Force((1.0, 0.0, 0.0), start=0.02, end=0.05), (0.03, 0.0, 0.0)),
        (forces.Acceleration((0.0, 2.0, 0.0)), (0.0, 0.1, 0.0)),  # 0.5 kg, 0.1 s
        (forces.Drag((1.0, 0.0, 0.0), rate=7.0), (0.5 * (1 - np.exp(-0.7)), 0.0, 0.0)),
    ],
)
def test_momentum_given_by_a_force(force, momentum):
    end, mass = run(force)
    np.testing.assert_allclose(mass @ np.asarray(end.v[0], np.float64), momentum, atol=2e-5)


def test_release_holds_the_upper_layer_longer():
    release = forces.Release((0.0, 0.0, 1.0), start=0.02, end=0.3, layers=2)
    law = mpm.materials.Water(density=1000.0, bulk_modulus=1e3)
    grid = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 8)
    body = particles()
    config = mpm.Config(grid, fps=10.0, frames=1, substeps=40)
    end = mpm.simulate(law, body, mpm.Scene(forces=(release,)), config, save=("x",))
    middle = (float(body.x[:, 2].min()) + float(body.x[:, 2].max())) / 2
    upper = np.asarray(body.x[:, 2]) > middle + 1e-4
    moved = np.abs(np.asarray(end.x[0] - body.x)).max(1)
    assert (moved[upper] == 0).all() and (moved[~upper] > 0).all()


def test_bad_boundaries_and_forces_are_refused():
    for make, message in [
        (lambda: mpm.Collider(GROUND, "glue"), "kind must be"),
        (lambda: mpm.Collider(GROUND, "slip", friction=0.1), "friction needs"),
        (lambda: mpm.Walls((0, 0, 0), (1, 1, 1), friction=-1.0), "negative"),
        (lambda: mpm.Collider(GROUND, start=2.0, end=1.0), "ends before"),
        (lambda: run(forces.Force((1.0, 0, 0), shapes.Sphere((9.0, 9.0, 9.0), 0.1))), "no particle lies"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("friction, slides", [(0.3, True), (0.9, False)])
def test_a_block_on_an_incline_slides_or_sticks(friction, slides):
    """a = g (sin A - friction cos A), or nothing where tan A < friction; A = 30 degrees by tilting gravity."""
    g, angle, dx = 9.81, np.radians(30.0), 1 / 12
    side = np.arange(6) / 24 + 1 / 48
    x = np.stack(np.meshgrid(side + 0.3, side + 0.4, side, indexing="ij"), -1).reshape(-1, 3)
    law = mpm.materials.NeoHookean(density=1000.0, E=2e5, nu=0.2)
    grid = mpm.Grid((0, 0, 0), (1.5, 1, 0.7), dx)
    gravity = (g * np.sin(angle), 0.0, -g * np.cos(angle))
    scene = mpm.Scene(gravity, (mpm.Walls(grid.lo, grid.hi, friction=friction),))
    config = mpm.Config(grid, fps=20.0, frames=8)
    path = mpm.simulate(
        law, mpm.Particles.create(jnp.asarray(x, jnp.float32), (1 / 24) ** 3), scene, config, save=("v",)
    )
    speed = np.asarray(path.v[:, :, 0].mean(1))
    a = np.polyfit(np.asarray(path.times)[2:], speed[2:], 1)[0]
    expected = g * (np.sin(angle) - friction * np.cos(angle))
    if slides:
        assert abs(a / expected - 1) < 0.1
    else:
        assert abs(a) < 0.02 * g and abs(speed[-1]) < 0.02


def test_gradient_with_respect_to_friction_and_force(float64):
    def travelled(friction, push):
        side = jnp.arange(3) / 16 + 0.03
        x = jnp.stack(jnp.meshgrid(side + 0.3, side + 0.3, side, indexing="ij"), -1).reshape(-1, 3)
        body = mpm.Particles.create(x, (1 / 16) ** 3, v=jnp.array([1.0, 0.0, 0.0]))
        grid = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 8)
        scene = mpm.Scene(
            boundaries=(mpm.Walls(grid.lo, grid.hi, friction=friction),), forces=(forces.Force((push, 0.0, 0.0)),)
        )
        law = mpm.materials.NeoHookean(density=1000.0, E=2e4, nu=0.2)
        return mpm.simulate(law, body, scene, mpm.Config(grid, fps=10.0, frames=1, substeps=30)).x[0, :, 0].mean()

    value_and_gradient = jax.jit(jax.value_and_grad(travelled, argnums=(0, 1)))
    value, exact = lambda *a: value_and_gradient(*a)[0], value_and_gradient(0.3, 5.0)[1]
    for k, h in ((0, 1e-6), (1, 1e-4)):
        up, down = [0.3, 5.0], [0.3, 5.0]
        up[k], down[k] = up[k] + h, down[k] - h
        difference = float(value(*up) - value(*down)) / (2 * h)
        assert abs(difference) > 1e-5
        assert abs(float(exact[k]) / difference - 1) < 1e-6
