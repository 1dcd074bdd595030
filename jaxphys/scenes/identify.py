"""Parameters of a scene from what was seen of it: Gauss-Newton by forward mode, and how certain the answer is.

The unknowns stand for a few numbers (a stiffness, a yield stress, an initial velocity, gravity) or for fields (one
value per part or per particle). Each is bounded, and the search moves unconstrained numbers z (`mpm.parameters`). With
residuals r(z), each divided by the standard deviation of its error, the cost is |r|^2 / 2, and the Fisher matrix is

    H = J^T J,   J = dr/dz by one forward-mode pass per unknown,   covariance of z = H^-1

so the same matrix steers the search and says, before any search, which parameters this scene can show.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.spatial import cKDTree

from jaxphys import mpm
from jaxphys.mpm.materials import Bound
from jaxphys.mpm.materials import check as check_law
from jaxphys.mpm.parameters import constrain, to_constrained, to_unconstrained
from jaxphys.pytree import pytree, static
from jaxphys.scenes.observe import Tracks, Video

TANGENTS = 16  # unknowns that forward mode carries at once
EDGE, BROAD = 4.6, 3.0  # limit and prior deviation of z
VECTORS = {"velocity": "m/s", "gravity": "m/s^2"}  # unknowns of the scene: three numbers each


@pytree
class Problem:
    """A scene with unknowns and what was seen of it; make one with `problem`."""

    law: mpm.materials.Law  # its unknown parameters are replaced
    particles: mpm.Particles  # at t = 0
    scene: mpm.Scene
    seen: Tracks | Video
    part: jax.Array | None  # index of the part of each particle (N,), for unknowns of shape (P,)
    pairs: jax.Array | None  # neighbours (K, 2) whose values should be alike, for unknowns with one value each
    smoothness: Any  # standard deviation of z between neighbours
    config: mpm.Config = static()
    ranges: tuple = static()  # ((name, Bound), ...)

    @property
    def bounds(self) -> dict[str, Bound]:
        return dict(self.ranges)


def problem(
    law: mpm.materials.Law,
    particles: mpm.Particles,
    scene: mpm.Scene,
    config: mpm.Config,
    seen: Tracks | Video,
    ranges: Mapping[str, Bound],
    *,
    part=None,
    smoothness: float | None = None,
    neighbours: int = 6,
) -> Problem:
    """States a problem, with a time step that the stiffest admissible parameters allow.

    Args:
        law: one law; values of its unknown parameters are ignored.
        particles: at t = 0.
        scene: gravity, boundaries, forces.
        config: frames as seen; with `substeps="auto"` the number for the stiffest corner of the ranges is put in.
        seen: what was seen.
        ranges: the unknowns: parameters of the law, "velocity" (uniform, of all particles) and "gravity".
        part: index of the part of each particle (N,); unknowns of the law may then hold one value per part.
        smoothness: for per-particle fields, the standard deviation of the difference of z between neighbours.
        neighbours: how many neighbours of each particle that prior joins.

    Raises:
        ValueError: an unknown name, an infinite or empty range, frames that do not fit, an unstable step.
    """
    if config.frames != seen.frames:
        raise ValueError(f"problem: config.frames = {config.frames} but {seen.frames} frames were seen")
    if isinstance(seen, Tracks) and seen.x.shape[1:] != (particles.count, 3):
        raise ValueError(f"problem: tracks of shape {seen.x.shape} do not fit {particles.count} particles")
    if isinstance(seen, Video) and len(seen.gaussians) > particles.count:
        raise ValueError(f"problem: {len(seen.gaussians)} Gaussians need as many particles, got {particles.count}")
    known = {**law.bounds, **{name: None for name in VECTORS}}
    for name, bound in ranges.items():
        if name not in known:
            raise ValueError(f"problem: {type(law).__name__} has no parameter {name!r}; choose of {', '.join(known)}")
        if not np.isfinite([bound.lo, bound.hi]).all() or not bound.lo < bound.hi:
            raise ValueError(f"problem: the range of {name} must be finite with lo < hi, got {bound.lo} to {bound.hi}")
        if name in VECTORS and bound.scale != "linear":
            raise ValueError(f"problem: {name} needs a range on a linear scale")
        if bound.scale == "log" and bound.lo <= 0:
            raise ValueError(f"problem: the range of {name} is on a log scale and must be positive, got {bound.lo}")
    if not ranges:
        raise ValueError("problem: no unknowns; give at least one range")
    if part is not None and np.shape(part) != (particles.count,):
        raise ValueError(f"problem: part must hold one index per particle ({particles.count},), got {np.shape(part)}")
    law, config = _stable(law, particles, scene, config, ranges)
    pairs = None
    if smoothness is not None:
        x = np.asarray(particles.x)
        _, near = cKDTree(x).query(x, k=min(neighbours, len(x) - 1) + 1)
        pairs = np.stack([np.repeat(np.arange(len(x)), near.shape[1] - 1), near[:, 1:].reshape(-1)], 1)
        pairs = jnp.asarray(np.unique(np.sort(pairs, 1), axis=0))
    part = None if part is None else jnp.asarray(part, jnp.int32)
    return Problem(law, particles, scene, seen, part, pairs, smoothness, config, tuple(sorted(ranges.items())))


def _stable(law, particles, scene, config, ranges):
    """The law at the middle of the ranges, and the substeps of their stiffest corner."""
    named = {name: b for name, b in ranges.items() if name in law.bounds}
    stiff = dataclasses.replace(law, **{n: b.lo if n in ("density", "exponent") else b.hi for n, b in named.items()})
    check_law(stiff, type(law).__name__)
    if "velocity" in ranges:
        fastest = jnp.full((3,), max(abs(ranges["velocity"].lo), abs(ranges["velocity"].hi)))
        particles = dataclasses.replace(particles, v=jnp.broadcast_to(fastest, particles.v.shape))
    if "gravity" in ranges:
        strongest = max(abs(ranges["gravity"].lo), abs(ranges["gravity"].hi))
        scene = dataclasses.replace(scene, gravity=(strongest,) * 3)
    substeps = mpm.resolve_substeps((stiff,), particles, scene, config)
    return law, dataclasses.replace(config, substeps=substeps)


def encode(problem: Problem, values: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Unconstrained numbers z for values of the unknowns, strictly inside their ranges; scalars fit vectors too.

    Raises:
        ValueError: a value is missing, on the end of its range or outside.
    """
    if set(values) != set(problem.bounds):
        raise ValueError(f"encode: expected values of {sorted(problem.bounds)}, got {sorted(values)}")
    z = {}
    for name, bound in problem.bounds.items():
        value = np.asarray(values[name], float)
        if not ((value > bound.lo) & (value < bound.hi)).all():
            raise ValueError(f"encode: {name} = {values[name]} is not strictly inside {bound.lo:g} to {bound.hi:g}")
        if name in VECTORS:
            value = np.broadcast_to(value, (3,))
        z[name] = jnp.asarray(to_unconstrained(jnp.asarray(value, problem.particles.x.dtype), bound))
    return z


