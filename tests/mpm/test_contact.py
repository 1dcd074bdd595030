"""Contact at single nodes, windows, gradients of boundaries, and forces that give what they promise at any step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import mpm, shapes
from jaxphys.mpm import forces

DT = 1e-3
GROUND = shapes.HalfSpace((0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
CUBE = shapes.Box((0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
PLATE = shapes.Box((0.0, 0.0, 0.0), (0.5, 0.5, 0.01))
ROD = shapes.Capsule((-1.0, 0.0, 0.0), (1.0, 0.0, 0.0), 0.01)
DISC = shapes.Cylinder((0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0.25, 0.5)
AXES = ((3, 1, 1), (1, 3, 1), (1, 1, 3))


@jax.jit
def at(boundary, position, v, t=0.0):
    """Velocity at one node after the boundary."""
    nodes, v = (tuple(jnp.full((1, 1, 1), a) for a in w) for w in (position, v))
    return jnp.stack([c[0, 0, 0] for c in boundary.apply(v, nodes, t, DT)])


@jax.jit
def on_the_floor(walls, v, t=0.0):
    """Velocity at a node of the lower z face, away from the other faces, after the walls."""
    nodes = tuple(jnp.array([0.0, 0.5, 1.0]).reshape(s) for s in AXES)
    v = tuple(jnp.broadcast_to(a, (3, 3, 3)) for a in v)
    return jnp.stack([c[1, 1, 0] for c in walls.apply(v, nodes, t, DT)])


@pytest.mark.parametrize("kind", ["slip", "separate"])
@pytest.mark.parametrize(
    "solid, node",
    [
        (CUBE, (0.0, 0.25, 0.5)),  # on a face
        (PLATE, (0.0, 0.25, 0.0)),  # on the mid-plane: a plate thinner than a cell holds no other nodes
        (DISC, (0.0, 0.25, 0.25)),  # on the lid
        (ROD, (0.25, 0.0, 0.0)),  # on the axis
    ],
)
def test_nothing_passes_through_a_solid_aligned_with_the_grid(solid, node, kind):
    n = np.stack(jax.jit(lambda solid, p: solid.normal(p))(solid, node))
    v = -3.0 * n + np.float32([0.5, 0.0, 0.0])
    np.testing.assert_allclose(np.asarray(at(mpm.Collider(solid, kind), node, v)) @ n, 0.0, atol=1e-6)


@functools.partial(jax.jit, static_argnames="contact")
def tangential_slope(vt, vn, contact):
    def tangential(vt):
        v = (vt, 0.0, vn)
        if contact == "wall":
            return on_the_floor(mpm.Walls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), friction=0.5), v)[0]
        return at(mpm.Collider(GROUND, friction=0.5), (0.0, 0.0, 0.0), v)[0]

    return jax.grad(tangential)(vt)


@pytest.mark.parametrize("vt", [0.0, 1e-30, 1e-19, 1e-12, 1e-6])
@pytest.mark.parametrize("contact", ["wall", "collider"])
def test_a_node_at_rest_under_load_sticks_to_first_order(contact, vt):
    """d v_t' / d v_t is 0 when sticking, 1 without load; at v_t = 0 too, where 1 - friction v_n / v_t has no value."""
    for vn, expected in ((-1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        assert float(tangential_slope(np.float32(vt), np.float32(vn), contact)) == expected


def test_gradient_of_a_sliding_node_against_differences(float64):
    """With respect to friction, the velocities of node and collider, its spin and its place."""
    position = (0.1, -0.2, 0.3)

    @jax.jit
    def speed(a):
        ball = mpm.Collider(
            shapes.Sphere(a[:3], 0.6), friction=a[3], velocity=a[4:7], angular_velocity=a[7:10], center=a[10:13]
        )
        return jnp.dot(at(ball, position, a[13:16], t=0.05), jnp.array([1.0, -2.0, 0.5]))

    a = np.array([0.0, 0.1, 0.0, 0.3, 0.2, 0.1, 0.5, 1.0, -2.0, 0.7, 0.1, 0.1, -0.1, 2.0, 1.0, -1.5])
    exact = jax.jit(jax.grad(speed))(a)
    best = np.full(16, np.inf)
    for h in (1e-4, 1e-5, 1e-6):
        central = [(speed(a + h * e) - speed(a - h * e)) / (2 * h) for e in np.eye(16)]
        best = np.minimum(best, np.abs(exact - np.array(central)))
    assert np.abs(exact).min() > 1e-3
    assert (best <= 1e-6 * np.abs(exact)).all()


def test_gradient_with_respect_to_a_boundary_is_a_boundary():
    """A gradient may be negative where the parameter may not."""
    walls = mpm.Walls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), friction=0.5)
    gradient = jax.grad(lambda w: on_the_floor(w, (2.0, 0.0, -1.0))[0])(walls)
    np.testing.assert_allclose(gradient.friction, -1.0, rtol=1e-6)  # v_t' = v_t - friction |v_n|


