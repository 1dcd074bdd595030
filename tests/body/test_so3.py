"""Rotations against SciPy, and their derivatives where a formula could fail."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxphys.body import so3

ANGLES = (0.0, 1e-9, 1e-5, 1e-3, 0.5, 2.0, 3.0, np.pi - 1e-6)


def vectors(angle, n=6):
    axis = np.random.default_rng(0).normal(size=(n, 3))
    return angle * axis / np.linalg.norm(axis, axis=1, keepdims=True)


def test_exp_log_and_quaternions_agree_with_scipy(float64):
    w = np.stack([vectors(angle) for angle in ANGLES])
    expected = Rotation.from_rotvec(w.reshape(-1, 3))
    R = jax.jit(so3.exp)(w)
    np.testing.assert_allclose(R, expected.as_matrix().reshape(R.shape), atol=1e-15)
    back, step = np.asarray(jax.jit(so3.log)(R)), np.asarray(jax.jit(so3.log_step)(R))
    np.testing.assert_allclose(back[:-1], w[:-1], atol=1e-12)
    np.testing.assert_allclose(back[-1], w[-1], atol=1e-9)  # a millionth of a radian short of a half turn
    np.testing.assert_allclose(step[:6], w[:6], atol=1e-12)
    q = np.asarray(jax.jit(so3.to_quat)(R)).reshape(-1, 4)
    np.testing.assert_allclose(q, np.roll(expected.as_quat(canonical=True), 1, axis=-1), atol=1e-9)
    np.testing.assert_allclose(jax.jit(so3.from_quat)(3.0 * q), expected.as_matrix(), atol=1e-14)


def test_every_branch_of_the_quaternion(float64):
    w = np.pi * np.eye(3) * 0.999 + 0.01  # half turns about the axes: each needs another column
    q = jax.jit(lambda w: so3.to_quat(so3.exp(w)))(w)
    np.testing.assert_allclose(q, np.roll(Rotation.from_rotvec(w).as_quat(canonical=True), 1, axis=-1), atol=1e-14)


def test_derivatives_are_finite_and_right(float64):
    w = jnp.stack([vectors(angle)[0] for angle in ANGLES])
    d = jnp.array([0.3, -0.5, 0.8])
    exp = jax.jit(so3.exp)
    slope = jax.jit(lambda w: jax.jvp(so3.exp, (w,), (jnp.broadcast_to(d, w.shape),))[1])(w)
    errors = np.stack([(exp(w + h * d) - exp(w - h * d)) / (2 * h) - slope for h in (1e-4, 1e-5, 1e-6)])
    assert np.abs(errors).max((2, 3)).min(0).max() < 1e-9
    for function, first in ((so3.log, 8), (so3.log_step, 6), (so3.to_quat, 8)):
        J = jax.jit(jax.vmap(jax.jacrev(lambda w, f=function: f(so3.exp(w)))))(w)
        assert np.all(np.isfinite(J))
        if function is not so3.to_quat:  # log(exp(w)) = w; near a half turn the digits of sin w are lost
            np.testing.assert_allclose(J[:6], np.broadcast_to(np.eye(3), (6, 3, 3)), atol=1e-9)
            np.testing.assert_allclose(J[:first], np.broadcast_to(np.eye(3), (first, 3, 3)), atol=1e-4)


def test_products_are_those_of_numpy(float64):
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(2, 5, 3, 3))
    x, y = rng.normal(size=(2, 5, 3))
    np.testing.assert_allclose(so3.matmul(jnp.asarray(A), jnp.asarray(B)), A @ B, atol=1e-14)
    np.testing.assert_allclose(so3.matvec(jnp.asarray(A), jnp.asarray(x)), np.einsum("nij,nj->ni", A, x), atol=1e-14)
    np.testing.assert_allclose(so3.matvec_t(jnp.asarray(A), jnp.asarray(x)), np.einsum("nji,nj->ni", A, x), atol=1e-14)
    np.testing.assert_allclose(so3.cross(jnp.asarray(x), jnp.asarray(y)), np.cross(x, y), atol=1e-14)
    np.testing.assert_allclose(so3.matvec(so3.hat(jnp.asarray(x)), jnp.asarray(y)), np.cross(x, y), atol=1e-14)


def mean_rotations(n=8):
    """Means of two rotations less than 60 degrees apart, as a filter makes them."""
    rng = np.random.default_rng(2)
    a = Rotation.random(n, random_state=3)
    b = a * Rotation.from_rotvec(0.4 * rng.normal(size=(n, 3)))
    return 0.4 * a.as_matrix() + 0.6 * b.as_matrix()


def test_projection_is_the_polar_factor(float64):
    A = mean_rotations()
    U, _, Vt = np.linalg.svd(A)
    np.testing.assert_allclose(jax.jit(so3.project)(A), U @ Vt, atol=1e-13)


def test_derivative_of_the_projection(float64):
    A = jnp.asarray(mean_rotations(3))
    d = jnp.asarray(np.random.default_rng(4).normal(size=A.shape))
    weight = jnp.asarray(np.random.default_rng(5).normal(size=A.shape))
    loss = jax.jit(lambda A: jnp.sum(weight * so3.project(A, 8)))
    slope = float(jnp.vdot(jax.grad(loss)(A), d))
    errors = [abs(float(loss(A + h * d) - loss(A - h * d)) / (2 * h) - slope) for h in (1e-4, 1e-5, 1e-6)]
    assert min(errors) < 1e-9 * abs(slope) and errors[0] > 10 * errors[1]
    # a rotation moves along SO(3) only: what stretches it does nothing
    rest = jnp.broadcast_to(jnp.eye(3), A.shape)
    np.testing.assert_allclose(jnp.diagonal(jax.grad(loss)(rest), axis1=-2, axis2=-1), 0.0, atol=1e-15)
