"""Products in bfloat16: exact where bfloat16 is, rounded elsewhere, inside loops and in backward passes too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.precision import rounded_products


def whole(seed, *shape):
    """-1, 0 or 1: what few products make of them bfloat16 still holds."""
    return jax.device_put(np.random.default_rng(seed).integers(-1, 2, shape).astype(np.float32))


def network(weights, x):
    """Products in the body of a loop that is made again backward, in a branch, and of batches of matrices."""

    def layer(h, w):
        scores = jnp.einsum("thd,shd->hts", *2 * [h.reshape(3, 2, 2)])
        branch = jax.lax.cond(w[0, 0] > 0, lambda h: h @ w, lambda h: -h @ w.T, h)
        return 0.5 * (h @ w.T + branch), scores.sum()

    h, scores = jax.lax.scan(jax.checkpoint(layer), x, weights)
    return jnp.einsum("td,dhk->khd", h, whole(5, 4, 2, 3)), scores


def slopes(f):
    of = lambda w, x: sum(jnp.sum(a * whole(9, *a.shape)) for a in jax.tree.leaves(f(w, x)))
    return jax.value_and_grad(lambda w, x: jax.vmap(of, (None, 0))(w, x).mean(), (0, 1))


def test_integers_come_out_exactly():
    weights, x = whole(0, 2, 4, 4), whole(1, 2, 3, 4)
    exact, found = jax.jit(slopes(network)), jax.jit(rounded_products(slopes(network)))
    jax.tree.map(np.testing.assert_array_equal, exact(weights, x), found(weights, x))
    text = found.lower(weights, x).as_text()
    assert text.count("call @_rounded") == 6  # one in the loop, one in each branch; forward and backward
    assert {"bf16" in line for line in text.splitlines() if "dot_general" in line} == {True, False}


@pytest.mark.parametrize("axes", [((1,), (0,)), ((1,), (1,))])
def test_a_product_is_that_of_rounded_factors(axes):
    x, y = np.random.default_rng(0).normal(size=(2, 24, 24)).astype(np.float32)
    product = lambda x, y: jax.lax.dot_general(x, y, (axes, ((), ())))
    found = np.asarray(jax.jit(rounded_products(product))(x, y), np.float64)
    near = lambda a: np.asarray(jnp.asarray(a).astype(jnp.bfloat16), np.float64)
    np.testing.assert_allclose(found, np.tensordot(near(x), near(y), axes), atol=1e-5)
    assert np.abs(found - np.tensordot(x.astype(np.float64), y, axes)).max() > 1e-3


def test_sums_over_several_axes_pair_them_as_they_were():
    x, y = whole(0, 5, 3, 4), whole(1, 4, 6, 3)
    product = jax.jit(rounded_products(lambda x, y: jnp.einsum("tij,jki->tk", x, y)))
    assert "bf16" in product.lower(x, y).as_text()
    np.testing.assert_array_equal(product(x, y), np.einsum("tij,jki->tk", x, y))


def test_what_the_backend_has_no_faster_stays_as_it_is():
    x = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
    for f in (
        lambda x: jnp.einsum("bij,bjk->bik", x, x),
        lambda x: jnp.einsum("bij,bik->jk", x, x),
        lambda x: x.astype(jnp.float16) @ x[0].astype(jnp.float16),
        lambda x: x @ x[0, 0],
        lambda x: x[0, :1] @ x[1],
    ):
        np.testing.assert_array_equal(jax.jit(rounded_products(f))(x), jax.jit(f)(x))
