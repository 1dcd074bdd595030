"""Attention: every kernel against the formula in float64, forward and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion import attention as module
from jaxphys.diffusion.attention import attention


def formula(q, k, v, visible=None):
    """softmax(q k^T / sqrt(d)) v in NumPy, float64."""
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
    if visible is not None:
        scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", weights / weights.sum(-1, keepdims=True), v)


def inputs(n_q=37, n_k=29, heads=3, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return [2.0 * rng.normal(size=(n, heads, d)) for n in (n_q, n_k, n_k)]


def small_tiles(q, k, v, scale=None):
    """The chunked form with several tiles each way, the last ones part padding."""
    return module._chunked(q, k, v, q.shape[-1] ** -0.5, block_q=16, block_k=8)


def splash(q, k, v):
    return module._splash(q, k, v, q.shape[-1] ** -0.5, interpret=True)


@pytest.mark.parametrize("name", ["dot", "chunked", "small_tiles", "splash"])
def test_values_and_gradients_equal_the_reference(name):
    run = dict(small_tiles=small_tiles, splash=splash).get(name, lambda *a: attention(*a, impl=name))
    q, k, v = inputs()
    weight = jnp.asarray(np.random.default_rng(1).normal(size=q.shape), jnp.float32)
    cast = [jnp.asarray(x, jnp.float32) for x in (q, k, v)]
    out, pull = jax.vjp(run, *cast)
    grads = pull(weight)
    np.testing.assert_allclose(out, formula(q, k, v), atol=4e-6)
    # The gradient of the formula by finite differences in NumPy, along a random direction per input.
    w, rng = np.asarray(weight, np.float64), np.random.default_rng(2)
    for i, grad in enumerate(grads):
        d = rng.normal(size=grad.shape)
        value = lambda h: np.sum(formula(*(x + h * d if j == i else x for j, x in enumerate((q, k, v)))) * w)  # noqa: B023
        exact = (value(1e-5) - value(-1e-5)) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(grad, np.float64) * d), exact, rtol=3e-5, atol=3e-5)


def test_chunked_gradient_in_float64(float64):
    """Reverse mode against central differences along one direction, at the best of several steps."""
    rng = np.random.default_rng(3)
    x = [jnp.asarray(a) for a in inputs(21, 13)]
    d = [jnp.asarray(rng.normal(size=a.shape)) for a in x]
    f = lambda h: jnp.sin(small_tiles(*(a + h * b for a, b in zip(x, d)))).sum()
    exact = jax.grad(f)(0.0)
    errors = [abs((f(h) - f(-h)) / (2 * h) - exact) for h in (1e-3, 1e-4, 1e-5, 1e-6)]
    assert min(errors) < 1e-8 * abs(exact) and small_tiles(*x).dtype == jnp.float64


@pytest.mark.parametrize("impl", ["dot", "chunked"])
def test_blocks_see_themselves_and_the_past(impl):
    q, k, v = inputs(30, 30)
    block = np.arange(30) // 6
    out = attention(*(jnp.asarray(x, jnp.float32) for x in (q, k, v)), causal_block=6, impl=impl)
    np.testing.assert_allclose(out, formula(q, k, v, block[:, None] >= block[None]), atol=2e-6)


def test_extreme_scores_stay_finite():
    q, k, v = (jnp.asarray(100.0 * x, jnp.float32) for x in inputs())
    out, grads = jax.value_and_grad(lambda *a: small_tiles(*a).sum(), argnums=(0, 1, 2))(q, k, v)
    assert np.isfinite(out) and all(np.isfinite(g).all() for g in grads)
    np.testing.assert_allclose(small_tiles(q, k, v), attention(q, k, v, impl="dot"), rtol=1e-4, atol=1e-3)


def test_low_precision_keeps_its_dtype_and_a_float32_softmax():
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in inputs())
    exact = formula(*(np.asarray(x, np.float64) for x in (q, k, v)))
    for run in (small_tiles, lambda *a: attention(*a, impl="dot")):
        out = run(q, k, v)
        assert out.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(out, np.float64), exact, atol=0.03)


def test_chunked_memory_does_not_hold_the_scores():
    """Forward and gradient of 8,192 tokens: the scores of one head alone would be 256 MiB."""
    x = jax.ShapeDtypeStruct((8192, 2, 16), jnp.float32)
    chunked = jax.grad(lambda q, k, v: attention(q, k, v, impl="chunked").sum(), argnums=(0, 1, 2))
    compiled = jax.jit(chunked).lower(x, x, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 40 * 2**20
    reference = jax.jit(jax.grad(lambda q: attention(q, q, q, impl="dot").sum())).lower(x).compile()
    assert reference.memory_analysis().temp_size_in_bytes > 256 * 2**20  # what the bound above would catch


def test_auto_leaves_the_explicit_form_when_the_scores_are_many(monkeypatch):
    q, k, v = (jnp.asarray(x, jnp.float32) for x in inputs())
    assert module._choose(q, k) == "dot"
    monkeypatch.setattr(module, "MAX_SCORES", 100)
    assert module._choose(q, k) == "chunked"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert module._choose(q, k) == "chunked"  # float32: cuDNN has no kernel
    assert module._choose(q.astype(jnp.bfloat16), k) == "cudnn"
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    wide = jnp.zeros((256, 2, 128), jnp.bfloat16)
    assert module._choose(wide, wide) == "splash"


def test_vmap_equals_a_loop():
    q, k, v = (jnp.asarray(x, jnp.float32) for x in inputs())
    batch = [jnp.stack([x, 0.5 * x]) for x in (q, k, v)]
    np.testing.assert_allclose(jax.vmap(small_tiles)(*batch)[1], small_tiles(0.5 * q, 0.5 * k, 0.5 * v), atol=1e-6)


def test_bad_inputs_say_what_is_wrong():
    x = jnp.zeros((6, 2, 8))
    with pytest.raises(ValueError, match="impl must be one of"):
        attention(x, x, x, impl="flash")
    with pytest.raises(ValueError, match=r"k and v \(Tk, H, d\)"):
        attention(x, x[:, :1], x)
    with pytest.raises(ValueError, match="causal_block=4"):
        attention(x, x, x, causal_block=4)
    with pytest.raises(ValueError, match="cudnn takes float16"):
        attention(x, x, x, impl="cudnn")
