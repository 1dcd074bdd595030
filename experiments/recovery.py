"""One scene per material that excites its parameters, with references simulated from known values.

A seed moves every particle by up to a tenth of its spacing, changes the velocity by up to 5 %, and draws the noise:
1 mm on every coordinate of a track, 0.02 on every pixel of a video (48 x 48, one camera). The object is 0.2 to 0.3 m
large. A fit knows the particles and the scene, and starts one decade (on a linear scale: half the range) from every
true value.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments.blocks import block
from experiments.report import ROOT, write_json
from experiments.validate import CASES, source_hash
from jaxphys import mpm, scenes, splats
from jaxphys.camera import Camera
from jaxphys.mpm.materials import Bound
from jaxphys.scenes import identify, search

TRACK_SIGMA = 1e-3  # [m]
PIXEL_SIGMA = 0.02
PIXELS = 48
NU = Bound(0.0, 0.45, "1", "linear")


def decades(truth: float, unit: str) -> Bound:
    """A range of 2.5 decades with the true value inside but not in its middle."""
    return Bound(truth / 30.0, truth * 12.0, unit)


@dataclasses.dataclass(frozen=True)
class Excitation:
    """A material, its true values, and the scene that shows them."""

    law: str
    truth: dict[str, float]
    ranges: dict[str, Bound]
    known: dict[str, float]
    lo: tuple[float, float, float] = (0.15, 0.15, 0.01)  # block [m]
    hi: tuple[float, float, float] = (0.35, 0.35, 0.21)
    velocity: tuple[float, float, float] = (0.4, 0.0, -2.0)  # [m/s]
    size: tuple[float, float, float] = (0.5, 0.5, 0.4)  # domain [m]
    dx: float = 0.05
    seconds: float = 0.3
    frames: int = 10
    walls: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(friction=0.3))

    @property
    def flows(self) -> bool:
        return self.law in scenes.draw.FLOWING


def _excite(law, truth, known, units, **options) -> Excitation:
    ranges = {n: NU if n == "nu" else decades(v, units[n]) for n, v in truth.items()}
    return Excitation(law, truth, ranges | options.pop("ranges", {}), {"density": 1000.0} | known, **options)


PA, PAS = "Pa", "Pa s"
SOLID = dict(E=PA, nu="1")
SCENES: dict[str, Excitation] = {
    # a block thrown on the floor bounces: the period gives E, the bulge nu
    "elastic": _excite("neo_hookean", dict(E=2e4, nu=0.3), {}, SOLID),
    # a bar hits the floor (Taylor's test): elastic precursor, mushroomed foot
    "metal": _excite(
        "metal",
        dict(E=1e5, nu=0.3, yield_stress=3e3, hardening=1e4),
        {},
        SOLID | dict(yield_stress=PA, hardening=PA),
        lo=(0.175, 0.175, 0.01),
        hi=(0.325, 0.325, 0.31),
        velocity=(0.4, 0.0, -3.0),
        seconds=0.15,
    ),
    # a column collapses
    "sand": _excite(
        "sand",
        dict(friction_angle=25.0),
        dict(E=1e5, nu=0.3),
        {"friction_angle": "degrees"},
        ranges={"friction_angle": Bound(5.0, 55.0, "degrees", "linear")},
        lo=(0.0, 0.0, 0.0),
        hi=(0.1, 0.05, 0.2),
        velocity=(0.1, 0.0, 0.0),
        size=(0.4, 0.05, 0.3),
        dx=0.025,
        seconds=0.4,
        walls=dict(friction=0.4),
    ),
    # fast on impact, slow afterwards: two rates for yield stress and viscosity
    "foam": _excite(
        "foam",
        dict(E=1.5e4, nu=0.3, yield_stress=1e3, viscosity=100.0),
        {},
        SOLID | dict(yield_stress=PA, viscosity=PAS),
        velocity=(0.4, 0.0, -3.0),
        seconds=0.25,
    ),
    "plasticine": _excite(
        "plasticine", dict(E=2e4, nu=0.3, yield_stress=2e3), {}, SOLID | dict(yield_stress=PA), seconds=0.2
    ),
    # the impact sends a pressure wave, the spreading shears
    "newtonian": _excite(
        "newtonian",
        dict(bulk_modulus=2e4, viscosity=5.0),
        {},
        dict(bulk_modulus=PA, viscosity=PAS),
        walls=dict(kind="sticky"),
    ),
    "non_newtonian": _excite(
        "non_newtonian",
        dict(bulk_modulus=2e4, yield_stress=100.0, viscosity=20.0),
        dict(exponent=0.8, regularization=0.3),
        dict(bulk_modulus=PA, yield_stress=PA, viscosity=PAS),
        seconds=0.4,
        walls=dict(kind="sticky"),
    ),
    "water": _excite("water", dict(bulk_modulus=2e4), {}, dict(bulk_modulus=PA), walls=dict(kind="slip")),
}
# Scenes that hide parameters: every start must say so before any search. The material's scene above shows them.
DULL: dict[str, tuple[Excitation, tuple[str, ...]]] = {
    name: (dataclasses.replace(SCENES[material], **changes), hidden)
    for name, material, changes, hidden in (
        # in free flight nothing is stressed
        ("elastic_in_flight", "elastic", dict(lo=(0.15, 0.15, 0.16), hi=(0.35, 0.35, 0.36), size=(0.5, 0.5, 0.6),
         velocity=(0.2, 0.0, 1.0), seconds=0.2), ("E", "nu")),
        # a falling block of sand slides down without shear
        ("sand_in_flight", "sand", dict(lo=(0.1, 0.0, 0.2), hi=(0.2, 0.05, 0.4), size=(0.4, 0.05, 0.5),
         velocity=(0.0, 0.0, 1.0), seconds=0.2), ("friction_angle",)),
    )
}  # fmt: skip


def starts(excitation: Excitation, count: int) -> list[dict[str, float]]:
    """`count` starts, each one decade (linear scale: half the range) from the truth in every parameter."""
    logs = [n for n, b in excitation.ranges.items() if b.scale == "log"]
    signs = sorted(itertools.product((-1, 1), repeat=len(logs)), key=lambda s: (-abs(sum(s)), s))
    # opposite corners first, then those where stiffness and strength differ
    out = []
    for sign in signs[:count]:
        start = {n: excitation.truth[n] * 10.0**s for n, s in zip(logs, sign)}
        for n, b in excitation.ranges.items():
            if b.scale == "linear":
                half = 0.5 * (b.hi - b.lo) * (1.0 - 1e-3)
                away = excitation.truth[n] + half
                start[n] = away if away < b.hi else excitation.truth[n] - half
        out.append(start)
    return out


def law_of(excitation: Excitation, values: dict[str, float]) -> mpm.materials.Law:
    return mpm.materials.create(excitation.law, **excitation.known, **values)


def body_of(excitation: Excitation, rng: np.random.Generator) -> mpm.Particles:
    """The block with its particles jittered, and a velocity of its own."""
    spacing = excitation.dx / 2
    velocity = np.asarray(excitation.velocity) * (1.0 + 0.05 * rng.uniform(-1, 1, 3))
    body = block(excitation.lo, excitation.hi, spacing, v=jnp.asarray(velocity, jnp.float32))
    moved = np.asarray(body.x) + 0.1 * spacing * rng.uniform(-1, 1, body.x.shape)
    inside = np.clip(moved, 0.1 * spacing, np.subtract(excitation.size, 0.1 * spacing))
    return dataclasses.replace(body, x=jnp.asarray(inside, jnp.float32))


def textured(body: mpm.Particles, spacing: float) -> splats.Gaussians:
    """A Gaussian per particle with a smooth pattern of colours."""
    x = np.asarray(body.x)
    u = (x - x.min(0)) / np.ptp(x, axis=0)
    color = 0.5 + 0.4 * np.sin(2 * np.pi * (u @ np.array([[0.7, 0.0, 0.4], [0.5, 0.6, 0.0], [0.0, 0.8, 1.1]])))
    return splats.Gaussians.create(x, 0.45 * spacing, color=color, opacity=0.9)


def camera_of(excitation: Excitation) -> Camera:
    """Looks at the middle of the block's way from the front, slightly from above."""
    middle = 0.5 * np.add(excitation.lo, excitation.hi)
    target = (float(middle[0]) + 0.05, float(middle[1]), 0.12)
    eye = (target[0] + 0.3, target[1] - 0.85, 0.4)
    return Camera.look_at(eye, target, width=PIXELS, height=PIXELS)


