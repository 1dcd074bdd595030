"""From what a prompt asks to a belief over one parameter: candidates, refinement by the gradient, posterior.

Candidates are simulated in the world of the clips (`scenes.clips`), where a body is 0.34 m long, at equal Froude
number: with lengths times s, g and the density as they are,

    time * s^(1/2),   stress and stiffness * s,   viscosity * s^(3/2)

so a large body moves as its small image does, slower, and outcomes that are ratios are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.motion_fields import Field, outcomes_at
from experiments.motion_scenes import HeldOut
from experiments.motion_words import FINE, Belief
from jaxphys import language, mpm
from jaxphys.language import captions
from jaxphys.methods.motion_outcomes import compare
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import Outcomes

LENGTH = 0.34  # of a body in the world of the clips [m]
MAIN = {
    "elastic": "E",
    "viscoelastic": "E",
    "snow": "E",
    "metal": "yield_stress",
    "plasticine": "yield_stress",
    "foam": "yield_stress",
    "non_newtonian": "yield_stress",
    "sand": "friction_angle",
    "newtonian": "viscosity",
    "water": "bulk_modulus",
}
"""The parameter that is searched, for each model of `language.propose`."""
POWER = {"Pa": 1.0, "Pa s": 1.5}  # of the scale, by unit


@dataclasses.dataclass(frozen=True)
class Small(HeldOut):
    """A body of a job in the world of the clips; coordinates are those of the job's own scale."""

    model: str = "elastic"
    law_key: str = "neo_hookean"
    scale: float = 1.0  # s
    span: tuple[float, float] = (0.0, 1.0)
    start: float = 0.5  # the proposal
    weight: float = 1.0  # of its class, before anything is simulated

    @property
    def name(self) -> str:
        return self.law_key

    @property
    def unknown(self) -> str:
        return MAIN[self.model]

    @property
    def law_name(self) -> str:
        return self.law_key

    @property
    def ends(self) -> tuple[float, float]:
        return self.span

    def law(self, coordinate) -> Any:
        value = coordinate if self.linear else 10.0**coordinate
        law = dataclasses.replace(self.scene.law, **{self.unknown: value})
        return shrunk(law, self.scale)

    def own_law(self, coordinate: float) -> Any:
        """The law at the job's own scale."""
        return dataclasses.replace(self.scene.law, **{self.unknown: coordinate if self.linear else 10.0**coordinate})

    def log_prior(self, coordinate) -> Any:
        """Logarithm of the proposal's density: normal, its deviation half of the wider side of the range."""
        deviation = 0.5 * max(self.start - self.span[0], self.span[1] - self.start)
        return -0.5 * ((coordinate - self.start) / deviation) ** 2


def shrunk(law: Any, scale: float) -> Any:
    """The law of the image of a body that is `scale` times as long.

    >>> law = mpm.materials.create("neo_hookean", density=1000.0, E=1e5, nu=0.3)
    >>> float(shrunk(law, 0.25).E)
    25000.0
    """
    powers = {name: POWER[b.unit] for name, b in law.bounds.items() if b.unit in POWER}
    return dataclasses.replace(law, **{name: getattr(law, name) * scale**p for name, p in powers.items()})


