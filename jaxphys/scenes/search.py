"""A fit from several starts at once: stages, when to stop, and a state that can be stored after every step.

The first stages let only the first frames count, or blurred pictures, so that a start far off is drawn to the right
place before the details matter; the last stage is the cost itself.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxphys.files import atomic_path
from jaxphys.scenes.identify import Normal, Problem, Search, normal_equations
from jaxphys.scenes.observe import Video

ENOUGH = 1e-2  # a predicted fall of |r|^2 / 2 below this moves no parameter by more than 0.15 of its deviation
STALLED = 1e-5  # greatest change of z
NEW, GIVEN_UP = -1, -2  # in place of a number of steps


@dataclasses.dataclass(frozen=True)
class Stage:
    """What counts, and for how long at most."""

    horizon: int  # frames, from the first
    blur: float = 0.0  # of both pictures [pixel]
    steps: int = 30  # of each start; 0: its cost alone
    keep: int = 2  # starts that go on to the next stage, those with the least cost


@dataclasses.dataclass(frozen=True)
class Fit:
    """Where a fit stands: all that is needed to go on."""

    searches: tuple[Search, ...]  # one per start
    taken: tuple[int, ...]  # steps of each start in this stage; -1: the stage's cost is not known yet; -2: given up
    stage: int = 0
    evaluations: int = 0  # of the normal equations, summed over the starts
    history: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 0)))  # (K, S, 2 + P)

    @property
    def best(self) -> int:
        """The start with the least cost."""
        return min((k for k, n in enumerate(self.taken) if n != GIVEN_UP), key=lambda k: self.searches[k].cost)


def default_stages(problem: Problem) -> tuple[Stage, ...]:
    """The first third of the frames, then two thirds, then all; a video blurred over a sixteenth, a fortieth, not.

    Of all starts the three with the least cost are searched from, and the best two of those to the end.
    """
    frames = problem.seen.frames
    early, later = max(1, -(-frames // 3)), max(1, -(-2 * frames // 3))
    size = problem.seen.image.shape[2] if isinstance(problem.seen, Video) else 0
    return (
        Stage(early, size / 16, steps=0, keep=3),
        Stage(early, size / 16, steps=10),
        Stage(later, size / 40, steps=12),
        Stage(frames, steps=40),
    )


def begin(starts: Sequence[dict[str, jax.Array]]) -> Fit:
    """A fit before its first evaluation.

    Args:
        starts: unconstrained numbers by name (`identify.encode`), all of the same shapes.

    Raises:
        ValueError: no start.
    """
    if not starts:
        raise ValueError("begin: give at least one start")
    flat = [np.asarray(ravel_pytree(z)[0], np.float64) for z in starts]
    count = len(flat[0])
    blank = (np.inf, np.zeros(count), np.zeros((count, count)))
    searches = tuple(Search(z, *blank) for z in flat)
    return Fit(searches, (NEW,) * len(flat), history=np.zeros((0, len(flat), 2 + count)))


@functools.partial(jax.jit, static_argnames=("vmapped",))
def _evaluate(problem: Problem, flat: jax.Array, template, horizon, blur, vmapped: bool) -> Normal:
    _, unravel = ravel_pytree(template)
    one = lambda z: normal_equations(problem, unravel(z), horizon, blur)
    return jax.vmap(one)(flat) if vmapped else one(flat)


def evaluate(problem: Problem, zs: Sequence[np.ndarray], template, stage: Stage, vmapped: bool = True) -> list[Normal]:
    """The normal equations at several flat z: all at once by `vmap`, or one after the other."""
    horizon, blur = jnp.int32(stage.horizon), jnp.float32(stage.blur)
    dtype = problem.particles.x.dtype
    if not vmapped:
        return [_evaluate(problem, jnp.asarray(z, dtype), template, horizon, blur, False) for z in zs]
    together = jax.device_get(_evaluate(problem, jnp.asarray(np.stack(zs), dtype), template, horizon, blur, True))
    return [jax.tree.map(lambda a, k=k: a[k], together) for k in range(len(zs))]


def done(fit: Fit, stages: Sequence[Stage]) -> bool:
    """True after the last stage."""
    return fit.stage >= len(stages)


def settled(search: Search, taken: int, limit: int) -> bool:
    """True when a start has nothing left to do in its stage."""
    if taken == NEW:
        return False
    if taken == GIVEN_UP or not np.isfinite(search.cost) or taken >= limit or search.step < STALLED:
        return True
    return search.damping < 1.0 and search.gain(search.propose()) < ENOUGH


def best_different(searches: Sequence[Search], alive: Sequence[int], count: int) -> list[int]:
    """The starts of least cost; of several with one and the same cost (unknowns without effect differ) the first."""
    kept: list[int] = []
    for k in sorted(alive, key=lambda k: searches[k].cost):
        if len(kept) < count and not any(np.isclose(searches[k].cost, searches[j].cost, rtol=1e-4) for j in kept):
            kept.append(k)
    return kept


def advance(
    problem: Problem, fit: Fit, template: Any, stages: Sequence[Stage], vmapped: bool = True, normals_at=evaluate
) -> Fit:
    """One evaluation of every start that is not settled.

    Args:
        problem: what is fitted.
        fit: where it stands.
        template: z of one start, for its names and shapes.
        stages: what counts when.
        vmapped: evaluate all starts at once; False: one after the other, and none that is settled.
        normals_at: what gives the normal equations.

    Returns:
        The fit after it; the next stage begins as soon as all starts are settled.
    """
    stage = stages[fit.stage]
    alive = [k for k, n in enumerate(fit.taken) if n != GIVEN_UP]
    active = [k for k in alive if not settled(fit.searches[k], fit.taken[k], stage.steps)]
    searches, taken = list(fit.searches), list(fit.taken)
    if not active:
        if fit.stage + 1 < len(stages):
            kept = best_different(searches, alive, stage.keep)
            taken = [NEW if k in kept else GIVEN_UP for k in range(len(taken))]
        return dataclasses.replace(fit, stage=fit.stage + 1, taken=tuple(taken))
    which = alive if vmapped else active  # settled starts ride along, so that fewer shapes are compiled
    zs = {k: searches[k].propose() if k in active and taken[k] != NEW else searches[k].z for k in which}
    normals = dict(zip(which, normals_at(problem, list(zs.values()), template, stage, vmapped)))
    for k in active:
        searches[k] = Search.at(zs[k], normals[k]) if taken[k] == NEW else searches[k].advance(zs[k], normals[k])
        taken[k] += 1
    row = [[fit.stage, s.cost, *s.z] for s in searches]
    history = np.concatenate([fit.history, np.asarray(row)[None]])
    return Fit(tuple(searches), tuple(taken), fit.stage, fit.evaluations + len(active), history)


def store(path: str | os.PathLike, fit: Fit, **extra) -> None:
    """Writes a fit (npz), whole or not at all; `extra` arrays are kept with it."""
    fields = {f.name: np.stack([getattr(s, f.name) for s in fit.searches]) for f in dataclasses.fields(Search)}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            **{f"search_{name}": a for name, a in fields.items()},
            taken=fit.taken,
            stage=fit.stage,
            evaluations=fit.evaluations,
            history=fit.history,
            **{f"extra_{name}": a for name, a in extra.items()},
        )


def read_extra(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The extra arrays that are kept with a fit."""
    with np.load(path) as file:
        return {name.removeprefix("extra_"): file[name] for name in file.files if name.startswith("extra_")}


def restore(path: str | os.PathLike) -> tuple[Fit, dict[str, np.ndarray]]:
    """Reads what `store` wrote: the fit, to the last bit, and the extra arrays.

    Raises:
        ValueError: the file is not one of `store`.
    """
    try:
        with np.load(path) as file:
            data = dict(file)
        names = [f.name for f in dataclasses.fields(Search)]
        searches = []
        for k in range(len(data["taken"])):
            values = {n: data[f"search_{n}"][k] for n in names}
            searches.append(Search(**{n: float(v) if v.ndim == 0 else v for n, v in values.items()}))
        taken, stage = tuple(int(n) for n in data["taken"]), int(data["stage"])
        fit = Fit(tuple(searches), taken, stage, int(data["evaluations"]), data["history"])
    except (KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} does not hold a stored fit ({error}); delete it to begin anew") from error
    return fit, {name.removeprefix("extra_"): a for name, a in data.items() if name.startswith("extra_")}
