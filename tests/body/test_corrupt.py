"""Faults: what each one does, and that its size is the size that was asked for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.body import Motion, forward, humanoid, so3
from jaxphys.body.corrupt import CORRUPTIONS, corrupt, freeze, mirrored, quietest_frame, reach

BODY = humanoid()
FPS = 30.0
T = 31


def bend(t):
    """Knee bends: hips, knees and ankles so that the feet stay level; arms hang."""
    a = 0.5 + 0.3 * jnp.sin(2 * jnp.pi * t)
    w = jnp.zeros((24, 3)).at[0, 0].set(jnp.pi / 2)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for part, angle in (("hip", -a), ("knee", 2 * a), ("ankle", -a)):
            w = w.at[BODY.index(f"{side}_{part}"), 0].set(angle)
        w = w.at[BODY.index(f"{side}_shoulder"), 2].set(-1.2 * sign)
    drop = 0.245 * (1 - jnp.cos(a)) + 0.246 * (1 - jnp.cos(a))
    return w, jnp.array([0.0, 0.0, 1.75 * (0.578 - drop)])


SQUAT = Motion(*jax.vmap(bend)(jnp.arange(T) / FPS))


def positions(motion):
    return np.asarray(forward(BODY, motion.matrices(), motion.translation)[1])


FEW = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles sooner, runs slower


@functools.partial(jax.jit, static_argnames="name", compiler_options=FEW)
def moved(name, severity):
    return corrupt(name, BODY, SQUAT, FPS, severity)[0]


def faulty(name, severity):
    """Compiled where only the motion changes: one program per fault."""
    return corrupt(name, BODY, SQUAT, FPS, severity) if name in ("fast", "slow") else (moved(name, severity), FPS)


def test_every_fault_at_both_ends_is_finite_and_differs_from_clean():
    for name, fault in CORRUPTIONS.items():
        assert fault.severities()[0] == pytest.approx(fault.low) and len(fault.severities()) == 8
        for severity in (fault.low, fault.high):
            motion, fps = faulty(name, severity)
            assert np.all(np.isfinite(motion.rotation)) and np.all(np.isfinite(motion.translation)), name
            moved = np.abs(np.asarray(motion.rotation - SQUAT.rotation)).max()
            moved = max(moved, np.abs(np.asarray(motion.translation - SQUAT.translation)).max(), abs(fps - FPS))
            assert moved > 1e-3, name


@pytest.mark.parametrize(
    "name, severity, size",
    [
        ("float", 0.2, lambda d, v: d[:, 2].max()),
        ("hover", 0.2, lambda d, v: d[:, 2].min()),
        ("levitate", 0.2, lambda d, v: v[-1, 2]),
        ("slide", 0.2, lambda d, v: v[:, 0].mean()),
        ("penetrate", 0.2, lambda d, v: -d[-1, 2]),
        ("teleport", 0.2, lambda d, v: v[:, 0].max() / FPS),
        ("root_jitter", 0.02, lambda d, v: 10 * d.std()),
    ],
)
def test_the_root_moves_as_much_as_asked(name, severity, size):
    motion, _ = faulty(name, severity)
    d = np.asarray(motion.translation - SQUAT.translation)
    assert size(d, np.diff(d, axis=0) * FPS) == pytest.approx(0.2, rel=0.1)


def test_time_warps_only_change_the_frame_rate():
    for name, fps in (("fast", 60.0), ("slow", 15.0)):
        motion, rate = faulty(name, 2.0)
        assert rate == fps and motion is SQUAT


def test_noise_of_joints_has_the_size_asked_and_elbows_pass_their_range():
    motion, _ = faulty("jitter", 0.02)
    turn = so3.log(so3.matmul(so3.transpose(SQUAT.matrices()), motion.matrices()))
    assert np.std(turn) == pytest.approx(0.02, rel=0.1)
    motion, _ = faulty("overextend", 30.0)
    elbow = np.rad2deg(np.asarray(motion.rotation)[T // 2, [BODY.index("left_elbow"), BODY.index("right_elbow")], 1])
    np.testing.assert_allclose(elbow, [40.0, -40.0], atol=0.5)


def test_the_wrist_enters_the_trunk_as_deep_as_asked():
    from jaxphys.body.self_contact import clearance

    motion, _ = faulty("self_penetrate", 0.06)
    R, p = forward(BODY, motion.matrices(), motion.translation)
    gap = np.asarray(clearance(BODY, R, p))[T // 2, BODY.index("spine2"), BODY.index("left_wrist")]
    assert -0.075 < gap < -0.03


def test_a_spike_keeps_the_feet_where_they_are():
    motion, _ = faulty("spike", 1.5)
    ankles = [BODY.index("left_ankle"), BODY.index("right_ankle")]
    moved = np.linalg.norm(positions(motion)[:, ankles] - positions(SQUAT)[:, ankles], axis=-1)
    assert moved.max() < 0.01
    assert np.ptp(np.asarray(motion.translation - SQUAT.translation)[:, 2]) > 0.04


def test_a_tilted_body_is_still_and_leans_by_the_angle():
    motion, _ = faulty("tilt", 20.0)
    p = positions(motion)
    assert np.abs(p - p[0]).max() < 1e-5
    still = positions(freeze(SQUAT, quietest_frame(BODY, SQUAT)))
    up = [q[0, BODY.index("neck")] - q[0, BODY.index("pelvis")] for q in (p, still)]
    cos = np.dot(*up) / np.linalg.norm(up[0]) / np.linalg.norm(up[1])
    assert np.rad2deg(np.arccos(cos)) == pytest.approx(20.0, abs=0.5)


def test_reach_puts_the_ankle_at_its_goal():
    chain = ("left_hip", "left_knee", "left_ankle")
    goal = jnp.asarray(positions(SQUAT)[:, BODY.index("left_ankle")]) + jnp.array([0.05, 0.05, 0.08])
    local = reach(BODY, SQUAT, chain, goal)
    joints = [BODY.index(n) for n in chain]
    moved = Motion(SQUAT.rotation.at[:, jnp.array(joints)].set(so3.log(local)), SQUAT.translation)
    np.testing.assert_allclose(positions(moved)[:, joints[2]], goal, atol=2e-3)


def test_mirror_swaps_sides():
    motion, _ = faulty("self_penetrate", 0.06)
    p, q = positions(motion), positions(mirrored(BODY, motion))
    np.testing.assert_allclose(q[:, BODY.index("right_wrist")], p[:, BODY.index("left_wrist")] * [-1, 1, 1], atol=1e-4)


def test_unknown_fault_is_named():
    with pytest.raises(ValueError, match="no corruption is called 'melt'"):
        corrupt("melt", BODY, SQUAT, FPS, 1.0)
