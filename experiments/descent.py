"""Gradient descent by Adam on many unknowns: exact reverse mode, all starts at once, stored as it goes."""

from __future__ import annotations

import functools
import sys
import time
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from tqdm import tqdm

from jaxphys.files import atomic_path
from jaxphys.scenes import identify

STORE_SECONDS = 20.0  # between two writes


@functools.partial(jax.jit, static_argnames=("steps", "rate", "gradient"))
def adam_step(problem, flat, state, template, *, steps: int, rate: float, gradient: str = "exact"):
    """One step of every start (S, P): the learning rate falls to a tenth along a cosine.

    The first tenth of the steps lets only the first third of the frames count, the next tenth two thirds. A start whose
    simulation failed does not move.

    Returns:
        flat, state, loss (S,) in units of |r|^2 / 2 per residual.
    """
    _, unravel = ravel_pytree(template)
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.1))
    count = state[0].count[0]
    frames = problem.seen.frames
    third = -(-frames // 3)
    horizon = jnp.where(count < steps // 10, third, jnp.where(count < steps // 5, min(2 * third, frames), frames))

    def one(z, state):
        cost, slope = jax.value_and_grad(
            lambda z: identify.loss(problem, unravel(z), horizon, gradient=gradient), argnums=0
        )(z)
        works = jnp.isfinite(cost) & jnp.isfinite(jnp.sum(slope * slope))
        update, state = optimizer.update(jnp.where(works, slope, 0.0), state, z)
        return z + jnp.where(works, update, 0.0), state, jnp.where(works, cost, jnp.inf)

    return jax.vmap(one)(flat, state)


def adam_init(flat: jax.Array, steps: int, rate: float):
    return jax.vmap(optax.adam(optax.cosine_decay_schedule(rate, steps, 0.1)).init)(flat)


def descend(problem, starts: list, config, path: Path, sigma: np.ndarray, begun: float):
    """Runs or goes on from `path`.

    Returns:
        The flat z of the best start, history (K, S, 2 + P) of stage, cost and z, gradient evaluations, seconds in all.
    """
    template = starts[0]
    steps, rate = config.adam_steps, config.learning_rate
    flat = jnp.stack([ravel_pytree(z)[0] for z in starts])
    state = adam_init(flat, steps, rate)
    costs, trail, before = [], [], 0.0
    structure = jax.tree.structure(state)
    if path.exists():
        try:
            with np.load(path) as data:
                stored = dict(data)
            flat = jnp.asarray(stored["flat"])
            state = jax.tree.unflatten(
                structure, [jnp.asarray(stored[f"leaf_{i}"]) for i in range(structure.num_leaves)]
            )
            costs, trail, before = list(stored["costs"]), list(stored["trail"]), float(stored["seconds"])
        except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} does not hold a stored descent ({error}); delete it to begin anew") from error

    def store() -> None:
        leaves = {f"leaf_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(
                file,
                flat=np.asarray(flat),
                costs=np.asarray(costs),
                trail=np.asarray(trail),
                seconds=before + time.time() - begun,
                extra_sigma=sigma,
                **leaves,
            )

    last = time.time()
    bar = tqdm(range(len(costs), steps), desc="adam", initial=len(costs), total=steps, unit="step", file=sys.stdout)
    for k in bar:
        trail.append(np.asarray(flat))
        flat, state, cost = adam_step(problem, flat, state, template, steps=steps, rate=rate)
        costs.append(np.asarray(cost))
        bar.set_postfix(cost=f"{float(np.min(costs[-1])):.4g}")
        if time.time() - last > STORE_SECONDS or k + 1 == steps:
            store()
            last = time.time()
    history = np.concatenate([np.zeros((steps, len(starts), 1)), np.asarray(costs)[..., None], np.asarray(trail)], -1)
    best = int(np.argmin(costs[-1]))
    return np.asarray(flat[best], np.float64), history, steps * len(starts), before + time.time() - begun