def test_a_turned_collider_acts_along_its_turned_normal():
    """A box turned by 45 degrees at 1 rad/s: its face then looks along (1, 1, 0)."""
    box = mpm.Collider(shapes.Box((0.0, 0.0, 0.0), (0.5, 0.25, 0.25)), "slip", angular_velocity=(0.0, 0.0, 1.0))
    quarter = np.pi / 4
    node = 0.49 * np.array([np.cos(quarter), np.sin(quarter), 0.0])
    surface = np.array([-node[1], node[0], 0.0])
    n = node / np.linalg.norm(node)
    v = np.array([3.0, -1.0, 2.0])
    expected = v - surface - ((v - surface) @ n) * n + surface
    np.testing.assert_allclose(at(box, node, v, t=quarter), expected, atol=1e-5)
    turned_away = 0.49 * np.array([1.0, -0.3, 0.0])
    np.testing.assert_allclose(at(box, turned_away, v, t=quarter), v)


def test_a_belt_moves_material_and_stays():
    belt = mpm.Collider(CUBE, "sticky", velocity=(1.0, 0.0, 0.0), moving=False)
    np.testing.assert_allclose(at(belt, (0.0, 0.0, 0.0), (0.0, 0.0, 5.0), t=3.0), (1.0, 0.0, 0.0))
    away = mpm.Collider(CUBE, "sticky", velocity=(1.0, 0.0, 0.0))
    np.testing.assert_allclose(at(away, (0.0, 0.0, 0.0), (0.0, 0.0, 5.0), t=3.0), (0.0, 0.0, 5.0))


def test_walls_open_outside_their_window_and_at_infinity():
    walls = mpm.Walls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "sticky", start=0.1, end=0.2)
    v = (1.0, 2.0, -3.0)
    for t, held in ((0.0, False), (0.1, True), (0.199, True), (0.2, False)):
        np.testing.assert_allclose(on_the_floor(walls, v, t), np.zeros(3) if held else v)
    ceiling = mpm.Walls((-jnp.inf,) * 3, (jnp.inf, jnp.inf, 1.0), "sticky")
    np.testing.assert_allclose(on_the_floor(ceiling, v), v)


def test_the_step_knows_the_speed_of_a_turning_collider():
    paddle = shapes.Box((1.0, 0.0, 0.0), (0.3, 0.4, 1e-3))
    speed = mpm.Collider(paddle, velocity=(0.0, 3.0, 4.0), angular_velocity=(0.0, 0.0, 10.0)).max_speed()
    assert 5.0 + 10.0 * np.hypot(1.3, 0.4) <= speed <= 5.0 + 10.0 * 1.51
    with pytest.raises(ValueError, match="give reach"):
        mpm.Collider(GROUND, angular_velocity=(0.0, 0.0, 1.0)).max_speed()
    assert mpm.Collider(GROUND, angular_velocity=(0.0, 0.0, 2.0), reach=0.5).max_speed() == 1.0


def test_a_scene_in_float64_leaves_a_float32_simulation_alone(float64):
    v = tuple(jnp.ones((1, 1, 1), jnp.float32) for _ in range(3))
    nodes = tuple(jnp.zeros((1, 1, 1), jnp.float32) for _ in range(3))
    t = jnp.float32(0.1)
    collider = mpm.Collider(GROUND, friction=jnp.float64(0.3), velocity=jnp.ones(3))
    assert {c.dtype for c in jax.jit(collider.apply)(v, nodes, t, DT)} == {jnp.dtype("float32")}
    x, mass = jnp.zeros((3, 4), jnp.float32), jnp.ones(4, jnp.float32)
    for force in (
        forces.Impulse(jnp.ones(3), CUBE, start=jnp.float64(0.0)),
        forces.Force(jnp.ones(3), CUBE, start=jnp.float64(0.0)),
        forces.Drag(jnp.ones(3), rate=jnp.float64(2.0)),
    ):
        accelerate = jax.jit(lambda x, mass, t, f=force: f.accelerate(x, x, f.prepare(x, mass), mass, t, DT))
        assert accelerate(x, mass, t).dtype == jnp.float32


