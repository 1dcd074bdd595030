"""What other ways to the parameters reach from tracks in the wall-clock time of the forward-mode fit, one seed.

The starts and the scenes are those of recovery_tracks, seed 0; the other ways get the starts in the order of their
cost, so that none spends its time on a hopeless one first. Each way gets the seconds that the forward-mode Gauss-Newton
search took (compilation excluded for all), and its answer is the point of least cost that it visited. `differences` is
the same search with its matrix by central differences; `cma_es` Hansen's package; `adam_exact` Adam by reverse mode
through every substep; `adam_last_substep` the heuristic of the released codes, whose gradient sees the last substep of
each frame alone. The figures are a comparison: the one bar is on this project's own way. 40 minutes on one core.
"""

from __future__ import annotations

import functools
import time

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import baselines, recovery
from jaxphys.scenes import identify

CHECKS = {"forward_worst_relative_error": ("<=", 0.05)}
WAYS = {
    "differences": lambda problem, starts: baselines.gauss_newton(problem, starts, differences=True),
    "cma_es": baselines.cma_es,
    "adam_exact": lambda problem, starts: baselines.adam(problem, starts, "exact"),
    "adam_last_substep": lambda problem, starts: baselines.adam(problem, starts, "last_substep"),
}


def error_of(problem: identify.Problem, truth: dict[str, float], flat: np.ndarray) -> float:
    """Greatest relative error of an unknown."""
    z = {name: jnp.float32(v) for name, v in zip(sorted(truth), flat)}
    values = identify.decode(problem, z)
    return max(abs(float(values[name]) / true - 1.0) for name, true in truth.items())


def race(way, problem, starts: list, seconds: float) -> tuple[np.ndarray, int, float]:
    """The best point of a way within its time, the points it visited, and the seconds of its first (compilation)."""
    begun = time.perf_counter()
    next(iter(way(problem, starts)))
    compiled = time.perf_counter() - begun
    best, least, count, begun = np.zeros(0), np.inf, 0, time.perf_counter()
    for flat, cost in way(problem, starts):
        count += 1
        if cost < least or not np.isfinite(least):
            best, least = flat, cost
        if time.perf_counter() - begun > seconds:
            break
    return best, count, compiled


def compare(material: str) -> dict[str, float]:
    """All ways on one material."""
    excitation = recovery.SCENES[material]
    problem = recovery.pose(excitation, 0)
    starts = [identify.encode(problem, start) for start in recovery.starts(excitation, 8)]
    next(baselines.gauss_newton(problem, starts))  # compiles
    begun = time.perf_counter()
    flat, _ = list(baselines.gauss_newton(problem, starts))[-1]
    seconds = time.perf_counter() - begun
    starts.sort(key=lambda z: float(baselines.cost_of(problem, ravel_pytree(z)[0], z)))
    out = {"seconds": seconds, "forward_relative_error": error_of(problem, excitation.truth, flat)}
    for name, way in WAYS.items():
        best, count, compiled = race(way, problem, starts, seconds)
        out |= {
            f"{name}_relative_error": error_of(problem, excitation.truth, best),
            f"{name}_points": count,
            f"{name}_first_point_seconds": compiled,
        }
    return out


def run(materials: tuple[str, ...] = tuple(recovery.SCENES)) -> dict:
    figures: dict = {}
    place = recovery.folder_of("recovery_baselines")
    for material in materials:
        row = recovery.kept(place / f"{material}.json", functools.partial(compare, material))
        print(f"  {material}: " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)
        figures |= {f"{material}_{key}": value for key, value in row.items()}
    for name in ("forward", *WAYS):
        errors = [figures[f"{material}_{name}_relative_error"] for material in materials]
        figures |= {
            f"{name}_worst_relative_error": max(errors),
            f"{name}_median_relative_error": float(np.median(errors)),
            f"{name}_materials_within_5_percent": sum(e <= 0.05 for e in errors),
        }
    return figures