def pose(excitation: Excitation, seed: int, seen: str = "tracks") -> identify.Problem:
    """The problem of one seed: reference simulated at the true values, noise added.

    Args:
        excitation: of `SCENES` or `DULL`.
        seed: of the particles, the velocity and the noise.
        seen: "tracks" or "video".

    Raises:
        ValueError: `seen` is neither.
    """
    if seen not in ("tracks", "video"):
        raise ValueError(f"seen must be 'tracks' or 'video', got {seen!r}")
    rng = np.random.default_rng(seed)
    body = body_of(excitation, rng)
    grid = mpm.Grid((0.0, 0.0, 0.0), excitation.size, excitation.dx)
    scene = mpm.Scene(boundaries=(mpm.Walls(grid.lo, grid.hi, **excitation.walls),))
    frames = excitation.frames
    config = mpm.Config(grid, fps=frames / excitation.seconds, frames=frames)
    law = law_of(excitation, excitation.truth)
    blank = identify.Tracks(jnp.zeros((frames, body.count, 3), jnp.float32), TRACK_SIGMA)
    posed = identify.problem(law, body, scene, config, blank, excitation.ranges)
    if seen == "tracks":
        x = np.asarray(mpm.simulate(law, body, scene, posed.config, save=("x",)).x)
        x = x + TRACK_SIGMA * rng.standard_normal(x.shape)
        return dataclasses.replace(posed, seen=identify.Tracks(jnp.asarray(x, jnp.float32), TRACK_SIGMA))
    path = mpm.simulate(law, body, scene, posed.config, save=("x", "F"))
    gaussians, camera = textured(body, excitation.dx / 2), camera_of(excitation)
    F = None if excitation.flows else path.F
    image = np.asarray(splats.render_video(gaussians, path.x, F, camera).image)
    image = image + PIXEL_SIGMA * rng.standard_normal(image.shape)
    video = identify.Video.create(
        jnp.asarray(image, jnp.float32), gaussians, camera, sigma=PIXEL_SIGMA, rigid=excitation.flows
    )
    return dataclasses.replace(posed, seen=video)


