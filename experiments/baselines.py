"""Other ways to the same parameters: finite differences, CMA-ES, Adam with exact or last-substep gradients.

Each is a generator of (z, cost) that runs until its caller stops it; the cost is |r|^2 / 2 over all frames, infinite
where that is not known yet.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxphys.scenes import identify, search

STEP = 1e-2  # of z, for central differences in float32


@jax.jit
def cost_of(problem, flat, template) -> jax.Array:
    """|r|^2 / 2 of a flat z; infinite where the simulation failed."""
    _, unravel = ravel_pytree(template)
    r, failed = identify.residuals(problem, unravel(flat), problem.seen.frames)
    cost = 0.5 * jnp.sum(r * r)
    return jnp.where(failed | ~jnp.isfinite(cost), jnp.inf, cost)


@jax.jit
def residual_of(problem, flat, template, horizon):
    _, unravel = ravel_pytree(template)
    r, failed = identify.residuals(problem, unravel(flat), horizon)
    return jnp.where(failed, jnp.nan, r)


def difference_normal(problem, flat: np.ndarray, template, horizon: int) -> identify.Normal:
    """The normal equations by central differences: 2 P + 1 simulations."""
    see = lambda z: np.asarray(residual_of(problem, jnp.asarray(z, jnp.float32), template, horizon), np.float64)
    r = see(flat)
    J = np.stack([(see(flat + STEP * e) - see(flat - STEP * e)) / (2 * STEP) for e in np.eye(len(flat))])
    cost = 0.5 * float(r @ r)
    cost = cost if np.isfinite(cost) and np.isfinite(J).all() else np.inf
    return identify.Normal(cost, J @ r, J @ J.T)


def gauss_newton(problem, starts: list, differences: bool = False) -> Iterator[tuple[np.ndarray, float]]:
    """The search of this project, by forward mode or with its matrix by differences; same stages, same starts."""
    template, stages = starts[0], search.default_stages(problem)

    def evaluate(problem, zs, template, stage, vmapped):
        return [difference_normal(problem, z, template, stage.horizon) for z in zs]

    fit = search.begin(starts)
    while not search.done(fit, stages):
        stage = fit.stage
        fit = search.advance(problem, fit, template, stages, False, evaluate if differences else search.evaluate)
        best = fit.searches[fit.best]
        yield best.z, best.cost if stage == len(stages) - 1 else np.inf


def cma_es(problem, starts: list, seed: int = 0) -> Iterator[tuple[np.ndarray, float]]:
    """CMA-ES (Hansen's own implementation, package `cma`) on z, first from the first start, then from the next."""
    try:
        import cma
    except ImportError as error:
        raise ValueError("the CMA-ES baseline needs the package cma: pip install 'jaxphys[bench]'") from error

    template = starts[0]
    for number, start in enumerate(starts):
        options = {"seed": seed + number + 1, "verbose": -9, "bounds": [-identify.EDGE, identify.EDGE]}
        # the package needs two dimensions; a single unknown gets a second one without effect
        flat = np.asarray(ravel_pytree(start)[0], np.float64)
        size = len(flat)
        strategy = cma.CMAEvolutionStrategy(np.resize(flat, max(size, 2)), 1.5, options)
        while not strategy.stop():
            points, costs = strategy.ask(), []
            for point in points:
                cost = float(cost_of(problem, jnp.asarray(point[:size], jnp.float32), template))
                costs.append(min(cost, 1e12))
                yield np.asarray(point[:size]), cost
            strategy.tell(points, costs)


def adam(problem, starts: list, gradient: str, rate: float = 0.2) -> Iterator[tuple[np.ndarray, float]]:
    """Adam (constant rate) by reverse mode, exact or with the gradient of the last substep of each frame only.

    From the first start, for 150 steps, then from the next, and so on, round and round from where each was left.
    """
    import optax

    template = starts[0]
    _, unravel = ravel_pytree(template)
    optimizer = optax.adam(rate)

    @jax.jit
    def step(problem, flat, state):
        frames = problem.seen.frames
        cost, slope = jax.value_and_grad(lambda z: identify.loss(problem, unravel(z), frames, gradient=gradient))(flat)
        works = jnp.isfinite(cost) & jnp.isfinite(jnp.sum(slope * slope))
        update, state = optimizer.update(jnp.where(works, slope, 0.0), state)
        moved = jnp.clip(flat + jnp.where(works, update, 0.0), -identify.EDGE, identify.EDGE)
        return moved, state, jnp.where(works, cost, jnp.inf)

    size = problem.seen.x.size
    flats = [jnp.asarray(ravel_pytree(z)[0]) for z in starts]
    states = [optimizer.init(z) for z in flats]
    while True:
        for k in range(len(starts)):
            for _ in range(150):
                before = flats[k]
                flats[k], states[k], cost = step(problem, flats[k], states[k])
                yield np.asarray(before, np.float64), float(cost) * size
