r"""Material parameters from reference tracks or a reference video.

    python -m experiments.fit --config=experiments/configs/fit.py --workdir=runs/fit

Prints which unknowns this scene can show (Fisher matrix at the starts) before it spends time, then fits from all starts
at once. Writes into the workdir: fit.npz after every step (a rerun goes on from it, to the same result), cost.png,
parameters.png, compare.mp4 (reference left, fit right) and report.json. What the inputs hold: see the config.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.flatten_util import ravel_pytree
from ml_collections import config_flags
from tqdm import tqdm

from experiments.descent import descend
from experiments.fit_inputs import EXAMPLES, prepare
from experiments.report import write_report
from experiments.simulate import claim_workdir
from jaxphys import media, mpm, splats
from jaxphys.camera import Camera
from jaxphys.scenes import identify, search, suggest_camera


def random_starts(problem: identify.Problem, shapes: dict[str, tuple], count: int, seed: int) -> list[dict]:
    """Unconstrained starts: the middle of all ranges, then normal deviates, the same for every entry of a field."""
    rng = np.random.default_rng(seed)
    dtype = problem.particles.x.dtype
    out = []
    for k in range(count):
        drawn = {name: 1.3 * float(rng.standard_normal()) * (k > 0) for name in sorted(problem.bounds)}
        out.append({name: jnp.full(shapes[name], z, dtype) for name, z in drawn.items()})
    return out


def predict_identifiable(problem, starts, bar: float) -> tuple[np.ndarray, dict[str, float]]:
    """Predicted relative deviation of every unknown, least over the starts, and those above the bar."""
    whole = search.Stage(problem.seen.frames)
    normals = search.evaluate(problem, [ravel_pytree(z)[0] for z in starts], starts[0], whole)
    works = [(z, n.fisher) for z, n in zip(starts, normals) if np.isfinite(float(n.cost))]
    if not works:
        raise mpm.SimulationError(
            "the simulation fails at every start: narrow the ranges of the unknowns, or give more room (margin_m)"
        )
    zs, fishers = zip(*works)
    sigma = np.min([identify.relative_sigma(problem, z, H) for z, H in works], axis=0)
    return sigma, identify.unidentifiable(problem, list(zs), list(fishers), bar)


def fit_gauss_newton(problem, starts, workdir: Path, sigma: np.ndarray, begun: float) -> tuple[search.Fit, float]:
    """Runs or goes on; returns the fit and the seconds it took in all."""
    stages, path, before = search.default_stages(problem), workdir / "fit.npz", 0.0
    fit = search.begin(starts)
    if path.exists():
        fit, extra = search.restore(path)
        before = float(extra["seconds"])
    bar = tqdm(desc="fit", unit="evaluation", initial=fit.evaluations, file=sys.stdout)
    while not search.done(fit, stages):
        fit = search.advance(problem, fit, starts[0], stages)
        search.store(path, fit, seconds=before + time.time() - begun, sigma=sigma)
        bar.update(fit.evaluations - bar.n)
        bar.set_postfix(stage=fit.stage, cost=f"{min(s.cost for s in fit.searches):.4g}")
    bar.close()
    return fit, before + time.time() - begun


def values_of(problem: identify.Problem, flat: np.ndarray, template) -> dict[str, np.ndarray]:
    _, unravel = ravel_pytree(template)
    z = unravel(jnp.asarray(flat, problem.particles.x.dtype))
    return {name: np.asarray(v) for name, v in identify.decode(problem, z).items()}


def compare(problem: identify.Problem, z) -> np.ndarray:
    """Reference left, fit right, (T, H, 2 W, 3)."""
    path = identify.predict(problem, z).check()
    seen = problem.seen
    if isinstance(seen, identify.Video):
        F = None if seen.rigid else path.F
        n = len(seen.gaussians)
        mine = splats.render_video(
            seen.gaussians, path.x[:, :n], None if F is None else F[:, :n], seen.camera, background=seen.background
        )
        both = [np.asarray(seen.image), np.asarray(mine.image)]
    else:
        x = np.asarray(seen.x)
        points = np.concatenate([x[np.isfinite(x).all(-1)], np.asarray(path.x).reshape(-1, 3)])
        camera = suggest_camera(points, width=240, height=240)
        both = [draw_points(problem, np.nan_to_num(x, nan=-1e3), camera), draw_points(problem, path.x, camera)]
    return np.clip(np.concatenate(both, axis=2), 0.0, 1.0)


def draw_points(problem: identify.Problem, x, camera: Camera) -> np.ndarray:
    """The particles of every frame, coloured by where they were at rest."""
    rest = np.asarray(problem.particles.x)
    u = (rest - rest.min(0)) / np.maximum(np.ptp(rest, axis=0), 1e-6)
    size = 0.4 * float(np.cbrt(np.median(np.asarray(problem.particles.volume))))
    gaussians = splats.Gaussians.create(rest, size, color=0.2 + 0.6 * u, opacity=0.9)
    return np.asarray(splats.render_video(gaussians, jnp.asarray(x, rest.dtype), None, camera).image)


def report_values(problem, template, flat, sigma, truth) -> dict[str, Any]:
    """Flat keys; a field is told by its quartiles."""
    out: dict[str, Any] = {}
    labels, values = identify.labels(problem, template), values_of(problem, flat, template)
    if len(labels) <= 64:
        entries = np.concatenate([values[name].reshape(-1) for name, _ in problem.ranges])
        for label, value, s in zip(labels, entries, sigma):
            out |= {f"{label}_fitted": float(value), f"{label}_relative_sigma": float(s)}
            if label in truth:
                out[f"{label}_relative_error"] = abs(float(value) / truth[label] - 1.0)
    for name, value in values.items():
        if value.size > 1 and name not in identify.VECTORS:
            out |= {f"{name}_percentile_{p}": float(np.percentile(value, p)) for p in (5, 25, 50, 75, 95)}
    return out


def run(config, workdir: str | Path) -> dict:
    """The whole job; returns what report.json says."""
    workdir, begun = Path(workdir), time.time()
    problem, shapes, fps = prepare(config)
    starts = random_starts(problem, shapes, config.starts, config.seed)
    template = starts[0]
    workdir.mkdir(parents=True, exist_ok=True)
    claim_workdir(workdir, config)
    steps = problem.config.frames * problem.config.substeps
    print(f"{problem.particles.count} particles, {steps} substeps, unknown: {', '.join(shapes)}", flush=True)
    labels = identify.labels(problem, template)
    if (workdir / "fit.npz").exists():
        sigma = search.read_extra(workdir / "fit.npz")["sigma"]
        hidden = {name: float(s) for name, s in zip(labels, sigma) if s > config.bar}
    else:
        sigma, hidden = predict_identifiable(problem, starts, config.bar)
    for name, s in list(zip(labels, sigma))[:64]:
        print(f"  {name}: predicted relative deviation {s:.2g}" + (": NOT IDENTIFIABLE here" if name in hidden else ""))
    if config.method == "adam":
        flat, history, evaluations, seconds = descend(problem, starts, config, workdir / "fit.npz", sigma, begun)
        stage = search.Stage(problem.seen.frames)
        final = search.evaluate(problem, [flat], template, stage)[0]
        cost, fisher = float(final.cost), np.asarray(final.fisher)
    else:
        fit, seconds = fit_gauss_newton(problem, starts, workdir, sigma, begun)
        best = fit.searches[fit.best]
        flat, cost, fisher, history, evaluations = best.z, best.cost, best.fisher, fit.history, fit.evaluations
    if not np.isfinite(cost):
        raise mpm.SimulationError("the simulation fails at the end of every start: narrow the ranges of the unknowns")
    _, unravel = ravel_pytree(template)
    z = unravel(jnp.asarray(flat, problem.particles.x.dtype))
    final_sigma = identify.relative_sigma(problem, z, fisher)
    draw(problem, history, template, workdir)
    media.write_video(workdir / "compare.mp4", compare(problem, z), fps)
    truth = {k: float(v) for k, v in config.truth.items()} if config.reference in EXAMPLES else {}
    seen = problem.seen.image if isinstance(problem.seen, identify.Video) else problem.seen.x
    figures = dict(
        law=config.law,
        method=config.method,
        particles=problem.particles.count,
        substeps=steps,
        unknowns=len(labels),
        not_identifiable=sorted(hidden)[:64],
        not_identifiable_count=len(hidden),
        cost=cost,
        chi_square_per_value=2.0 * cost / int(np.isfinite(np.asarray(seen)).sum()),
        gradient_evaluations=evaluations,
        seconds=seconds,
        starts=config.starts,
        seeds=[config.seed],
    ) | report_values(problem, template, flat, final_sigma, truth)
    path = write_report(workdir, **figures)
    for name in (k.removesuffix("_fitted") for k in figures if k.endswith("_fitted")):
        print(f"{name} = {figures[f'{name}_fitted']:.4g} +- {100 * figures[f'{name}_relative_sigma']:.2g} %")
    print(f"report: {path}, {seconds:.0f} s in all")
    return figures


def draw(problem, history: np.ndarray, template, workdir: Path) -> None:
    """cost.png and parameters.png; history (K, S, 2 + P) holds stage, cost, z."""
    step = np.arange(1, len(history) + 1)
    cost = np.where(np.isfinite(history[..., 1]), history[..., 1], np.nan)
    curves = {f"start {k}": cost[:, k] for k in range(cost.shape[1])}
    media.plot_series(workdir / "cost.png", step, curves, "evaluation", "cost |r|^2 / 2", log_y=True)
    best = int(np.argmin(history[-1, :, 1]))
    _, unravel = ravel_pytree(template)
    dtype = problem.particles.x.dtype
    mean = jax.jit(lambda flat: {n: jnp.mean(v) for n, v in identify.decode(problem, unravel(flat)).items()})
    rows = [mean(jnp.asarray(z, dtype)) for z in history[:, best, 2:]]
    curves = {}
    for name, bound in problem.ranges:
        value = np.array([float(row[name]) for row in rows])
        place = np.log if bound.scale == "log" else (lambda a: a)
        curves[name] = (place(value) - place(bound.lo)) / (place(bound.hi) - place(bound.lo))
    media.plot_series(workdir / "parameters.png", step, curves, "evaluation", "place in the range, best start")


def main(_) -> None:
    try:
        run(flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, mpm.SimulationError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "fit.py"))
    flags.DEFINE_string("workdir", "runs/fit", "where everything is written")
    app.run(main)
