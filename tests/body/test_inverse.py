"""Inverse dynamics: MuJoCo's mj_inverse, laws of mechanics, gradients, refusals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cases.inverse_dynamics import (
    generalised,
    gradient_error,
    mj_inverse,
    relative_error,
    smooth_motion,
    states,
)
from jaxphys.body import Motion, humanoid, inverse_dynamics, so3
from jaxphys.body.inverse import GRAVITY, differences, from_state, from_trajectory, mjx_inverse, to_state

FEW = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles sooner, runs slower
newton_euler = jax.jit(from_state, compiler_options=FEW)
trajectory = jax.jit(from_trajectory, compiler_options=FEW)


def solve(body, motion, fps):
    """Without a filter; tests with as many frames share what is compiled."""
    return trajectory(body, motion.matrices(), motion.translation, fps)


def test_newton_euler_agrees_with_mj_inverse(float64):
    body = humanoid(1.8, 72.0)
    state = states(smooth_motion(0.5, 20.0))
    theirs = mj_inverse(body, state)
    assert np.abs(theirs).max() > 300.0  # newton metres: far from rest
    assert relative_error(generalised(body, newton_euler(body, state)), theirs) < 1e-12


def test_newton_euler_in_single_precision():
    body = humanoid(1.8, 72.0)
    state = states(jax.tree.map(lambda a: a.astype(jnp.float32), smooth_motion(0.5, 20.0)))
    assert relative_error(generalised(body, newton_euler(body, state)), mj_inverse(body, state)) < 1e-5


def test_the_mjx_engine_agrees_with_mj_inverse_and_ours(float64):
    body = humanoid(1.8, 72.0)
    state = states(smooth_motion(0.5, 20.0))
    mjx = jax.jit(lambda state: mjx_inverse(body, state), compiler_options=FEW)  # its model is not traced
    result, ours = mjx(state), newton_euler(body, state)
    assert relative_error(generalised(body, result), mj_inverse(body, state)) < 1e-12
    for name in ("root_force", "root_moment", "torque", "com_acceleration", "angular_velocity"):
        a, b = getattr(result, name), getattr(ours, name)
        np.testing.assert_allclose(a, b, atol=1e-9 * float(jnp.abs(b).max()))


def test_engines_differ_on_a_trajectory_by_dt_squared(float64):
    body = humanoid()
    errors = []
    for fps in (30.0, 120.0):
        motion = smooth_motion(0.5, fps)
        R, x = motion.matrices(), motion.translation
        a, b = solve(body, motion, fps), newton_euler(body, jax.jit(to_state)(R, x, fps))
        middle = slice(round(0.1 * fps), round(0.4 * fps) + 1)
        errors.append(relative_error(generalised(body, a)[middle], generalised(body, b)[middle]))
    assert errors[1] < errors[0] / 12.0 and errors[0] < 0.1


def test_differences_continue_to_the_ends():
    t = np.arange(12.0) / 10.0
    x = jnp.asarray(1.0 - 2.0 * t + 3.0 * t**2)[:, None]
    v, a = differences(x, 10.0)
    np.testing.assert_allclose(v[:, 0], -2.0 + 6.0 * t, atol=2e-4)
    np.testing.assert_allclose(a, 6.0, atol=5e-3)


def test_a_thrown_body_needs_nothing(float64):
    body = humanoid()
    t = np.arange(16) / 50.0
    x = np.array([0.3, -0.2, 1.0]) + np.outer(t, [1.0, 2.0, 3.0]) - np.outer(t**2, [0, 0, GRAVITY / 2])
    pose = 0.5 * np.random.default_rng(0).normal(size=(24, 3))
    flight = solve(body, Motion(jnp.broadcast_to(pose, (16, 24, 3)), jnp.asarray(x)), 50.0)
    for value in (flight.root_force, flight.torque, flight.angular_velocity):
        np.testing.assert_allclose(value, 0.0, atol=1e-8)
    np.testing.assert_allclose(flight.com_acceleration[:, 2], -GRAVITY, atol=1e-9)


def test_an_arm_held_out_is_held_by_the_shoulder(float64):
    body = humanoid(1.8, 80.0)
    upright = np.zeros((16, 24, 3))
    upright[:, 0, 0] = np.pi / 2
    still = solve(body, Motion(jnp.asarray(upright), jnp.ones((16, 3))), 50.0)
    p = still.p[0]
    arm = [body.index(f"left_{n}") for n in ("shoulder", "elbow", "wrist", "hand")]
    lever = [float(p[j, 0] + body.com[j, 0] - p[arm[0], 0]) for j in arm]  # the arm lies along x
    moment = GRAVITY * sum(float(body.mass[j]) * x for j, x in zip(arm, lever))
    # the shoulder lifts: about z of its body, which looks to the front
    np.testing.assert_allclose(still.torque[2, arm[0]], [0.0, 0.0, moment], atol=1e-6)
    np.testing.assert_allclose(still.root_force, np.broadcast_to([0, 0, 80.0 * GRAVITY], (16, 3)), atol=1e-6)


def test_work_of_the_joints_is_the_change_of_energy(float64):
    body, fps = humanoid(), 400.0
    motion = smooth_motion(0.15, fps)
    d = solve(body, motion, fps)
    mass, inertia = np.asarray(body.mass), np.asarray(body.inertia)
    v = np.asarray(differences(motion.translation, fps)[0])
    rates = np.asarray(d.angular_velocity)
    power = np.sum(d.root_force * v, -1) + np.sum(d.torque * rates, (-1, -2))
    c = d.p + so3.matvec(d.R, body.com)
    c_dot = np.asarray(differences(c, fps)[0])
    w = np.zeros_like(rates)  # of each body, in its own axes
    for j, parent in enumerate(body.parents):
        carried = 0.0 if parent < 0 else np.einsum("tki,tkl,tl->ti", d.R[:, j], d.R[:, parent], w[:, parent])
        w[:, j] = rates[:, j] + carried
    energy = 0.5 * np.sum(mass * np.sum(c_dot**2, -1), -1) + GRAVITY * np.sum(mass * np.asarray(c[..., 2]), -1)
    energy += 0.5 * np.einsum("tji,jik,tjk->t", w, inertia, w)
    middle = slice(5, -5)
    slope = np.gradient(energy, 1 / fps)
    assert np.abs(power[middle] - slope[middle]).max() < 1e-3 * np.abs(power[middle]).max()


def test_yaw_and_place_do_not_matter(float64):
    body, fps = humanoid(), 30.0
    motion = smooth_motion(1.0, fps)
    filtered = jax.jit(lambda m: inverse_dynamics(body, m, fps), compiler_options=FEW)
    turn = so3.exp(jnp.array([0.0, 0.0, 2.1]))
    turned = motion.rotation.at[:, 0].set(so3.log(turn @ so3.exp(motion.rotation[:, 0])))
    a, b = filtered(motion), filtered(Motion(turned, motion.translation @ turn.T + jnp.array([30.0, -20.0, 5.0])))
    np.testing.assert_allclose(a.torque[:, 1:], b.torque[:, 1:], atol=1e-7)
    np.testing.assert_allclose(a.root_force @ turn.T, b.root_force, atol=1e-7)


def test_gradients_agree_with_differences(float64):
    body, motion = humanoid(), smooth_motion(0.4, 20.0)

    def loss(inputs):
        height, motion = inputs
        d = inverse_dynamics(dataclasses.replace(body, offset=body.offset * height), motion, 20.0)
        return 1e-4 * jnp.sum(d.torque**2) + 1e-6 * jnp.sum(d.root_force**2) + jnp.sum(d.com_velocity**2)

    assert gradient_error(loss, (jnp.float64(1.1), motion), steps=(1e-4, 1e-5, 1e-6), compiler=FEW) < 1e-7
    still = jax.tree.map(jnp.zeros_like, motion)  # every angle is 0
    for leaf in jax.tree.leaves(jax.jit(jax.grad(loss), compiler_options=FEW)((jnp.float64(1.0), still))):
        assert np.all(np.isfinite(leaf))


def test_refusals():
    body, motion = humanoid(), Motion(jnp.zeros((5, 24, 3)), jnp.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"engine must be one of \('trajectory', 'mjx'\), got 'fast'"):
        inverse_dynamics(body, motion, 30.0, engine="fast")
    for fps in (None, 0.0, -30.0, float("nan")):
        with pytest.raises(ValueError, match="fps must be one positive number"):
            inverse_dynamics(body, motion, fps)
    with pytest.raises(ValueError, match="22 joints and the skeleton 24: retarget"):
        inverse_dynamics(body, Motion(jnp.zeros((5, 22, 3)), jnp.zeros((5, 3))), 30.0)
    with pytest.raises(ValueError, match="at least 3 frames for velocities and accelerations, got 1"):
        inverse_dynamics(body, Motion(jnp.zeros((1, 24, 3)), jnp.zeros((1, 3))), 30.0)
