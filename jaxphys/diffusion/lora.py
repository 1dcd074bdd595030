"""Low-rank adaptation as a transformation of the tree of parameters (Hu et al., LoRA, 2021).

An adapter is a flat dictionary {path of a leaf: change}, and a change holds any of

    down (..., in, r), up (..., r, out)     the leaf becomes  W + down up
    delta                                   the leaf becomes  W + delta

so that it is a pytree of its own: it is what one differentiates, optimises and saves, while the parameters stay as they
are. Leaves of stacked layers have changes with a leading axis of layers. The factor alpha / r of other programs is held
in `up`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.diffusion.modules import wide
from jaxphys.sharding import leaf_paths

TARGETS = r"blocks/(self_attn|cross_attn)/(q|k|v|o|k_img|v_img)/kernel|blocks/ffn/\w+/kernel"
"""The projections of attention and the layers of the MLP."""

Adapter = Mapping[str, Mapping[str, jax.Array]]


def init(params: Any, rank: int, key: jax.Array, *, targets: str = TARGETS) -> dict[str, dict[str, jax.Array]]:
    """An adapter that changes nothing yet: `down` is random with variance 1 / in, `up` is 0. In float32.

    Args:
        params: nested dictionaries of arrays (or of `jax.ShapeDtypeStruct`).
        rank: r, at least 1.
        key: for `down`.
        targets: a regular expression on whole paths of leaves, parts joined by "/".

    Raises:
        ValueError: a rank below 1, targets that no leaf or a vector matches.

    >>> params = {"blocks": {"self_attn": {"q": {"kernel": jnp.ones((3, 8, 6))}}}}
    >>> adapter = init(params, 2, jax.random.key(0))
    >>> {name: x.shape for name, x in adapter["blocks/self_attn/q/kernel"].items()}
    {'down': (3, 8, 2), 'up': (3, 2, 6)}
    """
    if rank < 1:
        raise ValueError(f"LoRA: rank must be at least 1, got {rank}")
    shapes = dict(zip(leaf_paths(params), [x.shape for x in jax.tree.leaves(params)]))
    found = {path: shape for path, shape in shapes.items() if re.fullmatch(targets, path)}
    if not found:
        raise ValueError(f"LoRA: no leaf matches {targets!r}; the leaves are {sorted(shapes)[:12]}, ...")
    vectors = [path for path, shape in found.items() if len(shape) < 2 + path.startswith("blocks/")]
    if vectors:
        raise ValueError(f"LoRA: {vectors} are no matrices; change targets={targets!r}")
    sizes = [math.prod(shape[:-1]) * rank for shape in found.values()]
    draws = jnp.split(jax.random.normal(key, (sum(sizes),)), np.cumsum(sizes)[:-1])  # one draw: it compiles slowly
    adapter = {}
    for draw, (path, shape) in zip(draws, found.items()):
        layers = shape[:1] if path.startswith("blocks/") else ()
        down = draw.reshape(*shape[:-1], rank) / shape[-2] ** 0.5
        adapter[path] = {"down": down, "up": jnp.zeros((*layers, rank, shape[-1]))}
    return adapter


def change(adapter: Mapping[str, jax.Array]) -> jax.Array:
    """What is added to a leaf: down up + delta.

    >>> change({"down": jnp.ones((4, 2)), "up": jnp.ones((2, 3))}).shape
    (4, 3)
    """
    parts = [wide(adapter["delta"])] if "delta" in adapter else []
    if "down" in adapter:
        down, up = wide(adapter["down"]), wide(adapter["up"])
        # A convolution has its window before (in, r); the window takes no part in the product.
        up = up.reshape(*up.shape[:-2], *(1,) * (down.ndim - up.ndim), *up.shape[-2:])
        parts.append(down @ up)
    return sum(parts[1:], parts[0])


def merge(params: Any, adapter: Adapter, scale: float | jax.Array = 1.0) -> dict:
    """The parameters with the changes added, in their own dtypes.

    Args:
        params: nested dictionaries of arrays.
        adapter: from `init`, from a file, or trained.
        scale: factor on all changes.

    Raises:
        ValueError: a path that the parameters have not, or a change of another shape.

    >>> merge({"a": {"b": jnp.zeros(2)}}, {"a/b": {"delta": jnp.ones(2)}}, 0.5)["a"]["b"].tolist()
    [0.5, 0.5]
    """
    params = jax.tree.map(lambda x: x, params)  # new dictionaries, the same arrays
    for path, entry in adapter.items():
        *steps, last = path.split("/")
        at = params
        for step in steps:
            at = at.get(step, {}) if isinstance(at, dict) else {}
        if last not in at:
            raise ValueError(f"LoRA: the parameters have no {path}; was the adapter made for another model?")
        added = change(entry)
        if added.shape != at[last].shape:
            raise ValueError(f"LoRA: {path} has the shape {at[last].shape}, and its change {added.shape}")
        at[last] = (wide(at[last]) + scale * added).astype(at[last].dtype)
    return params


def attach(params: Any, adapter: Adapter, scale: float | jax.Array = 1.0) -> dict:
    """The parameters with the adapter beside them, for `WanConfig.velocity`, which merges layer by layer.

    No second copy of the weights exists at any time, which is what training an adapter of a large model needs:

        loss = lambda adapter: f(config.velocity(attach(params, adapter), x, t, cond))

    Several adapters may be attached, one after the other; their changes add up.
    """
    scaled = {}
    for path, entry in adapter.items():
        scaled[path] = {name: value if name == "down" else scale * value for name, value in entry.items()}
    return params | {"lora": (*params.get("lora", ()), scaled)}


def split(adapters: tuple[Adapter, ...]) -> tuple[list[dict], list[dict]]:
    """Attached adapters as (changes of single leaves, changes of the stacked layers by their path in a layer)."""
    single = [{p: e for p, e in a.items() if not p.startswith("blocks/")} for a in adapters]
    stacked = [{p.removeprefix("blocks/"): e for p, e in a.items() if p.startswith("blocks/")} for a in adapters]
    return single, stacked
