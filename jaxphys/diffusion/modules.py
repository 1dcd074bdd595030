"""From NNX modules to plain trees of parameters and back.

A module defines parameters, their names and its forward pass. Outside, parameters are a nested dict of arrays, and a
stack of equal layers is one dict whose leaves have a leading axis of layers, run by `jax.lax.scan`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

REMAT = ("none", "full", "attention", "dots")


@functools.lru_cache(maxsize=256)
def _split(cls, config):
    """Structure and abstract parameters of the module: no array is made."""
    return nnx.split(nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0))))


def create(cls: Callable, config: Any, key: jax.Array, layers: int | None = None) -> dict:
    """Random parameters of the module `cls(config, rngs=...)`, or of `layers` of them, stacked along a first axis.

    Kernels are normal with variance 1 / fan-in, biases 0, everything else 1, unless a parameter names its standard
    deviation (`std` in its metadata). All are cut from one draw: XLA needs seconds to compile each call of a random
    generator, and a model has dozens of parameters.
    """
    found = [(path, variable) for path, variable in nnx.to_flat_state(_split(cls, config)[1])]
    stack = () if layers is None else (layers,)
    drawn = {path: std for path, v in found if (std := _std(path[-1], v)) is not None}
    count = sum(math.prod((*stack, *v.shape)) for path, v in found if path in drawn)
    noise = jax.random.normal(key, (count,), jnp.float32)
    tree: dict = {}
    start = 0
    for path, variable in found:
        at = tree
        for step in path[:-1]:
            at = at.setdefault(step, {})
        shape = (*stack, *variable.shape)
        if path in drawn:
            value = drawn[path] * noise[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        else:
            value = jnp.full(shape, float(path[-1] != "bias"))
        at[path[-1]] = value.astype(variable.dtype)
    return tree


def _std(name, variable) -> float | None:
    """Standard deviation of a parameter's initial values; None: it is constant."""
    given = variable.get_metadata().get("std")
    return math.prod(variable.shape[:-1]) ** -0.5 if given is None and name == "kernel" else given


def bind(cls: Callable, config: Any, params: dict) -> Any:
    """The module with these parameters, to be called at once, inside or outside a trace."""
    return nnx.merge(_split(cls, config)[0], params)


def rematerialized(f: Callable, remat: str) -> Callable:
    """f under `jax.checkpoint` with a named policy, for the body of a scan.

    Args:
        f: the body.
        remat: "none" (all intermediate values are kept), "full" (only inputs are kept), "attention" (outputs named
            "attention" are kept too: the dearest to compute again), "dots" (also outputs of matmuls with weights).

    Raises:
        ValueError: no such policy.
    """
    policies = jax.checkpoint_policies
    match remat:
        case "none":
            return f
        case "full":
            return jax.checkpoint(f, prevent_cse=False)
        case "attention":
            return jax.checkpoint(f, prevent_cse=False, policy=policies.save_only_these_names("attention"))
        case "dots":
            policy = policies.save_from_both_policies(
                policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names("attention")
            )
            return jax.checkpoint(f, prevent_cse=False, policy=policy)
    raise ValueError(f"remat must be one of {REMAT}, got {remat!r}")


def wide(x: jax.Array) -> jax.Array:
    """x in float32, or wider if it is: the dtype of statistics."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in x's dtype (Zhang and Sennrich 2019)."""
    y = wide(x)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + eps)
    return (y * scale).astype(x.dtype)


def standardize(x: jax.Array, eps: float) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) over the last axis, in float32 or wider."""
    y = wide(x)
    y = y - jnp.mean(y, -1, keepdims=True)
    return y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + eps)


class LayerNorm(nnx.Module):
    """Layer normalisation with scale and bias, both kept in float32."""

    def __init__(self, width: int, eps: float):
        self.eps = eps
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width, jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        return (standardize(x, self.eps) * self.scale[...] + self.bias[...]).astype(x.dtype)
