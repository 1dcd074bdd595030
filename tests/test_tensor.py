"""Tensor3 against numpy, and the polar rotation against SciPy and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxphys.tensor import Tensor3, polar_rotation

N = 32


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, 3, N)), rng.standard_normal((3, 3, N))


def matrices(A):
    return np.moveaxis(A.to_array() if isinstance(A, Tensor3) else A, -1, 0)


def test_algebra(float64, pair):
    a, b = pair
    A, B = Tensor3.from_array(jnp.asarray(a)), Tensor3.from_array(jnp.asarray(b))
    a, b, eye = matrices(a), matrices(b), np.eye(3)
    trace = np.trace(a, axis1=1, axis2=2)
    for actual, expected in (
        (A @ B, a @ b),
        (A + B, a + b),
        (A - B, a - b),
        (-A, -a),
        (2.0 * A, 2 * a),
        (A / 4.0, a / 4),
        (A.T, a.transpose(0, 2, 1)),
        (A.sym, (a + a.transpose(0, 2, 1)) / 2),
        (A.dev, a - trace[:, None, None] / 3 * eye),
        (A.cofactor, np.linalg.det(a)[:, None, None] * np.linalg.inv(a).transpose(0, 2, 1)),
        (A.add_diagonal(3.0), a + 3 * eye),
        (A.where(A[0, 0] > 0, B), np.where(a[:, :1, :1] > 0, a, b)),
        (Tensor3.identity(A[0, 0]), np.broadcast_to(eye, (N, 3, 3))),
        (Tensor3.diagonal((A[0, 0], A[1, 1], A[2, 2])), a * eye),
    ):
        np.testing.assert_allclose(matrices(actual), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(A.det, np.linalg.det(a), rtol=1e-11)
    np.testing.assert_allclose(A.trace, trace, rtol=1e-13)
    np.testing.assert_allclose(A.inner(B), (a * b).sum((1, 2)), rtol=1e-11)
    np.testing.assert_allclose(np.stack(A.apply((B[0, 0], B[1, 0], B[2, 0])), -1), (a @ b)[:, :, 0], rtol=1e-11)


def test_is_a_pytree(pair):
    A = Tensor3.from_array(jnp.asarray(pair[0]))
    assert len(jax.tree.leaves(A)) == 9
    np.testing.assert_array_equal(jax.tree.map(lambda x: 2 * x, A).to_array(), 2 * A.to_array())


def gradients(n, spread):
    """(3, 3, n) with det > 0; the first are the identity, repeated stretches and a pure rotation."""
    rng = np.random.default_rng(2)
    Q, R = (np.linalg.qr(rng.standard_normal((n, 3, 3)))[0] for _ in range(2))
    stretch = np.exp(spread * rng.standard_normal((n, 3)))
    stretch[1], stretch[2], stretch[3] = [1.3, 1.3, 0.7], 2.0, 1.0
    F = Q * stretch[:, None, :] @ R
    F *= np.sign(np.linalg.det(F))[:, None, None]
    F[0] = np.eye(3)
    return np.moveaxis(F, 0, -1)


def polar(F):
    return np.moveaxis(np.stack([scipy.linalg.polar(f)[0] for f in np.moveaxis(F, -1, 0)]), 0, -1)


def test_polar_against_scipy(float64):
    F = gradients(N, 0.7)
    R = jax.jit(polar_rotation)(Tensor3.from_array(jnp.asarray(F))).to_array()
    np.testing.assert_allclose(R, polar(F), atol=1e-9)


def test_polar_float32():
    F = gradients(N, 0.3)
    R = jax.jit(polar_rotation)(Tensor3.from_array(jnp.asarray(F, jnp.float32))).to_array()
    assert R.dtype == jnp.float32
    np.testing.assert_allclose(R, polar(F), atol=2e-6)


def test_polar_derivative(float64):
    F = gradients(N, 0.3)
    dF = np.random.default_rng(3).standard_normal(F.shape)
    C = np.random.default_rng(4).standard_normal(F.shape)
    tangent = lambda F: Tensor3.from_array(jnp.asarray(F))
    jvp = jax.jit(lambda F, d: jax.jvp(polar_rotation, (F,), (d,))[1].to_array())(tangent(F), tangent(dF))
    h = 1e-6
    np.testing.assert_allclose(jvp, (polar(F + h * dF) - polar(F - h * dF)) / (2 * h), atol=1e-7)
    grad = jax.jit(jax.grad(lambda F: jnp.sum(polar_rotation(F).inner(tangent(C)))))(tangent(F)).to_array()
    np.testing.assert_allclose(np.einsum("ijn,ijn->n", grad, dF), np.einsum("ijn,ijn->n", jvp, C), rtol=1e-9)
