"""Safe scalar functions, and functions of symmetric tensors against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxphys.numerics import (
    clamp_sym,
    eigh,
    expm1_sym,
    log1p_sym,
    materialize,
    rotate_back,
    safe_div,
    safe_norm,
    safe_sqrt,
)
from jaxphys.tensor import Tensor3

N = 64


def tensor(a):
    return Tensor3.from_array(jnp.asarray(a))


def symmetric(eigenvalues, seed=0):
    """(3, 3, N) with the given eigenvalues (N, 3), and random eigenvectors."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((N, 3, 3)))[0]
    return np.einsum("nij,nj,nkj->ikn", Q, eigenvalues, Q)


@pytest.fixture(scope="module")
def A():
    """Eigenvalues above -1: zero, distinct, repeated twice and thrice, nearly repeated, and a wide range."""
    a = np.random.default_rng(1).uniform(-0.7, 2.0, (N, 3))
    a[0], a[1], a[2], a[3] = 0.0, 0.5, [0.3, 0.3, -0.2], [1e-9, -1e-9, 0.0]
    a[4:12, 1] = a[4:12, 0] + 10.0 ** -np.arange(4, 12)
    a[12], a[13] = [-0.9999, 0.0, 1e4], [1e-14, 2e-14, -1e-14]
    return symmetric(a)


def scipy_map(f, A):
    return np.stack([f(a).real for a in np.moveaxis(A, -1, 0)], -1)


def relative(actual, expected):
    return np.abs(actual - expected).max((0, 1)) / np.maximum(np.abs(expected).max((0, 1)), 1e-300)


def test_scalar_functions_are_finite_at_their_bad_point():
    for f in (
        safe_sqrt,
        lambda x: safe_div(1.0, x),
        lambda x: safe_div(x, x),
        lambda x: safe_norm(Tensor3.diagonal(x)),
    ):
        for x in (0.0, 2.0):
            value, slope = jax.value_and_grad(f)(x)
            assert np.isfinite(value) and np.isfinite(slope)
    assert safe_sqrt(-1.0) == 0 and safe_sqrt(9.0) == 3
    assert safe_div(6.0, 2.0) == 3
    np.testing.assert_allclose(safe_norm(Tensor3.diagonal(jnp.array(2.0))), np.sqrt(12), rtol=1e-6)


def test_eigh(float64, A):
    a, Q = jax.jit(eigh)(tensor(A))
    Q_array = np.moveaxis(np.asarray(Q.to_array()), -1, 0)
    assert relative(np.asarray(rotate_back(a, Q).to_array()), A)[:13].max() < 1e-14
    np.testing.assert_allclose(
        np.einsum("nki,nkj->nij", Q_array, Q_array), np.broadcast_to(np.eye(3), (N, 3, 3)), atol=1e-14
    )
    reference = np.linalg.eigvalsh(np.moveaxis(A, -1, 0))
    np.testing.assert_allclose(np.sort(np.stack(a, -1), -1), reference, atol=1e-11)


@pytest.fixture(scope="module")
def log_of_one_plus(A):
    return scipy_map(lambda a: scipy.linalg.logm(np.eye(3) + a), A)


def test_log_and_exp_against_scipy(float64, A, log_of_one_plus):
    L, Q = jax.jit(log1p_sym)(tensor(A))
    expected = log_of_one_plus
    assert relative(np.asarray(L.to_array()), expected)[[1, 2, *range(4, 13)]].max() < 1e-10
    assert relative(np.asarray(L.to_array()), expected)[14:].max() < 1e-12
    # where log(I + A), formed with the identity, would have lost the digits
    assert relative(np.asarray(L.to_array()), A)[[3, 13]].max() < 1e-8
    back = np.asarray(jax.jit(expm1_sym)(L, Q).to_array())
    assert relative(back, A)[1:].max() < 1e-10
    assert not np.asarray(L.to_array())[:, :, 0].any() and not back[:, :, 0].any()


def test_float32_precision(A, log_of_one_plus):
    L, Q = jax.jit(log1p_sym)(tensor(A.astype(np.float32)))
    expected = log_of_one_plus
    assert L[0, 0].dtype == jnp.float32
    assert relative(np.asarray(L.to_array(), np.float64), expected)[14:].max() < 5e-6
    assert relative(np.asarray(jax.jit(expm1_sym)(L, Q).to_array()), A)[14:].max() < 5e-6