@functools.partial(jax.jit, static_argnames="steps")
def gains(force, dt, steps):
    x, mass = jnp.zeros((3, 1)), jnp.ones(1)
    aux = force.prepare(x, mass)
    t = jnp.arange(steps).astype(jnp.float32) * dt
    return jax.vmap(lambda t: force.accelerate(x, x, aux, mass, t, dt)[0, 0])(t)


def total(force, seconds, dt):
    """Velocity that one particle of 1 kg has got after `seconds` in steps of dt, in float32."""
    return np.asarray(gains(force, dt, round(seconds / dt)), np.float64).sum()


@pytest.mark.parametrize("dt", [1 / 2400, 1 / 7680, 1 / 11520, 1 / 2220])
@pytest.mark.parametrize("start", [0.0, 0.1, 0.25, 0.5, 0.7])
def test_an_impulse_is_given_once_and_whole(start, dt):
    """Also when it starts on the border between two steps, where float32 times do not agree."""
    for end in (None, start, start + 0.3 * dt, start + 0.123):
        np.testing.assert_allclose(
            total(forces.Impulse((2.0, 0.0, 0.0), start=start, end=end), 1.0, dt), 2.0, rtol=1e-6
        )


@pytest.mark.parametrize("window", [(0.0, 0.01), (1.0, 1.01), (1.00003, 1.02345)])
def test_a_force_acts_for_its_window_at_any_step(window):
    start, end = window
    for dt in (1 / 30000, 1 / 777, 1 / 50):
        given = total(forces.Force((2.0, 0.0, 0.0), start=start, end=end), 1.2, dt)
        np.testing.assert_allclose(given, 2.0 * (end - start), rtol=1e-4)


def test_an_empty_region_inside_a_trace_is_loud():
    far = forces.Force((1.0, 0.0, 0.0), shapes.Sphere((9.0, 9.0, 9.0), 0.1))
    assert bool(jnp.isnan(jax.jit(far.prepare)(jnp.zeros((3, 4)), jnp.ones(4))).all())


def test_a_piston_pushes_a_block():
    """A plate at 1 m/s takes a block 0.5 m along and gives it its speed.

    The grid resolves the plate's face to a fraction of a cell, so a particle may lie that far inside it.
    """
    side = np.arange(4) / 16 + 1 / 32
    x = np.stack(np.meshgrid(side + 0.25, side + 0.375, side + 0.375, indexing="ij"), -1).reshape(-1, 3)
    body = mpm.Particles.create(jnp.asarray(x, jnp.float32), (1 / 16) ** 3)
    law = mpm.materials.NeoHookean(density=1000.0, E=2e4, nu=0.3)
    plate = shapes.Box((0.125, 0.5, 0.5), (0.0625, 0.5, 0.5))
    scene = mpm.Scene((0.0, 0.0, 0.0), (mpm.Collider(plate, velocity=(1.0, 0.0, 0.0)),))
    config = mpm.Config(mpm.Grid((0, 0, 0), (1.5, 1, 1), 1 / 8), fps=20.0, frames=10)
    path = mpm.simulate(law, body, scene, config, save=("x", "v"))
    ahead = np.asarray(path.x[:, :, 0]).min(1) - (0.1875 + np.asarray(path.times))
    assert (ahead > -0.25 / 8).all()
    assert np.asarray(path.v[-1, :, 0]).mean() >= 0.98  # elastic: it may leave the plate, never lag behind
    assert np.abs(np.asarray(path.v[-1, :, 1:]).mean(0)).max() < 1e-3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: mpm.Walls((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), "lo must be less"),
        (lambda: mpm.Collider(GROUND, velocity=1.0), "three numbers"),
        (lambda: mpm.Collider(GROUND, velocity=(0.0, 0.0, float("nan"))), "NaN"),
        (lambda: mpm.Collider(GROUND, friction=float("nan")), "friction"),
        (lambda: forces.Impulse((1.0, 0.0, 0.0), start=-1.0), "start"),
        (lambda: forces.Force((1.0, 0.0)), "three numbers"),
        (lambda: forces.Drag((1.0, 0.0, 0.0), rate=-2.0), "rate"),
        (lambda: forces.Release((0.0, 0.0, 0.0), 0.0, 1.0), "direction"),
        (lambda: forces.Release((0.0, 0.0, 1.0), 0.0, 1.0, layers=0), "layers"),
        (lambda: forces.Release((0.0, 0.0, 1.0), 0.0, float("inf")), "finite"),
    ],
)
def test_impossible_contact_and_forces_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
