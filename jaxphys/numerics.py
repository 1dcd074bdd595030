"""Functions that stay finite, with finite derivatives, where the textbook formula divides by zero.

Two groups: scalar functions with a masked bad point, and isotropic functions of a symmetric tensor. The derivative of
an isotropic function f(A) = Q diag(f(a)) Q^T never needs the derivative of the eigenvectors Q, which does not exist at
repeated eigenvalues:

    df = Q (G o (Q^T dA Q)) Q^T,   G_ij = (f(a_i) - f(a_j)) / (a_i - a_j),   G_ii = f'(a_i)

(Daleckii and Krein 1965; Higham, Functions of Matrices, 2008, theorem 3.11). The divided differences G are written in a
form without cancellation, so values and first derivatives are exact at F = I. Second derivatives are refused.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxphys.tensor import Tensor3


def safe_sqrt(x: jax.Array) -> jax.Array:
    """sqrt(x) for x > 0, else 0 with derivative 0.

    >>> float(jax.grad(safe_sqrt)(0.0))
    0.0
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def safe_div(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / b where b != 0, else 0 with derivative 0.

    >>> float(safe_div(1.0, 0.0))
    0.0
    """
    nonzero = b != 0
    return jnp.where(nonzero, a / jnp.where(nonzero, b, 1.0), 0.0)


def safe_norm(A: Tensor3) -> jax.Array:
    """Frobenius norm |A|, with derivative 0 at A = 0.

    >>> float(safe_norm(Tensor3.identity(jnp.array(1.0)) * 0.0))
    0.0
    """
    return safe_sqrt(A.inner(A))


def eigh(A: Tensor3) -> tuple[tuple, Tensor3]:
    """Eigenvalues and eigenvectors of a symmetric tensor by cyclic Jacobi rotations (Golub and Van Loan, section 8.5).

    Each pass annihilates the component 01 and renames the axes (0, 1, 2) -> (2, 0, 1), so one small loop body serves
    all three planes. 12 passes (float32) or 15 (float64) reach round-off. Not for differentiation: use the functions
    below.

    Args:
        A: symmetric; only the upper triangle is read.

    Returns:
        Three eigenvalues in no particular order, and Q with the eigenvectors in its columns: A = Q diag(a) Q^T.
    """
    one, zero = jnp.ones_like(A[0, 0]), jnp.zeros_like(A[0, 0])
    tiny = jnp.finfo(one.dtype).tiny

    def rotate(_, state):
        (a, b, c, ab, ac, bc), columns = state
        gap = b - a
        t = 2.0 * ab / jnp.maximum(jnp.abs(gap) + jnp.sqrt(gap * gap + 4.0 * ab * ab), tiny)
        t = jnp.where(gap < 0, -t, t)
        cos = jax.lax.rsqrt(1.0 + t * t)
        sin = t * cos
        p, q, r = columns
        p, q = (
            tuple(cos * u - sin * w for u, w in zip(p, q)),
            tuple(sin * u + cos * w for u, w in zip(p, q)),
        )
        new_ac, new_bc = cos * ac - sin * bc, sin * ac + cos * bc
        # renamed: old axes (1, 2, 0) become (0, 1, 2)
        return (b + t * ab, c, a - t * ab, new_bc, zero, new_ac), (q, r, p)

    passes = 15 if one.dtype == jnp.float64 else 12
    upper = (A[0, 0], A[1, 1], A[2, 2], A[0, 1], A[0, 2], A[1, 2])
    start = (upper, ((one, zero, zero), (zero, one, zero), (zero, zero, one)))
    (a, b, c, *_), columns = jax.lax.fori_loop(0, passes, rotate, start)
    return (a, b, c), Tensor3(tuple(columns)).T


def _swap(_, pair):
    return pair[1], pair[0]


def _swap_twice(x):
    return jax.lax.fori_loop(0, 2, _swap, (x, x))[0]


def _identity(x):
    return x


def materialize(tree):
    """The same values, written to memory once.

    XLA on CPU fuses cheap elementwise chains by repeating them in every consumer, so the chains of 3x3 tensor algebra
    grow exponentially in compile and run time; it drops `optimization_barrier` before it fuses. A loop is never fused:
    two passes of one that swaps its carry leave the values as they were.
    """
    return jax.lax.platform_dependent(tree, cpu=_swap_twice, default=_identity)


def _symmetric(upper: dict) -> Tensor3:
    """The symmetric tensor of the components {(i, j): value, i <= j}."""
    upper = materialize(upper)
    return Tensor3(tuple(tuple(upper[min(i, j), max(i, j)] for j in range(3)) for i in range(3)))


def _conjugate(Q: Tensor3, M: Tensor3) -> Tensor3:
    """Q M Q^T of a symmetric M, its six components."""
    QM = Q @ M
    return _symmetric({(i, j): sum(QM[i, k] * Q[j, k] for k in range(3)) for i in range(3) for j in range(i, 3)})


def rotate_back(values: tuple, Q: Tensor3) -> Tensor3:
    """Q diag(values) Q^T."""
    upper = {(i, j): sum(Q[i, k] * values[k] * Q[j, k] for k in range(3)) for i in range(3) for j in range(i, 3)}
    return _symmetric(upper)


def principal_values(A: Tensor3, Q: Tensor3) -> tuple:
    """The diagonal of Q^T A Q: the eigenvalues of a tensor whose eigenvectors are the columns of Q."""
    AQ = A @ Q
    return tuple(sum(Q[i, k] * AQ[i, k] for i in range(3)) for k in range(3))


@jax.custom_jvp
def _first_order(x):
    """Identity that refuses to be differentiated: with Q held fixed a second derivative would be wrong."""
    return x


@_first_order.defjvp
def _first_order_jvp(primals, tangents):
    raise NotImplementedError(
        "a second derivative of log1p_sym, expm1_sym or clamp_sym was asked for; only first derivatives are defined"
    )


def _daleckii_krein(dA: Tensor3, Q: Tensor3, G: tuple) -> Tensor3:
    """Q (G o (Q^T dA Q)) Q^T with G = (G00, G11, G22, G01, G02, G12)."""
    Q, G = _first_order((Q, G))
    K = _conjugate(Q.T, dA)
    index = ((0, 3, 4), (3, 1, 5), (4, 5, 2))
    K = Tensor3(tuple(tuple(G[index[i][j]] * K[i, j] for j in range(3)) for i in range(3)))
    return _conjugate(Q, K)


def _ratio(f, x: jax.Array) -> jax.Array:
    """f(x) / x for an f with f(0) = 0, f'(0) = 1 that is accurate near 0."""
    zero = x == 0
    return jnp.where(zero, 1.0, f(x) / jnp.where(zero, 1.0, x))


_PAIRS = ((0, 1), (0, 2), (1, 2))


@jax.custom_jvp
def log1p_sym(A: Tensor3) -> tuple[Tensor3, Tensor3]:
    """log(I + A) of a symmetric tensor A with eigenvalues above -1, and the eigenvectors.

    Exact for small A (no digits are lost to the identity) and at repeated eigenvalues.

    Args:
        A: symmetric.

    Returns:
        The logarithm, and Q with the eigenvectors of A in its columns, to be used as a constant (derivative 0). An
        eigenvalue at or below -1 gives a non-finite logarithm.

    >>> L, _ = log1p_sym(Tensor3.identity(jnp.array(1.0)) * (jnp.e - 1.0))
    >>> bool(jnp.allclose(L.to_array(), jnp.eye(3), atol=1e-6))
    True
    """
    a, Q = eigh(A)
    return rotate_back(tuple(jnp.log1p(x) for x in a), Q), Q


@log1p_sym.defjvp
def _log1p_sym_jvp(primals, tangents):
    (A,), (dA,) = primals, tangents
    a, Q = eigh(A)
    value = rotate_back(tuple(jnp.log1p(x) for x in a), Q)
    diagonal = tuple(1.0 / (1.0 + x) for x in a)
    off = tuple(_ratio(jnp.log1p, (a[i] - a[j]) * diagonal[j]) * diagonal[j] for i, j in _PAIRS)
    return (value, Q), (_daleckii_krein(dA, Q, diagonal + off), Q.map(jnp.zeros_like))


@jax.custom_jvp
def expm1_sym(A: Tensor3, Q: Tensor3) -> Tensor3:
    """exp(A) - I of a symmetric tensor A whose eigenvectors are the columns of Q. Zero for A = 0, to the last bit.

    Args:
        A: symmetric and coaxial with Q: the result is wrong if Q^T A Q is not diagonal.
        Q: eigenvectors from `log1p_sym`, used as a constant.

    >>> zero = Tensor3.identity(jnp.array(1.0)) * 0.0
    >>> float(expm1_sym(zero, Tensor3.identity(jnp.array(1.0)))[0, 0])
    0.0
    """
    return rotate_back(tuple(jnp.expm1(x) for x in principal_values(A, Q)), Q)


@expm1_sym.defjvp
def _expm1_sym_jvp(primals, tangents):
    (A, Q), (dA, _) = primals, tangents
    a = materialize(principal_values(A, Q))  # computed twice, with other rounding, a_i - a_j would be two numbers
    diagonal = tuple(jnp.exp(x) for x in a)
    off = tuple(_ratio(jnp.expm1, a[i] - a[j]) * diagonal[j] for i, j in _PAIRS)
    return rotate_back(tuple(jnp.expm1(x) for x in a), Q), _daleckii_krein(dA, Q, diagonal + off)


@jax.custom_jvp
def clamp_sym(A: Tensor3, Q: Tensor3, lo: jax.Array, hi: jax.Array) -> Tensor3:
    """The symmetric tensor A with its eigenvalues clamped to [lo, hi].

    Args:
        A: symmetric and coaxial with Q.
        Q: eigenvectors from `log1p_sym`, used as a constant.
        lo: least eigenvalue, differentiable.
        hi: greatest eigenvalue, differentiable.
    """
    return rotate_back(tuple(jnp.clip(x, lo, hi) for x in principal_values(A, Q)), Q)


@clamp_sym.defjvp
def _clamp_sym_jvp(primals, tangents):
    (A, Q, lo, hi), (dA, _, dlo, dhi) = primals, tangents
    a = materialize(principal_values(A, Q))  # as in expm1_sym
    clamped = tuple(jnp.clip(x, lo, hi) for x in a)
    inside = tuple(jnp.where((x > lo) & (x < hi), 1.0, 0.0) for x in a)
    off = tuple(
        jnp.where(a[i] == a[j], inside[i], (clamped[i] - clamped[j]) / jnp.where(a[i] == a[j], 1.0, a[i] - a[j]))
        for i, j in _PAIRS
    )
    edge = tuple(jnp.where(x <= lo, dlo, 0.0) + jnp.where(x >= hi, dhi, 0.0) for x in a)
    return rotate_back(clamped, Q), _daleckii_krein(dA, Q, inside + off) + rotate_back(edge, _first_order(Q))
