"""Products in bfloat16 on a CPU: what `jax.default_matmul_precision("bfloat16")` makes of float32 on a TPU.

    x y  ->  bf16(x) bf16(y), summed in float32

XLA's CPU backend does not listen to that setting, though the matrix units of a CPU (AMX) are five times as fast on
bfloat16 as its vectors are on float32. So the program itself is rewritten, after derivatives and batches are taken.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun


def rounded_products(f: Callable) -> Callable:
    """f with the factors of its float32 products in bfloat16 and their sums in float32.

    Rounded is what has rows to be multiplied with a matrix, forward and backward. Products of batches of matrices (of
    attention) and gradients of the matrices stay in float32: XLA has them no faster. Take derivatives and `vmap`
    inside: what comes out is a new program.

    Args:
        f: pure function of trees of arrays.

    >>> product = lambda x: x @ jnp.ones((2, 2))
    >>> x = jnp.full((2, 2), 1.0 + 2.0**-9)
    >>> float(product(x)[0, 0]), float(rounded_products(product)(x)[0, 0])
    (2.00390625, 2.0)
    """

    @functools.wraps(f)
    def call(*args):
        program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
        out = jaxpr_as_fun(_rewritten(program))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return call


def _rewritten(part: Any) -> Any:
    """A program with its products rounded, also those of programs in it: bodies of loops, branches."""
    match part:
        case ClosedJaxpr():
            return part.replace(jaxpr=_rewritten(part.jaxpr))
        case Jaxpr():
            return part.replace(eqns=[_product(e) if _is_product(e) else _rewritten(e) for e in part.eqns])
        case JaxprEqn():
            return part.replace(params={name: _rewritten(value) for name, value in part.params.items()})
        case tuple():
            return tuple(_rewritten(p) for p in part) if type(part) is tuple else part
    return part


def _is_product(eqn: JaxprEqn) -> bool:
    """Whether XLA's CPU backend has the operation in bfloat16: rows of float32 times a matrix, no vector."""
    if eqn.primitive is not jax.lax.dot_general_p:
        return False
    (axes, _), batch = eqn.params["dimension_numbers"]
    x, y, out = (v.aval for v in [*eqn.invars, *eqn.outvars])
    rows, summed = math.prod(x.shape[: -len(axes)]), math.prod(x.shape[k] for k in axes)
    last = tuple(axes) == tuple(range(x.ndim - len(axes), x.ndim))
    several = summed > 1 and rows > 1 and y.size > summed
    return last and several and not batch[0] and all(a.dtype == jnp.float32 for a in (x, y, out))


def _product(eqn: JaxprEqn) -> JaxprEqn:
    """The operation that calls `_rounded` in place of a product."""
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    call = functools.partial(_rounded, axes=eqn.params["dimension_numbers"][0])
    (one,) = jax.make_jaxpr(call)(*shapes).eqns
    return one.replace(invars=eqn.invars, outvars=eqn.outvars)


@functools.partial(jax.jit, static_argnames="axes")
def _rounded(x, y, axes):
    """The product as one of two matrices."""
    count, free = math.prod(y.shape[k] for k in axes[1]), [n for k, n in enumerate(y.shape) if k not in axes[1]]
    leading = tuple(axes[1]) == tuple(range(len(axes[1])))
    y = y.reshape(count, -1) if leading else jnp.moveaxis(y, axes[1], range(-len(axes[1]), 0)).reshape(-1, count)
    shape = (*x.shape[: -len(axes[0])], *free)
    x, y = x.reshape(-1, count).astype(jnp.bfloat16), y.astype(jnp.bfloat16)
    out = jax.lax.dot_general(x, y, (((1,), (0 if leading else 1,)), ((), ())), preferred_element_type=jnp.float32)
    # one bit less: XLA would make products that it then does not have of one that is transposed
    return jax.lax.reduce_precision(out, 8, 22).reshape(shape)
