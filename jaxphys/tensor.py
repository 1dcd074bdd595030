"""3x3 tensors stored by component, so that formulas over many particles read like the mathematics.

`Tensor3` holds nine arrays of one shape (any shape, usually `(N,)`). XLA then sees plain elementwise chains
over contiguous memory, which it vectorises; a batched `(N, 3, 3) @ (N, 3, 3)` costs twice as much on CPU.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


def components(a: jax.Array) -> tuple[jax.Array, ...]:
    """The arrays a[0], a[1], ... along the first axis.

    The transpose of this split is one concatenation; that of the slices is as many zero-padded arrays and their sum.
    """
    return tuple(part[0] for part in jax.lax.split(a, (1,) * a.shape[0]))


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True, eq=False)
class Tensor3:
    """A field of 3x3 tensors: `rows[i][j]` is the array of component ij."""

    rows: tuple

    @classmethod
    def from_array(cls, a: jax.Array) -> Tensor3:
        """Wraps a component-major array of shape (3, 3, ...)."""
        flat = components(a.reshape(9, *a.shape[2:]))
        return cls((flat[:3], flat[3:6], flat[6:]))

    @classmethod
    def identity(cls, like: jax.Array) -> Tensor3:
        """The identity, each component with the shape and dtype of `like`."""
        one, zero = jnp.ones_like(like), jnp.zeros_like(like)
        return cls(tuple(tuple(one if i == j else zero for j in range(3)) for i in range(3)))

    @classmethod
    def diagonal(cls, d) -> Tensor3:
        """diag(d0, d1, d2) for three arrays, or d * identity for one array."""
        d = tuple(d) if isinstance(d, (tuple, list)) else (d, d, d)
        zero = jnp.zeros_like(d[0])
        return cls(tuple(tuple(d[i] if i == j else zero for j in range(3)) for i in range(3)))

    def to_array(self) -> jax.Array:
        """The component-major array of shape (3, 3, ...)."""
        return jnp.stack([jnp.stack(row) for row in self.rows])

    def tree_flatten(self):
        return tuple(c for row in self.rows for c in row), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(tuple(tuple(children[3 * i : 3 * i + 3]) for i in range(3)))

    def __getitem__(self, ij):
        return self.rows[ij[0]][ij[1]]

    def map(self, f) -> Tensor3:
        return Tensor3(tuple(tuple(f(c) for c in row) for row in self.rows))

    def _zip(self, other, f) -> Tensor3:
        if isinstance(other, Tensor3):
            return Tensor3(tuple(tuple(f(a, b) for a, b in zip(r, s)) for r, s in zip(self.rows, other.rows)))
        return self.map(lambda a: f(a, other))

    def __add__(self, other: Tensor3) -> Tensor3:
        return self._zip(other, lambda a, b: a + b)

    def __sub__(self, other: Tensor3) -> Tensor3:
        return self._zip(other, lambda a, b: a - b)

    def __neg__(self) -> Tensor3:
        return self.map(lambda a: -a)

    def __mul__(self, s) -> Tensor3:
        """Product with a scalar field (never componentwise between tensors: that is `inner`)."""
        return self.map(lambda a: a * s)

    __rmul__ = __mul__

    def __truediv__(self, s) -> Tensor3:
        return self.map(lambda a: a / s)

    def __matmul__(self, other: Tensor3) -> Tensor3:
        a, b = self.rows, other.rows
        return Tensor3(
            tuple(tuple(a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j] for j in range(3)) for i in range(3))
        )

    def apply(self, v) -> tuple:
        """Product with a vector given as three arrays."""
        return tuple(r[0] * v[0] + r[1] * v[1] + r[2] * v[2] for r in self.rows)

    @property
    def T(self) -> Tensor3:
        return Tensor3(tuple(zip(*self.rows)))

    @property
    def sym(self) -> Tensor3:
        return (self + self.T) * 0.5

    @property
    def trace(self) -> jax.Array:
        return self.rows[0][0] + self.rows[1][1] + self.rows[2][2]

    @property
    def dev(self) -> Tensor3:
        return self.add_diagonal(self.trace * (-1.0 / 3.0))

    @property
    def cofactor(self) -> Tensor3:
        """cof(A) = det(A) A^-T."""
        (a, b, c), (d, e, f), (g, h, i) = self.rows
        return Tensor3(
            (
                (e * i - f * h, f * g - d * i, d * h - e * g),
                (c * h - b * i, a * i - c * g, b * g - a * h),
                (b * f - c * e, c * d - a * f, a * e - b * d),
            )
        )

    @property
    def det(self) -> jax.Array:
        (a, b, c), (d, e, f), (g, h, i) = self.rows
        return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)

    def add_diagonal(self, s) -> Tensor3:
        """A + s I."""
        return Tensor3(tuple(tuple(c + s if i == j else c for j, c in enumerate(r)) for i, r in enumerate(self.rows)))

    def inner(self, other: Tensor3) -> jax.Array:
        """A : B = sum_ij A_ij B_ij."""
        return sum(a * b for r, s in zip(self.rows, other.rows) for a, b in zip(r, s))

    def where(self, mask, other: Tensor3) -> Tensor3:
        """`self` where mask, else `other`."""
        return self._zip(other, lambda a, b: jnp.where(mask, a, b))


@jax.custom_jvp
def polar_rotation(F: Tensor3) -> Tensor3:
    """The rotation R of the polar decomposition F = R S, by scaled Newton iteration.

    R <- (g R + R^-T / g) / 2 with g = sqrt(|R^-T| / |R|) (Higham 1986). The derivative is implicit,
    dR = R [w]x with (tr(S) I - S) w = axial(R^T dF - dF^T R), so it is finite at F = I and at repeated
    stretches, where the derivative of an SVD is not.

    Args:
        F: deformation gradient with det F > 0. An inverted F does not give the closest rotation.

    Returns:
        R, of the shape of F.

    >>> import jax.numpy as jnp
    >>> F = Tensor3.identity(jnp.ones(2)) * 3.0
    >>> bool(jnp.allclose(polar_rotation(F).to_array(), Tensor3.identity(jnp.ones(2)).to_array()))
    True
    """

    def newton(_, R):
        cofactor, det = R.cofactor, R.det  # R^-T = cof(R) / det(R)
        g = jnp.sqrt(jnp.sqrt(cofactor.inner(cofactor) / R.inner(R)) / jnp.abs(det))
        return R * (0.5 * g) + cofactor * (0.5 / (det * g))

    return jax.lax.fori_loop(0, 6, newton, F)


@polar_rotation.defjvp
def _polar_rotation_jvp(primals, tangents):
    (F,), (dF,) = primals, tangents
    R = polar_rotation(F)
    S, W = R.T @ F, R.T @ dF
    A = (-S).add_diagonal(S.trace)
    axial = (W[2, 1] - W[1, 2], W[0, 2] - W[2, 0], W[1, 0] - W[0, 1])
    w = (A.cofactor / A.det).apply(axial)  # A is symmetric: A^-T = A^-1
    zero = jnp.zeros_like(w[0])
    skew = Tensor3(((zero, -w[2], w[1]), (w[2], zero, -w[0]), (-w[1], w[0], zero)))
    return R, R @ skew
