"""Swing and twist against scipy, ranges by mirror and by hand, gradients at the bad points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation

from jaxphys.body import humanoid
from jaxphys.body.limits import RANGES, excess, joint_ranges, swing_twist

NAMES = humanoid().names


def test_swing_and_twist_compose_to_the_rotation(float64):
    rng = np.random.default_rng(0)
    rotation = Rotation.random(200, rng=rng)
    axis = np.eye(3)[rng.integers(0, 3, 200)]
    parts = np.asarray(swing_twist(jnp.asarray(rotation.as_rotvec()), jnp.asarray(axis)))
    along = np.sum(parts * axis, -1, keepdims=True) * axis
    swing, twist = Rotation.from_rotvec(parts - along), Rotation.from_rotvec(along)
    np.testing.assert_allclose((swing * twist).as_matrix(), rotation.as_matrix(), atol=1e-9)
    # the swing carries the bone to where the rotation carries it
    np.testing.assert_allclose(swing.apply(axis), rotation.apply(axis), atol=1e-9)


def test_a_turn_and_its_long_way_round_are_one_rotation(float64):
    w = jnp.array([0.4, -0.9, 0.3])
    t = jnp.linalg.norm(w)
    axis = jnp.array([0.0, 1.0, 0.0])
    np.testing.assert_allclose(swing_twist(w * (t - 2 * jnp.pi) / t, axis), swing_twist(w, axis), atol=1e-12)


def test_gradient_at_rest_near_half_a_turn_and_elsewhere(float64):
    axis = jnp.array([0.0, 1.0, 0.0])
    weight = jnp.array([0.3, -1.0, 0.7])

    def loss(w):
        return jnp.sum(weight * swing_twist(w, axis))

    points = [jnp.zeros(3), jnp.array([1e-5, 0.0, 2e-5]), jnp.array([0.0, 3.0, 0.0]), jnp.array([0.5, -0.2, 1.4])]
    for w in points:
        check_grads(loss, (w,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)
    assert np.all(np.isfinite(jax.grad(loss)(jnp.array([jnp.pi, 0.0, 0.0]))))


@pytest.mark.parametrize(
    "joint, degrees, axis, expected",
    [
        ("left_knee", 90.0, 0, 0.0),
        ("left_knee", -25.0, 0, 20.0),
        ("right_elbow", 90.0, 1, 0.0),
        ("right_elbow", -40.0, 1, 30.0),
        ("left_elbow", 40.0, 1, 30.0),
        ("left_hip", -100.0, 0, 0.0),
        ("right_hip", -70.0, 2, 20.0),
        ("pelvis", 170.0, 0, 0.0),
    ],
)
def test_excess_in_degrees(joint, degrees, axis, expected):
    w = jnp.zeros((24, 3)).at[NAMES.index(joint), axis].set(np.deg2rad(degrees))
    by_joint = np.rad2deg(np.asarray(excess(w, NAMES)))
    assert by_joint[NAMES.index(joint)] == pytest.approx(expected, abs=0.5)
    assert np.delete(by_joint, NAMES.index(joint)).max() < 0.5


def test_mirrored_pose_has_mirrored_excess():
    rng = np.random.default_rng(3)
    w = jnp.asarray(rng.normal(size=(24, 3)), jnp.float32)
    other = [NAMES.index(n.replace("left", "?").replace("right", "left").replace("?", "right")) for n in NAMES]
    mirrored = (w * jnp.array([1.0, -1.0, -1.0]))[jnp.array(other)]
    np.testing.assert_allclose(excess(mirrored, NAMES)[jnp.array(other)], excess(w, NAMES), atol=1e-5)


def test_every_range_holds_the_zero_pose_and_every_joint_but_root_and_hands_has_one():
    axis, lower, upper = joint_ranges(NAMES)
    assert np.all(lower < 0) and np.all(upper > 0)
    np.testing.assert_allclose(np.linalg.norm(axis, axis=-1), 1.0)
    free = [n for n, u in zip(NAMES, upper) if np.all(u > 6)]
    assert free == ["pelvis", "left_hand", "right_hand"] and len(RANGES) == 11