def test_derivatives_against_scipy(float64, A):
    """Frechet derivatives, at repeated and nearly repeated eigenvalues and at 0, forward and reverse."""
    dA = symmetric(np.random.default_rng(2).standard_normal((N, 3)), seed=3)
    C = symmetric(np.random.default_rng(4).standard_normal((N, 3)), seed=5)
    (L, Q), (dL, dQ) = jax.jit(lambda A, dA: jax.jvp(log1p_sym, (A,), (dA,)))(tensor(A), tensor(dA))
    assert not np.asarray(dQ.to_array()).any()
    frechet = scipy_map(lambda p: scipy.linalg.expm_frechet(*p, compute_expm=False), zip_pairs(L, dL))
    select = np.r_[0:12, 14:N]  # 12 is beyond expm's own precision
    assert relative(frechet, dA)[select].max() < 1e-9  # d exp(L)[dL] = dA
    dE = jax.jit(lambda L, Q, d: jax.jvp(lambda L: expm1_sym(L, Q), (L,), (d,))[1])(L, Q, tensor(dA))
    expected = scipy_map(lambda p: scipy.linalg.expm_frechet(*p, compute_expm=False), zip_pairs(L, tensor(dA)))
    assert relative(np.asarray(dE.to_array()), expected)[select].max() < 1e-11
    grad = jax.jit(jax.grad(lambda A: jnp.sum(log1p_sym(A)[0].inner(tensor(C)))))(tensor(A)).to_array()
    np.testing.assert_allclose(np.einsum("ijn,ijn->n", grad, dA), np.einsum("ijn,ijn->n", dL.to_array(), C), rtol=1e-9)


def zip_pairs(a, b):
    """An iterable of matrix pairs behind the interface that `scipy_map` reads."""
    pairs = np.empty(N, object)
    a, b = np.moveaxis(np.asarray(a.to_array()), -1, 0), np.moveaxis(np.asarray(b.to_array()), -1, 0)
    for k in range(N):
        pairs[k] = (a[k], b[k])
    return pairs


def test_clamp(float64, A):
    lo, hi = jnp.full(N, -0.1), jnp.full(N, 0.4)
    L, Q = jax.jit(log1p_sym)(tensor(A))

    def clamp(L, lo, hi):
        return clamp_sym(L, Q, lo, hi)

    out = np.asarray(clamp(L, lo, hi).to_array())
    w = np.linalg.eigvalsh(np.moveaxis(out, -1, 0))
    assert w.min() > -0.1 - 1e-12 and w.max() < 0.4 + 1e-12
    inside = np.abs(np.asarray(L.to_array())).max((0, 1)) < 0.05
    assert inside.any()
    np.testing.assert_allclose(out[..., inside], np.asarray(L.to_array())[..., inside], atol=1e-15)
    # derivative: a direction coaxial with L, for which the eigenvalues move alone
    d = (0.3, -0.2, 0.7)
    direction = rotate_back(tuple(jnp.full(N, x) for x in d), Q)
    tangent = jax.jvp(clamp, (L, lo, hi), (direction, 2.0 * lo, 3.0 * hi))[1].to_array()
    values = np.stack([np.asarray(x) for x in principal(L, Q)])
    expected = np.where(values <= -0.1, -0.2, np.where(values >= 0.4, 1.2, np.array(d)[:, None]))
    np.testing.assert_allclose(np.stack(principal(tensor(tangent), Q)), expected, atol=1e-10)
    # and a rotation of the eigenvectors: clamp(R L R^T) = R clamp(L) R^T
    W = np.array([[0, -1.0, 0.5], [1.0, 0, 2.0], [-0.5, -2.0, 0]])
    commutator = lambda X: np.einsum("ij,jkn->ikn", W, X) - np.einsum("ijn,jk->ikn", X, W)
    L_array = np.asarray(L.to_array())
    tangent = jax.jvp(lambda L: clamp(L, lo, hi), (L,), (tensor(commutator(L_array)),))[1].to_array()
    apart = ~np.isin(np.arange(N), [12])
    np.testing.assert_allclose(tangent[..., apart], commutator(out)[..., apart], atol=1e-9)


def principal(A, Q):
    return [sum(Q[i, k] * (A @ Q)[i, k] for i in range(3)) for k in range(3)]


def test_second_derivative_is_refused():
    f = lambda s: log1p_sym(Tensor3.diagonal(s))[0].trace
    assert np.isfinite(jax.jit(jax.grad(f))(0.5))
    with pytest.raises(NotImplementedError, match="only first derivatives"):
        jax.jit(jax.grad(jax.grad(f)))(0.5)


def test_materialize_is_the_identity_in_every_transformation():
    x = jnp.arange(6.0).reshape(2, 3)
    f = lambda x: materialize({"a": x * 2.0})["a"] ** 2
    np.testing.assert_array_equal(jax.jit(f)(x), 4.0 * x**2)
    np.testing.assert_array_equal(jax.vmap(jax.grad(lambda x: f(x).sum()))(x), 8.0 * x)
    np.testing.assert_array_equal(jax.jvp(f, (x,), (jnp.ones_like(x),))[1], 8.0 * x)