def small_scene(
    points: np.ndarray,
    volume: float,
    proposal: language.Proposal,
    weight: float,
    world: clips.World,
    *,
    drop: float,
    least: float,
    seed: int,
    part: np.ndarray | None = None,
    others: tuple = (),
) -> Small:
    """The image of a body, or of an object of several parts, that is dropped.

    Args:
        points: evenly inside the body [m] (N, 3), at least `world.particles` of them.
        volume: of the body [m^3].
        proposal: its material.
        weight: of the class.
        world: sizes.
        drop: height of its lowest point over the ground [m].
        least: half width of the range in decades (degrees for an angle: 15 times that), at least.
        seed: of the choice of points.
        part: 0 for the points of the part in question, k for those of the part with law others[k - 1] (N,).
        others: laws of the other parts at the object's own scale.

    Raises:
        ValueError: the law has no parameter to search, or too few points.
    """
    if proposal.model not in MAIN:
        raise ValueError(f"motionphysics: no parameter of {proposal.model!r} is searched; known: {', '.join(MAIN)}")
    if len(points) < world.particles:
        raise ValueError(
            f"motionphysics: {len(points)} points fill the body, config.particles asks for {world.particles}: "
            "ask for fewer or make dx_m smaller"
        )
    rng = np.random.default_rng(seed)
    scale = LENGTH / float(np.ptp(points, axis=0).max())
    chosen = rng.permutation(len(points))[: world.particles]
    index = np.zeros(len(chosen), int) if part is None else np.asarray(part)[chosen]
    chosen, counts = chosen[np.argsort(index, kind="stable")], np.bincount(index, minlength=1 + len(others))
    if counts.min() < 8:
        raise ValueError(f"motionphysics: the parts get {counts.tolist()} particles of a candidate; enlarge the boxes")
    x = points[chosen] * scale
    low, high = x.min(0), x.max(0)
    x = x - [*(0.5 * (low + high))[:2], low[2] - drop * scale - 0.5 * world.dx]
    room = world.height - world.dx
    if x[:, 2].max() > room:
        x[:, 2] -= x[:, 2].max() - room
    waves = rng.normal(size=(2, 3)) * rng.uniform(15.0, 35.0, (2, 1))
    unknown = MAIN[proposal.model]
    law: Any = mpm.materials.create(proposal.law, density=proposal.density, **proposal.simulated)
    linear = unknown == "friction_angle"
    value, asked = float(getattr(law, unknown)), proposal.ranges.get(unknown)
    start = value if linear else float(np.log10(value))
    half = 15.0 * least if linear else least
    if asked is not None and not linear and asked.lo > 0:
        half = max(half, 0.5 * float(np.log10(asked.hi / asked.lo)))
    span = (max(start - half, 5.0), min(start + half, 60.0)) if linear else (start - half, start + half)
    as32 = lambda a: np.asarray(a, np.float32)
    scene = clips.ClipScene(
        law=law,
        x=as32(x),
        v=np.zeros((len(x), 3), np.float32),
        volume=as32(volume * scale**3 / len(x)),
        texture=as32(1 / (1 + np.exp(-4 * np.cos(x @ waves.T).sum(1)))),
        tool=np.zeros(8, np.float32),
        grip=as32([0, 0, 0, 1e-3, 1e-3, 1e-3]),
        pull=as32([0, 0, 0, 1e-3, 1e-3, 1e-3, 0, 0, 0, 0]),
        view=as32([35.0, 15.0, np.mean(clips.DISTANCE)]),
    )
    about: dict[str, Any] = dict(
        number=0,
        kind="job",
        material=proposal.model if proposal.model in captions.NAMED["material"] else "elastic",
        action="dropped",
        shape="",
        scene=scene,
        first=int(counts[0]),
        volumes=np.full(len(x), scene.volume, np.float32),
        others=tuple(shrunk(other, scale) for other in others),
        counts=tuple(int(n) for n in counts[1:]),
        model=proposal.model,
        law_key=proposal.law,
        scale=scale,
        start=start,
        weight=weight,
    )
    while True:  # what a coarse candidate cannot afford is left out
        small = Small(**about, span=span)
        try:
            small.substeps(world, np.array(span))
            return small
        except ValueError:
            if span[1] <= start:
                raise
            span = (span[0], max(start, span[1] - 0.1 * half))


def opposite(caption: Mapping[str, str]) -> dict[str, str]:
    """The caption with every word of a scale mirrored in it.

    >>> opposite({"shape": "ball", "squash": "keeps", "rebound": "half"})
    {'shape': 'ball', 'squash': 'flat', 'rebound': 'low'}
    """
    out = dict(caption)
    for slot, word in caption.items():
        if slot in captions.SCALES:
            values = list(captions.SCALES[slot].values)
            out[slot] = values[-1 - values.index(word)]
    return out


