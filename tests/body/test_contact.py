"""Contact forces: statics, flight, SciPy's least squares, force plates, gradients, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from experiments.cases import force_plates
from jaxphys.body import ContactOptions, Motion, contact_forces, forward, humanoid, inverse_dynamics, points, so3
from jaxphys.body.contact import estimate_ground
from jaxphys.body.inverse import GRAVITY, Dynamics

FPS, FRAMES, MASS = 60.0, 73, 70.0
BODY = humanoid(1.8, MASS)
WEIGHT = MASS * GRAVITY
STANDING = 1.8 * 0.578  # height of the pelvis above the soles
FEW = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles sooner, runs slower
GROUND = 0.0115  # [m] of the measured walk, as estimated


@functools.partial(jax.jit, static_argnames="hands", compiler_options=FEW)
def solve(skeleton, motion, ground, hands=False):
    dynamics = inverse_dynamics(skeleton, motion, FPS)
    return dynamics, contact_forces(skeleton, dynamics, ground, FPS, hands=hands)


def pose(height=STANDING, root=(np.pi / 2, 0, 0), **joints):
    """Upright, with rotation vectors of named joints; the pelvis at a height, or at each of (T,) heights."""
    w = np.zeros((FRAMES, 24, 3))
    for name, vector in {"pelvis": root, **joints}.items():
        w[:, BODY.index(name)] = vector
    x = np.zeros((FRAMES, 3))
    x[:, 2] = height
    return Motion(jnp.asarray(w), jnp.asarray(x))


@pytest.fixture(scope="module")
def trial():
    """The measured walk, its dynamics and contact forces."""
    with jax.enable_x64(True):
        trial = force_plates.load()
        return trial, *solve(trial.skeleton, trial.motion, GROUND)


def test_standing_on_two_feet(float64):
    _, contact = solve(BODY, pose(), 0.0)
    force = np.asarray(contact.force[5])
    np.testing.assert_allclose(force.sum(0), [0, 0, WEIGHT], atol=0.01 * WEIGHT)
    np.testing.assert_allclose(force[:6].sum(0)[2], force[6:].sum(0)[2], rtol=1e-6)
    assert np.abs(contact.residual_force).max() < 1e-3 * WEIGHT
    assert np.abs(contact.residual_moment).max() < 1e-3 * WEIGHT
    assert np.all(contact.airborne < 1e-9) and np.all(contact.weight > 0.98)
    np.testing.assert_allclose(contact.clearance, 0.0, atol=1e-6)
    # hips, knees and ankles are in one line: no flexion moment at the knee
    assert np.abs(contact.torque[5, BODY.index("left_knee"), 0]) < 0.01 * MASS


def test_nothing_bears_a_body_in_the_air(float64):
    t = np.arange(FRAMES) / FPS
    _, hover = solve(BODY, pose(STANDING + 0.5), 0.0)
    assert np.abs(hover.force).max() < 1e-3 * WEIGHT and np.all(hover.airborne > 0.999)
    np.testing.assert_allclose(hover.residual_force[:, 2], WEIGHT, rtol=1e-3)
    _, flight = solve(BODY, pose(STANDING + 0.5 + 6.0 * t - 0.5 * GRAVITY * t**2), 0.0)
    assert np.abs(flight.residual_force).max() < 1e-3 * WEIGHT and np.all(flight.airborne > 0.999)


def test_forces_are_in_the_friction_pyramid(trial):
    contact = trial[-1]
    x, y, z = np.moveaxis(np.asarray(contact.force), -1, 0)
    assert np.all(z >= 0) and np.all(np.abs(x) + np.abs(y) <= 0.8 * z + 1e-9)
    swing = np.asarray(contact.weight) < 1e-4
    assert swing.mean() > 0.2 and z[swing].max() < 0.01 * force_plates.MASS * GRAVITY


def test_agrees_with_scipy(trial):
    """The same least squares problem from the description, solved by Lawson and Hanson's active set.

    The last barrier, which keeps the forces smooth, moves load between the points of a foot, but not between feet.
    """
    trial, dynamics, contact = trial
    body, options = trial.skeleton, ContactOptions()
    weight, leg = float(body.total_mass) * GRAVITY, float(body.leg_length)
    mu, L = options.friction, options.arm * leg
    edges = np.array([[mu, 0, 1], [-mu, 0, 1], [0, mu, 1], [0, -mu, 1]])
    for t in range(0, 73, 9):
        x, p = np.asarray(contact.point[t]), np.asarray(dynamics.p[t, 0])
        pivot = np.asarray(dynamics.com[t]) + [0, 0, options.pivot * leg]
        columns = []
        for k in range(12):
            for e in edges:
                about = options.direction / leg * np.cross(x[k] - pivot, e)[:2]
                rows = [about, [0, 0]] if k < 6 else [[0, 0], about]
                columns.append(np.concatenate([e, np.cross(x[k] - p, e) / L, *rows]))
        certain = np.repeat(np.asarray(contact.weight[t]) + 1e-8, 4)
        A = np.vstack([np.array(columns).T, np.diag(np.sqrt(options.effort / certain))])
        b = np.concatenate([dynamics.root_force[t], dynamics.root_moment[t] / L, np.zeros(52)]) / weight
        lam, _ = nnls(A, b)
        expected = (lam.reshape(12, 4) @ edges) * weight
        np.testing.assert_allclose(contact.force[t], expected, atol=0.015 * weight)
        np.testing.assert_allclose(
            np.asarray(contact.force[t]).reshape(2, 6, 3).sum(1), expected.reshape(2, 6, 3).sum(1), atol=2e-3 * weight
        )


def test_torques_are_those_of_virtual_work(trial):
    """What contact takes from the joints is J^T f, with the Jacobian by automatic differentiation."""
    trial, dynamics, contact = trial
    body, t = trial.skeleton, 30
    with jax.enable_x64(True):
        R_local = trial.motion.matrices()[t]

        def feet(turn):
            R, p = forward(body, so3.matmul(R_local, so3.exp(turn)), trial.motion.translation[t])
            return points(body, R, p, body.sole, body.sole_body)

        work = jax.jit(lambda f: jax.vjp(feet, jnp.zeros((24, 3)))[1](f)[0])(contact.force[t])
        # the filtered pose is a little off the raw one
        np.testing.assert_allclose(dynamics.torque[t] - contact.torque[t], work, atol=0.02 * np.abs(work).max())
        assert np.abs(work).max() > 50.0


def test_force_plates_and_reference_moments(trial):
    trial, dynamics, contact = trial
    figures = force_plates.compare(trial, dynamics, contact)
    for name, (relation, bound) in force_plates.CHECKS.items():
        assert figures[name] <= bound if relation == "<=" else figures[name] >= bound, (name, figures[name])


def test_ground_is_found_under_the_standing_feet(trial):
    contact = trial[-1]
    with jax.enable_x64(True):
        point, velocity = contact.point, contact.velocity
        both = jax.jit(jax.vmap(jax.value_and_grad(lambda h, up: estimate_ground(point + h * up, velocity).height)))
        everywhere = np.broadcast_to([0, 0, 1.0], point.shape)
        third = everywhere * (np.arange(FRAMES) < FRAMES // 3)[:, None, None]
        (base, raised, wrong), slope = both(
            jnp.array([0.0, 0.3, 0.4]), jnp.stack([jnp.asarray(v) for v in (everywhere, everywhere, third)])
        )
    assert float(base) == pytest.approx(GROUND, abs=1e-3)
    assert float(raised - base) == pytest.approx(0.3, abs=1e-9) and float(slope[0]) == pytest.approx(1.0)
    assert abs(float(wrong - base)) < 0.02  # a third of the frames, floating, change little


def test_without_a_ground_the_feet_bear_wherever_they_rest(float64):
    _, known = solve(BODY, pose(), 0.0)
    _, free = solve(BODY, pose(7.0), None)
    np.testing.assert_allclose(free.force, known.force, atol=2e-3 * WEIGHT)
    np.testing.assert_array_equal(free.airborne, 0.0)


def test_hands_bear_a_handstand(float64):
    arms = dict(left_shoulder=(0, 0, np.pi / 2), right_shoulder=(0, 0, -np.pi / 2))
    # the knuckles, at the reach of the arms from the pelvis, touch the ground
    reach = 1.8 * (0.060 + 0.075 + 0.040 + 0.055 + 0.010 + 0.186 + 0.146 + 0.049)
    motion = pose(reach, root=(-np.pi / 2, 0, 0), **arms)
    _, contact = solve(BODY, motion, 0.0, hands=True)
    assert contact.force.shape == (FRAMES, 18, 3)
    np.testing.assert_allclose(contact.force[:, 12:, 2].sum(1), WEIGHT, rtol=0.02)
    assert float(jnp.abs(contact.residual_force).max()) < 0.02 * WEIGHT
    assert float(jnp.abs(contact.force[:, :12]).max()) < 1e-3 * WEIGHT


def test_gradients_agree_with_differences_and_in_single_precision(trial):
    trial = trial[0]

    @functools.partial(jax.jit, compiler_options=FEW)
    @jax.value_and_grad
    def both(inputs):
        motion, ground, options = inputs
        skeleton = humanoid(force_plates.HEIGHT, force_plates.MASS)
        dynamics = inverse_dynamics(skeleton, motion, FPS)
        c = contact_forces(skeleton, dynamics, ground, FPS, options=options)
        squares = 1e-4 * jnp.sum(c.torque**2) + 1e-5 * jnp.sum(c.force**2) + 1e-2 * jnp.sum(c.residual_force**2)
        return squares + jnp.sum(c.weight) + jnp.sum(c.airborne)

    with jax.enable_x64(True):
        inputs = (trial.motion, jnp.float64(GROUND), jax.tree.map(jnp.float64, ContactOptions()))
        rng = np.random.default_rng(0)
        value, gradient = both(inputs)
        for moved in range(3):  # the motion, the ground, the options
            d = jax.tree.map(lambda a: 0.0 * a, inputs)
            some = jax.tree.map(lambda a: jnp.abs(a) * jnp.asarray(rng.normal(size=a.shape)), inputs[moved])
            d = (*d[:moved], some, *d[moved + 1 :])
            exact = sum(float(jnp.vdot(a, b)) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(d)))
            errors = []
            for h in (1e-6, 1e-7, 1e-8):
                high, low = (float(both(jax.tree.map(lambda a, b, s=s: a + s * b, inputs, d))[0]) for s in (h, -h))
                errors.append(abs((high - low) / (2 * h) - exact) / abs(exact))
            assert min(errors) < 1e-6, (moved, errors)
    single = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float32), inputs)
    value32, gradient32 = both(single)
    assert gradient32[0].rotation.dtype == jnp.float32
    assert float(value32) == pytest.approx(float(value), rel=1e-3)
    for a, b in zip(jax.tree.leaves(gradient32), jax.tree.leaves(gradient)):
        assert float(np.linalg.norm(a - b)) < 2e-4 * float(np.linalg.norm(b))


def test_refusals():
    zero = jnp.zeros((4, 3))
    dynamics = Dynamics(
        jnp.zeros((4, 24, 3, 3)), jnp.zeros((4, 24, 3)), *[zero] * 3, jnp.zeros((4, 24, 3)), *[zero] * 3
    )
    with pytest.raises(ValueError, match="fps must be one positive number"):
        contact_forces(BODY, dynamics, 0.0, None)
    with pytest.raises(ValueError, match="ground_height must be one number"):
        contact_forces(BODY, dynamics, float("nan"), FPS)
    with pytest.raises(ValueError, match="friction must be one number greater than 0"):
        contact_forces(BODY, dynamics, 0.0, FPS, options=ContactOptions(friction=0.0))
    with pytest.raises(ValueError, match="steps must be at least 1"):
        contact_forces(BODY, dynamics, 0.0, FPS, options=ContactOptions(steps=0))