def predicted_sigma(problem: identify.Problem, zs: list) -> np.ndarray:
    """Relative deviation of every unknown as the Fisher matrices at the starts predict it, the least of them."""
    whole = search.Stage(problem.seen.frames)
    flats = [ravel_pytree(z)[0] for z in zs]
    normals = search.evaluate(problem, flats, zs[0], whole, vmapped=False)
    works = [(z, n.fisher) for z, n in zip(zs, normals) if np.isfinite(float(n.cost))]
    return np.min([identify.relative_sigma(problem, z, H) for z, H in works], axis=0)


def recover(excitation: Excitation, seed: int, seen: str = "tracks", count: int = 8, path: Path | None = None) -> dict:
    """One fit from `count` starts; flat figures.

    Args:
        excitation: the scene and its unknowns.
        seed: as for `pose`.
        seen: "tracks" or "video".
        count: number of starts.
        path: where the fit is stored after every step, and gone on from (npz).
    """
    names = sorted(excitation.ranges)
    problem = pose(excitation, seed, seen)
    zs = [identify.encode(problem, start) for start in starts(excitation, count)]
    stages = search.default_stages(problem)
    begun, before = time.perf_counter(), 0.0
    if path is not None and path.exists():
        fit, extra = search.restore(path)
        before, predicted = float(extra["seconds"]), extra["predicted"]
    else:
        fit, predicted = search.begin(zs), predicted_sigma(problem, zs)
    while not search.done(fit, stages):
        fit = search.advance(problem, fit, zs[0], stages, vmapped=False)
        if path is not None:
            search.store(path, fit, seconds=before + time.perf_counter() - begun, predicted=predicted)
    found = fit.searches[fit.best]
    z = {name: jnp.float32(value) for name, value in zip(names, found.z)}
    values = {name: float(v) for name, v in identify.decode(problem, z).items()}
    errors = {name: abs(values[name] / truth - 1.0) for name, truth in excitation.truth.items()}
    freedom = problem.seen.x.size if seen == "tracks" else problem.seen.image.size
    figures: dict[str, Any] = {}
    for name, before_fit, after in zip(names, predicted, identify.relative_sigma(problem, z, found.fisher)):
        figures |= {
            f"{name}_found": values[name],
            f"{name}_relative_error": errors[name],
            f"{name}_relative_sigma": float(after),
            f"{name}_predicted_relative_sigma": float(before_fit),
        }
    return figures | {
        "worst_relative_error": max(errors.values()),
        "worst_predicted_sigma": float(np.max(predicted)),
        "chi_square_per_value": 2.0 * found.cost / freedom,
        "gradient_evaluations": fit.evaluations + len(zs),
        "seconds": before + time.perf_counter() - begun,
        "particles": problem.particles.count,
        "substeps": problem.config.frames * problem.config.substeps,
    }