def decode(problem: Problem, z: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """Values of the unknowns for unconstrained numbers."""
    return {name: to_constrained(z[name], bound) for name, bound in problem.bounds.items()}


def substitute(problem: Problem, z: Mapping[str, jax.Array]) -> tuple[Any, mpm.Particles, mpm.Scene]:
    """The law, the particles and the scene that z stands for."""
    ranges = problem.bounds
    named = {name: value for name, value in z.items() if name in problem.law.bounds}
    law = constrain(named, problem.law, ranges={n: ranges[n] for n in named}, part=problem.part)
    particles, scene = problem.particles, problem.scene
    if "velocity" in z:
        v = jnp.broadcast_to(to_constrained(z["velocity"], ranges["velocity"]), particles.v.shape)
        particles = dataclasses.replace(particles, v=v.astype(particles.v.dtype))
    if "gravity" in z:
        scene = dataclasses.replace(scene, gravity=tuple(to_constrained(z["gravity"], ranges["gravity"])))
    return law, particles, scene


def predict(problem: Problem, z: Mapping[str, jax.Array], gradient: str = "forward") -> mpm.Trajectory:
    """The simulated motion for z; `gradient` as in `mpm.Config`."""
    law, particles, scene = substitute(problem, z)
    config = dataclasses.replace(problem.config, gradient=gradient)
    save = ("x", "F") if isinstance(problem.seen, Video) and not problem.seen.rigid else ("x",)
    return mpm.simulate(law, particles, scene, config, save=save)


def residuals(problem: Problem, z, horizon, blur=0.0, gradient: str = "forward") -> tuple[jax.Array, jax.Array]:
    """Errors in units of their standard deviation, and whether the simulation failed.

    Args:
        problem: the problem.
        z: unconstrained numbers by name.
        horizon: frames that count, from the first; later ones give 0.
        blur: for a video, width of a Gaussian filter over both pictures [pixel].
        gradient: the mode it will be differentiated in, as in `mpm.Config`.

    Returns:
        Residuals (M,), those of the smoothness prior last, and failed () bool.
    """
    path = predict(problem, z, gradient)
    seen = problem.seen
    r = (seen.residuals if gradient == "forward" else seen.residuals_reverse)(path.x, path.F, blur)
    counted = jnp.arange(seen.frames) < horizon
    r = jnp.where(counted.reshape(-1, *[1] * (r.ndim - 1)), r, 0.0)
    failed = (path.status.code > 0) & (path.status.substep < horizon * problem.config.substeps)
    parts = [r.reshape(-1)]
    if problem.pairs is not None:
        fields = [a for name, a in sorted(z.items()) if jnp.shape(a) == (problem.particles.count,)]
        parts += [(a[problem.pairs[:, 0]] - a[problem.pairs[:, 1]]) / problem.smoothness for a in fields]
    return jnp.concatenate(parts), failed


@pytree
class Normal:
    """The normal equations of Gauss and Newton at one z."""

    cost: Any  # |r|^2 / 2, infinite where the simulation failed ()
    gradient: Any  # J^T r (P,)
    fisher: Any  # J^T J (P, P)


@jax.jit
def normal_equations(problem: Problem, z, horizon, blur=0.0) -> Normal:
    """Cost, gradient and Fisher matrix by forward mode: one simulation and one tangent per unknown, exact.

    `jax.vmap` over z evaluates several starts at once. Many unknowns go `TANGENTS` at a time, each time with the
    simulation itself.

    Args:
        problem, z, horizon, blur: as for `residuals`.

    Returns:
        Normal, rows in the order of `jax.flatten_util.ravel_pytree(z)`.
    """
    flat, unravel = ravel_pytree(z)

    def push(tangent):
        r, dr, failed = jax.jvp(
            lambda q: residuals(problem, unravel(q), horizon, blur), (flat,), (tangent,), has_aux=True
        )
        return r, dr, failed

    eye = jnp.eye(flat.size, dtype=flat.dtype)
    if flat.size <= TANGENTS:
        r, J, failed = jax.vmap(push, out_axes=(None, 0, None))(eye)
    else:
        r, failed = residuals(problem, z, horizon, blur)
        J = jax.lax.map(lambda tangent: push(tangent)[1], eye, batch_size=TANGENTS)
    cost = 0.5 * jnp.sum(r * r)
    failed = failed | ~jnp.isfinite(cost) | ~jnp.isfinite(jnp.sum(J * J))
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return Normal(jnp.where(failed, jnp.inf, cost), product(J, r), product(J, J.T))


def loss(problem: Problem, z, horizon, blur=0.0, gradient: str = "exact") -> jax.Array:
    """|r|^2 / 2 per residual, for reverse mode: the way to many unknowns.

    NaN where the simulation failed.
    """
    r, failed = residuals(problem, z, horizon, blur, gradient)
    return jnp.where(failed, jnp.nan, 0.5 * jnp.mean(r * r))


@dataclasses.dataclass(frozen=True)
class Search:
    """One start of a Levenberg-Marquardt search; plain float64 numbers, so that it can be stored and gone on from."""

    z: np.ndarray  # (P,)
    cost: float
    gradient: np.ndarray  # (P,)
    fisher: np.ndarray  # (P, P)
    damping: float = 1e-2  # relative to the diagonal of the Fisher matrix
    growth: float = 2.0  # factor on the damping after the next refusal
    step: float = np.inf  # greatest change of z in the last accepted step

    @classmethod
    def at(cls, z: np.ndarray, normal: Normal) -> Search:
        return cls(np.asarray(z, np.float64), float(normal.cost), *_host(normal))

    def with_prior(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Cost, gradient and Fisher matrix with a broad prior on z: normal, of mean 0 and deviation `BROAD`.

        It weighs nothing beside data that show an unknown, and leads one that has no effect at this z (a yield stress
        that is never reached) back to the middle of its range, where it may have one.
        """
        weight = BROAD**-2
        cost = self.cost + 0.5 * weight * float(self.z @ self.z)
        return cost, self.gradient + weight * self.z, self.fisher + weight * np.eye(len(self.z))

    def propose(self, longest: float = 1.0) -> np.ndarray:
        """The next z to try: (H + damping D) step = -gradient, no component of the step longer than `longest`.

        D is the diagonal of H. (Levenberg 1944, Marquardt 1963.) z stays within +-`EDGE`: farther out the ends of the
        ranges are reached but for a hundredth, and a search would lose every slope that leads back.
        """
        _, gradient, fisher = self.with_prior()
        step = -np.linalg.solve(fisher + self.damping * np.diag(np.diag(fisher)), gradient)
        z = self.z + step * min(1.0, longest / max(float(np.max(np.abs(step))), 1e-300))
        return np.clip(z, -EDGE, EDGE)

    def gain(self, z: np.ndarray) -> float:
        """The fall of the cost that the quadratic model promises for going to z."""
        _, gradient, fisher = self.with_prior()
        step = np.asarray(z) - self.z
        return -float(gradient @ step + 0.5 * step @ fisher @ step)

    def advance(self, z: np.ndarray, normal: Normal) -> Search:
        """The search after trying z: it moves there if the cost falls; the damping follows the gain (Nielsen 1999)."""
        there = Search.at(z, normal)
        step = float(np.max(np.abs(there.z - self.z)))
        fall = self.with_prior()[0] - there.with_prior()[0]
        if not np.isfinite(there.cost) or fall <= 0:
            return dataclasses.replace(self, damping=self.damping * self.growth, growth=2.0 * self.growth, step=step)
        ratio = fall / max(self.gain(z), 1e-300)
        damping = max(self.damping * max(1.0 / 5.0, 1.0 - (2.0 * ratio - 1.0) ** 3), 1e-9)
        return dataclasses.replace(there, damping=damping, step=step)


def _host(normal: Normal) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(normal.gradient, np.float64), np.asarray(normal.fisher, np.float64)


def sensitivity(problem: Problem, z) -> np.ndarray:
    """d ln(value) / dz of every unknown, or d(value)/dz over half its range for velocity and gravity; flat (P,)."""
    out = {}
    for name, bound in problem.bounds.items():
        value, slope = jax.jvp(lambda a, b=bound: to_constrained(a, b), (z[name],), (jnp.ones_like(z[name]),))
        out[name] = slope / (0.5 * (bound.hi - bound.lo) if name in VECTORS else value)
    return np.asarray(ravel_pytree(out)[0], np.float64)


def relative_sigma(problem: Problem, z, fisher) -> np.ndarray:
    """Standard deviation of every unknown relative to its value (velocity, gravity: to half its range), flat (P,).

    From the inverse of the Fisher matrix: each with all others unknown too. Infinite where the data show nothing of it.

    Args:
        problem: the problem.
        z: where the matrix was taken.
        fisher: (P, P).
    """
    fisher = np.asarray(fisher, np.float64)
    diagonal = np.diag(fisher)
    shown = diagonal > 1e-12 * max(float(diagonal.max()), 1e-300)
    sigma = np.full(len(diagonal), np.inf)
    if shown.any():
        root = np.sqrt(diagonal[shown])
        correlation = fisher[np.ix_(shown, shown)] / np.outer(root, root)
        values, vectors = np.linalg.eigh(correlation)
        # float32 residuals leave about seven digits: a smaller eigenvalue is not known to differ from 0
        variance = (vectors**2 / np.maximum(values, 1e-7)).sum(1)
        sigma[shown] = np.sqrt(variance) / root
    return sigma * np.abs(sensitivity(problem, z))


def labels(problem: Problem, z) -> list[str]:
    """A name for every entry of the flat z: "E", "velocity[2]", "E[17]"."""
    out = []
    for name, _ in problem.ranges:
        size = int(np.size(z[name]))
        out += [name] if np.ndim(z[name]) == 0 else [f"{name}[{i}]" for i in range(size)]
    return out


def unidentifiable(problem: Problem, starts: list, fishers: list, bar: float) -> dict[str, float]:
    """The unknowns that this scene cannot show: predicted relative sigma above `bar` at every start, {name: sigma}.

    The least over the starts counts, because an effect may set in only on one side: at a yield stress that is never
    reached the scene says nothing of it, at a lower one it does.
    """
    sigma = np.min([relative_sigma(problem, z, H) for z, H in zip(starts, fishers)], axis=0)
    return {name: float(s) for name, s in zip(labels(problem, starts[0]), sigma) if s > bar}
