"""Retargeting: poses that are known come back, the answer moves with the world, derivatives against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.body import Motion, forward, humanoid, retarget, so3
from jaxphys.body.joint_names import find_family
from jaxphys.body.retarget import (
    Sites,
    copy_smpl,
    find_sites,
    fit,
    measured_skeleton,
    near_ground,
    resize,
    stretched_to,
)
from jaxphys.body.skeleton import NAMES

T, FPS = 3, 30.0


def pose(seed=0):
    """A person who walks, with bent knees and elbows (T frames)."""
    rng = np.random.default_rng(seed)
    w = 0.15 * rng.normal(size=(1, 24, 3)) + 0.03 * rng.normal(size=(T, 24, 3))
    w[:, 0, 0] += np.pi / 2
    for name, axis, angle in (("knee", 0, 0.6), ("elbow", 1, -0.7)):
        w[:, NAMES.index(f"left_{name}"), axis] += angle
        w[:, NAMES.index(f"right_{name}"), axis] += angle * (1 if axis == 0 else -1)
    return Motion(jnp.asarray(w), jnp.asarray(0.05 * rng.normal(size=(T, 3)) + [0.0, 0.0, 1.0]))


def joints(skeleton, motion):
    return forward(skeleton, motion.matrices(), motion.translation)[1]


def all_joints():
    return Sites(tuple(range(24)), jnp.zeros((24, 3)), jnp.ones(24))


def test_inverse_kinematics(float64):
    """One compiled problem: known poses, and rotation of the world."""
    body, sites = humanoid(), all_joints()
    target = joints(body, pose())
    motion, error = fit(body, target, sites, FPS)
    assert float(error.max()) < 0.004  # the weak rest pose pulls a little
    # rotations of joints whose children are seen are known up to a twist of the bone; positions are what counts
    np.testing.assert_allclose(joints(body, motion), target, atol=0.004)

    turn, shift = so3.exp(jnp.array([0.0, 0.0, 1.1])), jnp.array([3.0, -2.0, 0.4])
    there, _ = fit(body, target @ turn.T + shift, sites, FPS)
    np.testing.assert_allclose(there.rotation[:, 1:], motion.rotation[:, 1:], atol=1e-6)
    np.testing.assert_allclose(joints(body, there), joints(body, motion) @ turn.T + shift, atol=1e-7)


@pytest.mark.long
def test_derivative_of_inverse_kinematics(float64, monkeypatch):
    body, sites, rng = humanoid(), all_joints(), np.random.default_rng(1)
    target = joints(body, pose())
    target = target + 0.01 * jnp.asarray(rng.normal(size=target.shape))  # so that residuals are not 0
    level = jnp.asarray(rng.uniform(size=(T, 2)))
    c = jnp.asarray(rng.normal(size=target.shape))
    change = [jnp.asarray(rng.normal(size=s)) for s in (target.shape, (24, 3), (24,))]

    def figure(h):
        stretched = resize(body, 1.0 + 0.1 * h * change[1])
        weighted = Sites(sites.body, sites.local, sites.weight + h * change[2])
        moved, _ = fit(stretched, target + 0.1 * h * change[0], weighted, FPS, level)
        return jnp.sum(c * joints(stretched, moved))

    monkeypatch.setattr(retarget, "PASSES", 1)  # of each kind, which is enough for the derivatives
    exact = float(jax.grad(figure)(0.0))
    errors = [abs(float(figure(h) - figure(-h)) / (2 * h) - exact) / abs(exact) for h in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert min(errors) < 1e-6, errors


def test_stretching_a_body_stretches_its_mass():
    """A block of points with the body's mass, stretched: the inertia is that of the stretched points."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * [0.1, 0.3, 0.2]
    x -= x.mean(0)

    def inertia(x):
        return np.eye(3) * (x**2).sum() - x.T @ x

    body = humanoid()
    body = type(body)(**{**vars(body), "inertia": jnp.tile(jnp.asarray(inertia(x)), (24, 1, 1))})
    s = np.array([1.3, 0.8, 1.1])
    stretched = resize(body, np.tile(s, (24, 1)))
    np.testing.assert_allclose(stretched.inertia[3], inertia(x * s), rtol=1e-4, atol=1e-4)
    taller = resize(humanoid(1.6, 70.0), np.full((24, 3), 1.1))
    same = humanoid(1.76, 70.0)
    for name in ("offset", "com", "inertia", "sole", "palm", "capsule_a"):
        np.testing.assert_allclose(getattr(taller, name), getattr(same, name), rtol=1e-4, atol=1e-6)


