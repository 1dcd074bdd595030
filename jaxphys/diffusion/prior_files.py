"""The prior's weights in one safetensors file, with its sizes and the normalisation of its scalars."""

from __future__ import annotations

import dataclasses
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from jaxphys.diffusion.prior import PriorConfig, Text
from jaxphys.files import atomic_path
from jaxphys.pytree import pytree, static
from jaxphys.sharding import leaf_paths


@pytree
class Prior:
    """A trained prior."""

    params: Any
    mean: Any  # of each scalar (K,)
    deviation: Any  # of each scalar (K,)
    config: PriorConfig = static()

    def text(self, tokens: Any, scalars: Any = None) -> Text:
        """A text from slot numbers and scalars in their own units (NaN: not given)."""
        given = jnp.full(self.config.scalars, jnp.nan) if scalars is None else jnp.asarray(scalars)
        return Text(jnp.asarray(tokens), (given - self.mean) / self.deviation)


def save_prior(path: str | os.PathLike, params: Any, config: PriorConfig, mean, deviation) -> None:
    """Writes the weights in bfloat16, whole or not at all."""
    arrays = {name: np.asarray(leaf, jnp.bfloat16) for name, leaf in zip(leaf_paths(params), jax.tree.leaves(params))}
    about = dataclasses.asdict(config) | {
        "mean": np.asarray(mean).tolist(),
        "deviation": np.asarray(deviation).tolist(),
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, {"prior": json.dumps(about)})


def shipped_prior(reads: bool = False) -> Path:
    """The file of the weights that come with the package; their card lies beside them.

    Args:
        reads: those that were trained further to tell captions apart, for `caption_posterior`, instead of those that
            draw. One is worse at what the other is for.
    """
    name = "reader.safetensors" if reads else "prior.safetensors"
    return Path(str(resources.files("jaxphys") / "pretrained" / name))


def load_prior(path: str | os.PathLike | None = None, dtype: Any = jnp.float32) -> Prior:
    """Reads a file of `save_prior`; without a path, the weights that come with the package and draw.

    Raises:
        ValueError: the file is not of a prior, or an array is missing, extra or of another shape.
    """
    path = shipped_prior() if path is None else path
    with safe_open(path, "numpy") as file:
        about = json.loads((file.metadata() or {}).get("prior", "{}"))
        names = set(file.keys())
        if not about:
            raise ValueError(f"{path} holds no prior: it must be written by experiments.train_prior")
        mean, deviation = (jnp.asarray(about.pop(name), jnp.float32) for name in ("mean", "deviation"))
        config = PriorConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in about.items()})
        like = jax.eval_shape(config.init, jax.random.key(0))
        wanted = dict(zip(leaf_paths(like), jax.tree.leaves(like)))
        wrong = sorted(names ^ set(wanted)) or [
            n for n in wanted if file.get_slice(n).get_shape() != [*wanted[n].shape]
        ]
        if wrong:
            raise ValueError(f"{path} does not fit its own sizes: {', '.join(wrong)}")
        leaves = [jnp.asarray(file.get_tensor(name), dtype) for name in wanted]
    return Prior(jax.tree.unflatten(jax.tree.structure(like), leaves), mean, deviation, config)
