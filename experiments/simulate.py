r"""The main job: a prompt and a Gaussian splat in, a simulated video out; or a scene file in place of both.

    python -m experiments.simulate --config=experiments/configs/simulate.py --config.prompt="a jelly robot" \
        --workdir=runs/jelly
    python -m experiments.simulate --config=experiments/configs/simulate.py --config.scene=ficus_config.json \
        --config.model=ficus_whitebg-trained --workdir=runs/ficus

A scene file (docs/scene_files.md) says all of the material, the object, the forces and the time; of the config, only
`model`, `dialect`, `variant`, `image_pixels`, `chunk_frames` and `export` then count.

Writes into the workdir: preview.png (with the boxes of the scene), chunk_*.npz (a rerun resumes after the last),
video.mp4, energy.png, momentum.png, report.json, and what `export` names: ply/frame_*.ply, motion.npz, motion.h5.
Hardware, minutes and what to expect: see the config.
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
from jaxphys import language, media, mpm, scenes, shapes, splats
from jaxphys.camera import Camera
from jaxphys.files import atomic_path
from jaxphys.mpm.simulate import initial_state
from jaxphys.scenes.export import frame_gaussians, motion_arrays, write_motion, write_plys

SAVE = ("x", "v", "F", "energy")
EXPORTS = ("ply", "npz", "h5")


@dataclasses.dataclass(frozen=True)
class Job:
    """All that is known before the first substep."""

    setup: scenes.Setup
    proposal: language.Proposal | None  # None: a scene file named the materials
    frames: int
    ground_m: float  # height at which the gravitational energy is 0


def prepare(config) -> Job:
    """Reads, selects, proposes and binds; every error of the input shows here, before any work."""
    unknown = set(config.export) - set(EXPORTS)
    if unknown:
        raise ValueError(f"config.export names {sorted(unknown)}; known: {', '.join(EXPORTS)}")
    if str(config.scene).lower().endswith(".json") and Path(config.scene).name != "meta.json":
        return from_scene_file(config)
    proposal = language.propose(config.prompt)
    law = mpm.materials.create(proposal.law, density=proposal.density, **proposal.simulated)
    whole = splats.read(config.scene)
    seen = f"the file: {scenes.survey(whole).describe()}"
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
    simulation = mpm.Config(grid, fps=config.fps, frames=frames, max_substeps=2000)
    scene = mpm.Scene(boundaries=(walls,))
    still = whole.select(np.flatnonzero(~chosen)) if len(rest) else None
    if still is None:
        still = scenes.floor(p[:, :2].mean(0), ground, float(np.ptp(p[:, :2], axis=0).max()))
    framed = np.concatenate([p, p * [1, 1, 0] + [0, 0, ground]])
    camera = scenes.suggest_camera(
        framed, width=config.image_pixels, height=config.image_pixels, azimuth_degrees=config.azimuth_degrees
    )
    domain = scenes.Region("domain", shapes.Box(tuple((lo + hi) / 2), tuple((hi - lo) / 2)), "domain")
    setup = scenes.Setup(
        dialect="prompt",
        gaussians=binding.gaussians,
        still=still,
        particles=binding.particles,
        laws=(law,),
        parts=(scenes.Part("object", proposal.law, slice(0, len(binding.gaussians)), binding.volume),),
        scene=scene,
        config=simulation,
        camera=camera,
        frame=scenes.Frame.identity(),
        regions=(domain,),
        notes=(seen,),
    )
    return in_chunks(setup, proposal, ground, config)


def from_scene_file(config) -> Job:
    """The job that a scene file describes."""
    model, dialect = config.model or None, config.dialect or None
    setup = scenes.read_scene(config.scene, model, dialect=dialect, variant=config.variant)
    camera = setup.camera
    factor = config.image_pixels / max(camera.width, camera.height)
    width, height = (max(1, round(n * factor)) for n in (camera.width, camera.height))
    setup = dataclasses.replace(setup, camera=camera.resized(width, height))
    x, g = np.asarray(setup.particles.x, np.float64), np.asarray(setup.scene.gravity, np.float64)
    ground = float((-x @ g).min() / np.linalg.norm(g)) if g.any() else 0.0
    return in_chunks(setup, None, ground, config)


def in_chunks(setup: scenes.Setup, proposal: language.Proposal | None, ground: float, config) -> Job:
    """The same substep in every chunk of the run."""
    frames = setup.config.frames
    substeps = mpm.resolve_substeps(setup.laws, setup.particles, setup.scene, setup.config)
    chunk = dataclasses.replace(setup.config, frames=min(config.chunk_frames, frames), substeps=substeps)
    return Job(dataclasses.replace(setup, config=chunk), proposal, frames, ground)


def drawn_F(job: Job, F) -> jnp.ndarray:
    """The deformation gradients that the Gaussians are drawn with, each by the law of its object."""
    parts = [scenes.drawing_gradient(p.law, jnp.asarray(F)[p.gaussians]) for p in job.setup.parts]
    return jnp.concatenate(parts)


def picture(job: Job, x, F, k: int = 0) -> np.ndarray:
    """Frame k: the objects at x (N, 3), deformed by F (N, 3, 3)."""
    setup, n = job.setup, len(job.setup.gaussians)
    kernels = scenes.frame_kernels(setup.gaussians, setup.still, x[:n], drawn_F(job, F[:n]))
    camera: Camera = setup.camera
    if jnp.ndim(camera.fx):
        last = len(camera.fx) - 1
        camera = jax.tree.map(lambda a: a[min(k, last)], camera)
    return np.clip(np.asarray(splats.render(kernels, camera, background=1.0).image), 0.0, 1.0)


def simulate_chunks(job: Job, workdir: Path) -> dict[str, np.ndarray]:
    """All frames, chunk by chunk; finished chunks are read back, so a rerun goes on where the last one stopped."""
    setup, frames = job.setup, job.frames
    template = jax.eval_shape(lambda p: initial_state(setup.laws, p, setup.scene, SAVE), setup.particles)
    structure = jax.tree.structure(template)
    state, parts = None, []
    starts = range(0, frames, setup.config.frames)
    for k, start in enumerate(tqdm(starts, desc="simulate", unit="chunk", file=sys.stdout)):
        path = workdir / f"chunk_{k:03d}.npz"
        if path.exists():
            stored = np.load(path)
            leaves = [jnp.asarray(stored[f"state_{i}"]) for i in range(structure.num_leaves)]
            state = jax.tree.unflatten(structure, leaves)
            parts.append({name: stored[name] for name in SAVE})
            continue
        simulation = dataclasses.replace(setup.config, frames=min(setup.config.frames, frames - start))
        run = mpm.simulate(setup.laws, setup.particles, setup.scene, simulation, save=SAVE, state=state)
        state = run.state
        fields = {name: np.asarray(getattr(run, name)) for name in SAVE}
        leaves = {f"state_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **fields, **leaves)
        parts.append(fields)
    return {name: np.concatenate([part[name] for part in parts]) for name in SAVE}


def energies(job: Job, fields) -> dict[str, np.ndarray]:
    """Kinetic, elastic and gravitational energy [J] and linear momentum [N s] of every frame."""
    particles, gravity = job.setup.particles, np.asarray(job.setup.scene.gravity, np.float64)
    volume = np.asarray(particles.volume, np.float64)
    index = np.asarray(particles.material)
    density = np.stack([np.broadcast_to(np.asarray(law.density, np.float64), index.shape) for law in job.setup.laws])
    mass = density[index, np.arange(len(index))] * volume
    return {
        "kinetic": 0.5 * (fields["v"].astype(np.float64) ** 2).sum(-1) @ mass,
        "elastic": fields["energy"].astype(np.float64) @ volume,
        "gravitational": (-fields["x"] @ gravity - job.ground_m * np.linalg.norm(gravity)) @ mass,
        "momentum": np.einsum("tni,n->ti", fields["v"], mass),
    }


def export(job: Job, config, fields, workdir: Path) -> None:
    """What `config.export` names, in the world of the scene's file."""
    setup, n = job.setup, len(job.setup.gaussians)
    if "ply" in config.export:
        (workdir / "ply").mkdir(exist_ok=True)
        moved = (
            frame_gaussians(
                setup.gaussians, setup.still, setup.parts, jnp.asarray(x[:n]), jnp.asarray(F[:n]), setup.frame
            )
            for x, F in zip(fields["x"], fields["F"])
        )
        count = len(write_plys(workdir / "ply", tqdm(moved, total=job.frames, desc="ply", file=sys.stdout)))
        print(f"{count} frames in {workdir / 'ply'}")
    names = [f"motion.{kind}" for kind in ("npz", "h5") if kind in config.export]
    if names:
        arrays = motion_arrays(fields, setup.config.fps, setup.particles, setup.frame)
        for name in names:
            write_motion(workdir / name, arrays)


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
    setup, p = job.setup, job.proposal
    workdir.mkdir(parents=True, exist_ok=True)
    claim_workdir(workdir, config)
    n = len(setup.gaussians)
    if p is None:
        print(setup.describe())
    else:
        unknown = ", ".join(p.unknown) or "nothing"
        print("\n".join(setup.notes))
        print(f"material: {p.material} ({p.law}), {'; '.join(p.reasons)}; not understood: {unknown}")
    print(f"{n} Gaussians, {setup.particles.count} particles, {setup.config.substeps} substeps per frame")
    eye = jnp.broadcast_to(jnp.eye(3), (n, 3, 3))
    first = picture(job, setup.particles.x, eye)
    shown = scenes.draw_regions(first, setup.regions, scenes.first_camera(setup.camera)) if p is None else first
    media.write_image(workdir / "preview.png", shown)
    clock["preview"] = time.time()
    print(f"preview: {workdir / 'preview.png'} after {clock['preview'] - clock['start']:.0f} s", flush=True)
    fields = simulate_chunks(job, workdir)
    clock["simulate"] = time.time()
    frames = [first]
    bar = tqdm(zip(fields["x"], fields["F"]), total=job.frames, desc="render", unit="frame", file=sys.stdout)
    for k, (x, F) in enumerate(bar):
        frames.append(picture(job, jnp.asarray(x), jnp.asarray(F), k + 1))
    media.write_video(workdir / "video.mp4", np.stack(frames), setup.config.fps)
    clock["render"] = time.time()
    export(job, config, fields, workdir)
    energy = energies(job, fields)
    t = (np.arange(len(fields["x"])) + 1) / setup.config.fps
    momentum = energy.pop("momentum")
    total = sum(energy.values())
    media.plot_series(workdir / "energy.png", t, energy | {"total": total}, "time [s]", "energy [J]")
    axes = {f"p_{a}": momentum[:, i] for i, a in enumerate("xyz")}
    media.plot_series(workdir / "momentum.png", t, axes, "time [s]", "momentum [N s]")
    height = fields["x"][..., 2].mean(1)
    rising = np.flatnonzero(np.diff(height) > 0)
    lowest = int(rising[0]) if len(rising) else len(height) - 1  # of the first bounce
    figures = about_material(job, config) | dict(
        dialect=setup.dialect,
        notes=list(setup.notes),
        gaussians=n,
        particles=setup.particles.count,
        volume_m3=sum(part.volume for part in setup.parts),
        substeps_per_frame=setup.config.substeps,
        frames=len(fields["x"]),
        status_code=0,
        center_start_m=float(np.asarray(setup.particles.x)[:, 2].mean()),
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


def about_material(job: Job, config) -> dict:
    """What was proposed, measured and simulated; or the laws of the scene file's objects."""
    p = job.proposal
    if p is None:
        return dict(objects=[part.name for part in job.setup.parts], laws=[part.law for part in job.setup.parts])
    return dict(
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
    )


def main(_) -> None:
    try:
        run(flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, mpm.SimulationError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "simulate.py"))
    flags.DEFINE_string("workdir", "runs/simulate", "where everything is written")
    app.run(main)