def folder_of(case: str) -> Path:
    """Where a case keeps what it has done so far: a folder of its own for every state of the code."""
    place = ROOT / "runs" / case / source_hash(CASES / f"{case}.py")
    place.mkdir(parents=True, exist_ok=True)
    return place


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """What `make` returns; of an earlier run if it is there."""
    if not path.exists():
        write_json(path, make())
    return json.loads(path.read_text())


def table(seen: str, seeds: tuple[int, ...], folder: str, materials: tuple[str, ...] = tuple(SCENES)) -> dict:
    """All fits, one after the other; those that are already in runs/`folder` for this code are read back."""
    place = folder_of(folder)
    figures: dict[str, Any] = {}
    rows = []
    for material in materials:
        for seed in seeds:
            name = f"{material}_{seed}"
            fit = functools.partial(recover, SCENES[material], seed, seen, path=place / f"{name}.npz")
            row = kept(place / f"{name}.json", fit)
            print(
                f"  {material} {seed}: {100 * row['worst_relative_error']:.2g} % in {row['seconds']:.0f} s", flush=True
            )
            rows.append(row)
            figures |= {f"{material}_seed{seed}_{key}": value for key, value in row.items()}
    return figures | {
        "worst_relative_error": max(row["worst_relative_error"] for row in rows),
        "worst_predicted_sigma": max(row["worst_predicted_sigma"] for row in rows),
        "most_particles": max(row["particles"] for row in rows),
        "most_substeps": max(row["substeps"] for row in rows),
        "seconds_all_fits": sum(row["seconds"] for row in rows),
        "seeds": list(seeds),
    }


def hidden(bar: float) -> dict:
    """What the Fisher matrix says of the scenes that hide unknowns, before any fit."""
    figures: dict[str, Any] = {}
    missed = 0
    for name, (excitation, truly) in DULL.items():
        problem = pose(excitation, 0)
        zs = [identify.encode(problem, start) for start in starts(excitation, 8)]
        sigma = dict(zip(sorted(excitation.ranges), predicted_sigma(problem, zs)))
        named = [n for n, s in sigma.items() if s > bar]
        missed += len(set(named) ^ set(truly))
        figures |= {f"{name}_{n}_predicted_relative_sigma": float(s) for n, s in sigma.items()}
        figures[f"{name}_named_unidentifiable"] = named
    return figures | {"hidden_unknowns_not_named": missed}
