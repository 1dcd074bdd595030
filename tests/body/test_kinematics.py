"""Forward kinematics against MuJoCo."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxphys.body import forward, humanoid, mjcf, points, so3
from jaxphys.body.inverse import State, to_mujoco
from jaxphys.body.kinematics import subtree

fast = jax.jit(forward)


def pose(frames=4, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(0, 0.7, (frames, 24, 3))), jnp.asarray(rng.normal(size=(frames, 3)))


def test_joints_and_points_are_where_mujoco_has_them(float64):
    body = humanoid()
    w, x = pose()
    R_local = jax.jit(so3.exp)(w)
    R, p = fast(body, R_local, x)
    sole = points(body, R, p, body.sole, body.sole_body)
    model = mujoco.MjModel.from_xml_string(mjcf(body))
    data = mujoco.MjData(model)
    zero, rest = jnp.zeros_like(x), jnp.zeros_like(w)
    for t, q in enumerate(np.asarray(jax.jit(to_mujoco)(body, State(R_local, x, zero, rest, zero, rest))[0])):
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        for j, name in enumerate(body.names):
            np.testing.assert_allclose(p[t, j], data.body(name).xpos, atol=1e-14)
            np.testing.assert_allclose(R[t, j].ravel(), data.body(name).xmat, atol=1e-14)
        for k, b in enumerate(body.sole_body):
            there = data.body(body.names[b])
            np.testing.assert_allclose(
                sole[t, k], there.xpos + there.xmat.reshape(3, 3) @ np.asarray(body.sole[k]), atol=1e-14
            )


def test_leading_axes_are_batches(float64):
    body = humanoid()
    w, x = pose(6)
    one = fast(body, so3.exp(w), x)
    two = fast(body, so3.exp(w.reshape(2, 3, 24, 3)), x.reshape(2, 3, 3))
    for a, b in zip(one, two):
        np.testing.assert_allclose(a, b.reshape(a.shape), atol=1e-15)


def test_gradient_is_the_lever_arm(float64):
    """A turn of one joint moves what hangs on it by w x r, and nothing else."""
    body = humanoid()
    R_local = so3.exp(pose(1)[0][0])
    R, p = fast(body, R_local, jnp.zeros(3))
    knee = body.index("right_knee")
    turn = lambda angle: forward(
        body, R_local.at[knee].set(R_local[knee] @ so3.exp(jnp.array([angle, 0, 0]))), jnp.zeros(3)
    )
    slope = jax.jit(lambda a: jax.jvp(lambda a: turn(a)[1], (a,), (1.0,))[1])(0.0)
    hangs = subtree(body.parents)[knee][:, None]
    expected = hangs * np.cross(R[knee] @ np.array([1.0, 0, 0]), p - p[knee])
    np.testing.assert_allclose(slope, expected, atol=1e-14)


def test_wrong_shapes_are_refused():
    body = humanoid()
    with pytest.raises(ValueError, match=r"R must have shape \(..., 24, 3, 3\), got \[22, 3, 3\]"):
        forward(body, jnp.zeros((22, 3, 3)), jnp.zeros(3))
    R, p = jnp.zeros((24, 3, 3)), jnp.zeros((24, 3))
    with pytest.raises(ValueError, match="2 points need as many bodies"):
        points(body, R, p, jnp.zeros((2, 3)), (0,))
    with pytest.raises(ValueError, match="below 24"):
        points(body, R, p, jnp.zeros((1, 3)), (24,))
