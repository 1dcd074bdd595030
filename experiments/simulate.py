r"""The main job: a prompt and a Gaussian splat in, a simulated video out.

    python -m experiments.simulate --config=experiments/configs/simulate.py --config.prompt="a jelly robot" \
        --workdir=runs/jelly

Writes into the workdir: preview.png, chunk_*.npz (a rerun resumes after the last), video.mp4, energy.png, momentum.png
and report.json. Hardware, minutes and what to expect: see the config.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from tqdm import tqdm

from experiments.report import write_json, write_report
from jaxphys import language, media, mpm, scenes, splats
from jaxphys.camera import Camera
from jaxphys.files import atomic_path
from jaxphys.mpm.simulate import initial_state

SAVE = ("x", "v", "F", "energy")


@dataclasses.dataclass(frozen=True)
class Job:
    """All that is known before the first substep."""

    proposal: language.Proposal
    law: mpm.materials.Law
    binding: scenes.Binding
    still: splats.Gaussians | None
    scene: mpm.Scene
    config: mpm.Config
    camera: Camera
    ground_m: float


def prepare(config) -> Job:
    """Reads, selects, proposes and binds; every error of the input shows here, before any work."""
    proposal = language.propose(config.prompt)
    law = mpm.materials.create(proposal.law, density=proposal.density, **proposal.simulated)
    whole = splats.read_ply(config.scene)
    if config.up == "-y":
        whole = whole.transform(rotation=splats.Y_DOWN_TO_Z_UP)
    elif config.up != "z":
        raise ValueError(f"config.up must be '-y' or 'z', got {config.up!r}")
    if config.box:
        chosen = scenes.select_box(whole, config.box[:3], config.box[3:])
    else:
        chosen = scenes.select_component(whole, config.voxel_m)
    rest = np.asarray(whole.mean)[~chosen]
    body = whole.select(np.flatnonzero(chosen))
    x = np.asarray(body.mean)
    under = (
        rest[np.all(np.abs(rest[:, :2] - x[:, :2].mean(0)) < 0.3 * np.ptp(x[:, :2], axis=0), axis=1)]
        if len(rest)
        else rest
    )
    ground = float(np.percentile(under[:, 2], 90)) if len(under) else float(x[:, 2].min())
    body = body.transform(translation=(0.0, 0.0, config.drop_m))
    binding = scenes.bind(body, config.dx_m)
    p = np.asarray(binding.particles.x)
    lo, hi = p.min(0) - config.margin_m, p.max(0) + config.margin_m
    lo[2] = ground
    grid = mpm.Grid(tuple(lo), tuple(hi), config.dx_m)
    walls = mpm.Walls(grid.lo, grid.hi, friction=config.friction)
    frames = round(config.seconds * config.fps)
    simulation = mpm.Config(grid, fps=config.fps, frames=min(config.chunk_frames, frames), max_substeps=2000)
    scene = mpm.Scene(boundaries=(walls,))
    whole_run = dataclasses.replace(simulation, frames=frames)
    substeps = mpm.resolve_substeps((law,), binding.particles, scene, whole_run)
    simulation = dataclasses.replace(simulation, substeps=substeps)
    still = whole.select(np.flatnonzero(~chosen)) if len(rest) else None
    if still is None:
        still = scenes.floor(p[:, :2].mean(0), ground, float(np.ptp(p[:, :2], axis=0).max()))
    seen = np.concatenate([p, p * [1, 1, 0] + [0, 0, ground]])
    camera = scenes.suggest_camera(
        seen, width=config.image_pixels, height=config.image_pixels, azimuth_degrees=config.azimuth_degrees
    )
    return Job(proposal, law, binding, still, scene, simulation, camera, ground)


def picture(job: Job, x, F) -> np.ndarray:
    n = len(job.binding.gaussians)
    kernels = scenes.frame_kernels(
        job.binding.gaussians, job.still, x[:n], scenes.drawing_gradient(job.proposal.law, F[:n])
    )
    return np.clip(np.asarray(splats.render(kernels, job.camera, background=1.0).image), 0.0, 1.0)


def simulate_chunks(job: Job, config, workdir: Path) -> dict[str, np.ndarray]:
    """All frames, chunk by chunk; finished chunks are read back, so a rerun goes on where the last one stopped."""
    frames = round(config.seconds * config.fps)
    template = jax.eval_shape(lambda p: initial_state((job.law,), p, job.scene, SAVE), job.binding.particles)
    structure = jax.tree.structure(template)
    state, parts = None, []
    starts = range(0, frames, job.config.frames)
    for k, start in enumerate(tqdm(starts, desc="simulate", unit="chunk", file=sys.stdout)):
        path = workdir / f"chunk_{k:03d}.npz"
        if path.exists():
            stored = np.load(path)
            leaves = [jnp.asarray(stored[f"state_{i}"]) for i in range(structure.num_leaves)]
            state = jax.tree.unflatten(structure, leaves)
            parts.append({name: stored[name] for name in SAVE})
            continue
        simulation = dataclasses.replace(job.config, frames=min(job.config.frames, frames - start))
        run = mpm.simulate(job.law, job.binding.particles, job.scene, simulation, save=SAVE, state=state)
        state = run.state
        fields = {name: np.asarray(getattr(run, name)) for name in SAVE}
        leaves = {f"state_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **fields, **leaves)
        parts.append(fields)
    return {name: np.concatenate([part[name] for part in parts]) for name in SAVE}


def energies(job: Job, fields) -> dict[str, np.ndarray]:
    """Kinetic, elastic and gravitational energy [J] and linear momentum [N s] of every frame."""
    volume = np.asarray(job.binding.particles.volume, np.float64)
    mass = float(job.law.density) * volume
    return {
        "kinetic": 0.5 * (fields["v"].astype(np.float64) ** 2).sum(-1) @ mass,
        "elastic": fields["energy"].astype(np.float64) @ volume,
        "gravitational": 9.81 * (fields["x"][..., 2] - job.ground_m) @ mass,
        "momentum": np.einsum("tni,n->ti", fields["v"], mass),
    }


def claim_workdir(workdir: Path, config) -> None:
    """Refuses to mix two jobs in one workdir."""
    path = workdir / "config.json"
    wanted = json.loads(config.to_json())
    if path.exists() and json.loads(path.read_text()) != wanted:
        old = json.loads(path.read_text())
        differing = sorted(k for k in wanted if wanted[k] != old.get(k))
        raise ValueError(
            f"{workdir} holds a job with another config (differs in {differing}): choose another --workdir"
        )
    write_json(path, wanted)


def run(config, workdir: str | Path) -> dict:
    """The whole job; returns what report.json says."""
    clock = {"start": time.time()}
    workdir = Path(workdir)
    job = prepare(config)
    workdir.mkdir(parents=True, exist_ok=True)
    claim_workdir(workdir, config)
    n = len(job.binding.gaussians)
    p = job.proposal
    print(
        f"material: {p.material} ({p.law}), {'; '.join(p.reasons)}; not understood: {', '.join(p.unknown) or 'nothing'}"
    )
    print(f"{n} Gaussians, {job.binding.particles.count} particles, {job.config.substeps} substeps per frame")
    eye = jnp.broadcast_to(jnp.eye(3), (n, 3, 3))
    first = picture(job, job.binding.particles.x, eye)
    media.write_image(workdir / "preview.png", first)
    clock["preview"] = time.time()
    print(f"preview: {workdir / 'preview.png'} after {clock['preview'] - clock['start']:.0f} s", flush=True)
    fields = simulate_chunks(job, config, workdir)
    clock["simulate"] = time.time()
    frames = [first]
    for x, F in tqdm(
        zip(fields["x"], fields["F"]), total=len(fields["x"]), desc="render", unit="frame", file=sys.stdout
    ):
        frames.append(picture(job, jnp.asarray(x), jnp.asarray(F)))
    media.write_video(workdir / "video.mp4", np.stack(frames), config.fps)
    clock["render"] = time.time()
    energy = energies(job, fields)
    t = (np.arange(len(fields["x"])) + 1) / config.fps
    momentum = energy.pop("momentum")
    total = sum(energy.values())
    media.plot_series(workdir / "energy.png", t, energy | {"total": total}, "time [s]", "energy [J]")
    axes = {f"p_{a}": momentum[:, i] for i, a in enumerate("xyz")}
    media.plot_series(workdir / "momentum.png", t, axes, "time [s]", "momentum [N s]")
    height = fields["x"][..., 2].mean(1)
    rising = np.flatnonzero(np.diff(height) > 0)
    lowest = int(rising[0]) if len(rising) else len(height) - 1  # of the first bounce
    figures = dict(
        prompt=config.prompt,
        material=p.material,
        law=p.law,
        confidence=p.confidence,
        reasons=list(p.reasons),
        not_understood=list(p.unknown),
        source=p.source,
        density_kg_m3=p.density,
        **{f"measured_{k}": v for k, v in p.means.items()},
        **{f"simulated_{k}": v for k, v in p.simulated.items()},
        gaussians=n,
        particles=job.binding.particles.count,
        volume_m3=job.binding.volume,
        substeps_per_frame=job.config.substeps,
        frames=len(fields["x"]),
        status_code=0,
        center_start_m=float(np.asarray(job.binding.particles.x)[:, 2].mean()),
        center_lowest_m=float(height[lowest]),
        center_rebound_m=float(height[lowest:].max()),
        energy_first_J=float(total[0]),
        energy_last_J=float(total[-1]),
        preview_seconds=clock["preview"] - clock["start"],
        simulate_seconds=clock["simulate"] - clock["preview"],
        render_seconds=clock["render"] - clock["simulate"],
        seeds=[],
    )
    path = write_report(workdir, **figures)
    print(f"video: {workdir / 'video.mp4'}, report: {path}, {time.time() - clock['start']:.0f} s in all")
    return figures


def main(_) -> None:
    try:
        run(flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, mpm.SimulationError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "simulate.py"))
    flags.DEFINE_string("workdir", "runs/simulate", "where everything is written")
    app.run(main)