def test_stretched_to_given_offsets():
    offset = np.asarray(humanoid(2.0).offset) * [1.0, 1.0, 1.0]
    body, scale = stretched_to(humanoid(1.6, 70.0), offset)
    np.testing.assert_allclose(body.offset, offset, atol=1e-6)
    np.testing.assert_allclose(scale[NAMES.index("left_knee")], 1.25, rtol=1e-5)
    np.testing.assert_allclose(body.com[NAMES.index("left_hip")], humanoid(2.0).com[NAMES.index("left_hip")], rtol=1e-4)


def test_proportions_are_measured():
    """A person with long thighs and broad shoulders, seen through all joints, is built as such."""
    scale = np.ones((24, 3))
    for side in ("left", "right"):
        scale[NAMES.index(f"{side}_hip")] = 1.15
        scale[NAMES.index(f"{side}_elbow")] = 0.9
    body = resize(humanoid(1.7), scale)
    position = np.asarray(joints(body, pose()))
    found, _, height, mass = measured_skeleton(tuple(NAMES), position, find_family(tuple(NAMES)))
    for name in ("left_knee", "right_ankle", "left_wrist", "right_hip"):
        j = NAMES.index(name)
        assert np.linalg.norm(found.offset[j]) == pytest.approx(np.linalg.norm(body.offset[j]), rel=0.02), name
    assert mass == pytest.approx(24.5 * height**2)
    with pytest.raises(ValueError, match="unit or the names"):
        measured_skeleton(tuple(NAMES), position, find_family(tuple(NAMES)), height=0.2)


def test_smpl_rotations_are_copied_and_turned():
    motion = pose()
    same = copy_smpl(motion.rotation.reshape(T, 72), motion.translation)
    np.testing.assert_array_equal(same.rotation, motion.rotation)
    assert copy_smpl(np.zeros((T, 55, 3)), np.zeros((T, 3))).joints == 24
    up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turned = copy_smpl(motion.rotation, motion.translation, up)
    body = humanoid()
    np.testing.assert_allclose(joints(body, turned), joints(body, motion) @ up.T, atol=1e-5)


def test_feet_near_the_ground():
    body = humanoid()
    target = np.array(joints(body, pose()))
    target[:, :, 2] = 0.5
    target[1:, [7, 10], 2] = 0.0
    level = near_ground(target, all_joints())
    assert level.shape == (T, 2) and level[0, 0] < 0.1 and (level[1:, 0] > 0.9).all() and (level[:, 1] > 0.9).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: copy_smpl(np.zeros((T, 69)), np.zeros((T, 3))), "SMPL poses"),
        (lambda: copy_smpl(np.zeros((T, 10)), np.zeros((T, 3))), "SMPL poses"),
        (lambda: fit(humanoid(), np.zeros((T, 5, 3)), all_joints(), FPS), "one point per site"),
        (lambda: fit(humanoid(), np.zeros((T, 24, 3)), all_joints(), 0.0), "fps"),
        (
            lambda: fit(humanoid(), np.zeros((T, 2, 3)), Sites((4, 5), jnp.zeros((2, 3)), jnp.ones(2)), FPS),
            "on the trunk",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sites_scale_with_stature():
    names = ("root", "lhipjoint", "rhipjoint", "lfemur", "rfemur", "ltibia", "rtibia", "lclavicle", "rclavicle",
        "lhumerus", "rhumerus", "lfoot")  # fmt: skip
    family = find_family(names)
    sites, order = find_sites(names, family, 2.0)
    ball = [names[k] for k in order].index("lfoot")
    assert NAMES[sites.body[ball]] == "left_ankle"
    np.testing.assert_allclose(sites.local[ball], 2.0 * np.array(family.sites["lfoot"].offset), rtol=1e-6)