def misfit(
    small: Small, world: clips.World, caption: Mapping[str, str], by_prior: Callable[[Any], Any]
) -> Callable[[float], tuple[float, float]]:
    """-log(posterior) but for a constant, and its slope, exact by forward mode.

    The posterior is that of `belief_of`: outcome words, the proposal's density, and `by_prior`, the log-likelihood by
    a video model; only the outcomes are simulated instead of interpolated.
    """

    def call(u: float) -> tuple[float, float]:
        steps = small.substeps(world, np.array([u]))

        def of(u):
            measured, code = outcomes_at(small, world, u, steps)
            score = compare(jax.tree.map(jnp.atleast_1d, measured), caption).score[0]
            value = -jnp.log(jnp.maximum(score, 1e-30)) - small.log_prior(u) - by_prior(u)
            return jnp.where(code == 0, value, jnp.inf)

        value, slope = jax.jvp(of, (jnp.float32(u),), (jnp.float32(1.0),))
        return float(value), float(slope)

    return call


def refine(
    value_and_slope: Callable[[float], tuple[float, float]],
    start: float,
    ends: tuple[float, float],
    steps: int,
    known: list[tuple[float, float, float]] | None = None,
    save: Callable[[list], None] = lambda path: None,
) -> list[tuple[float, float, float]]:
    """Goes down the slope from a candidate; a step that does not go down is halved (Armijo's rule in one unknown).

    Args:
        value_and_slope: of the misfit.
        start: coordinate.
        ends: range.
        steps: evaluations, at most.
        known: what an interrupted search had found, gone on from.
        save: called after every evaluation.

    Returns:
        (coordinate, value, slope) of every evaluation; the answer is the one with the least value.

    >>> path = refine(lambda u: ((u - 1.0) ** 2, 2 * (u - 1.0)), 0.0, (-4.0, 4.0), 20)
    >>> round(min(path, key=lambda p: p[1])[0], 1)
    1.0
    """
    span, path = ends[1] - ends[0], list(known or [])
    reach = span / 8
    best: tuple[float, float, float] | None = None
    for i in range(steps):
        if i < len(path):
            now = path[i]
        else:
            u = start if best is None else float(np.clip(best[0] - np.sign(best[2]) * reach, *ends))
            now = (u, *value_and_slope(u))
            path.append(now)
            save(path)
        if best is None or now[1] < best[1]:
            best = now
        else:
            reach *= 0.5
        flat = not np.isfinite(best[2]) or abs(best[2]) * span < 1e-2
        if flat or reach < span / 100:
            break
    return path


def belief_of(
    small: Small, field: Field, caption: Mapping[str, str], more: np.ndarray | None = None
) -> tuple[Belief, float]:
    """The posterior of one class, and the logarithm of its evidence.

    Args:
        small: the class.
        field: its candidates.
        caption: outcome words count; none: only `more` and the proposal do.
        more: log-likelihood of the candidates by a video model (K,).
    """
    values, sound = np.linspace(*small.ends, FINE), field.sound
    log = np.asarray(small.log_prior(values), np.float64)
    log -= np.log(np.exp(log).sum())
    if any(slot in caption for slot in captions.OUTCOMES):
        if not sound.any():
            raise ValueError(f"motionphysics: no candidate of {small.law_key} could be simulated; lower least_decades")
        rows = [np.interp(values, field.grid[sound], field.outcomes[: len(sound)][sound, i]) for i in range(6)]
        # scatter between candidates does not count here: where none does as asked, the most erratic would win
        score = np.asarray(compare(Outcomes(*(np.float32(r) for r in rows)), caption).score, np.float64)
        log = log + np.log(np.maximum(score, 1e-30))
    if more is not None:
        log = log + np.interp(values, field.grid, more)
    top = log.max()
    return Belief.of(small.ends, np.exp(log - top)), float(top + np.log(np.exp(log - top).sum()))
