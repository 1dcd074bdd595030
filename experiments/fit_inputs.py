"""What the fitting job is given: a reference and a config to a stated problem; every error of the input shows here."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.blocks import block
from jaxphys import media, mpm, scenes, splats
from jaxphys.camera import Camera
from jaxphys.camera_files import read_cameras
from jaxphys.mpm.materials import LAWS, Bound
from jaxphys.scenes import identify
from jaxphys.scenes.draw import FLOWING

TRACK_SIGMA, PIXEL_SIGMA = 1e-3, 0.02
EXAMPLES = ("example", "example_video")
METHODS = ("gauss_newton", "adam")


@dataclasses.dataclass(frozen=True)
class Reference:
    """What is known of the object and what was seen of it."""

    particles: mpm.Particles  # at t = 0
    fps: float
    x: np.ndarray | None = None  # tracks [m] (T, N, 3), t = 0 not among them
    images: np.ndarray | None = None  # (T, H, W, 3)
    gaussians: splats.Gaussians | None = None  # carried by the first particles
    camera: Camera | None = None
    part: np.ndarray | None = None


def law_of(config, values: dict[str, float]) -> mpm.materials.Law:
    """The law with these values, and the known ones of the config."""
    return mpm.materials.create(config.law, **dict(config.known), **values)


def boundaries(config, lo, hi) -> tuple:
    friction = config.friction if config.walls == "separate" else None
    return (mpm.Walls(tuple(lo), tuple(hi), kind=config.walls, friction=friction),)


def example(config) -> Reference:
    """A block thrown onto the floor, simulated with the true values, and noise."""
    if config.reference not in EXAMPLES:
        raise ValueError(f"config.reference must be a file or one of {EXAMPLES}, got {config.reference!r}")
    if not config.domain_m:
        raise ValueError("config.domain_m: the example needs a domain, (lo, hi) of the walls")
    rng = np.random.default_rng(config.seed)
    body = block(
        (0.15, 0.15, 0.01), (0.35, 0.35, 0.21), config.dx_m / 2, v=jnp.asarray(config.velocity_m_s, jnp.float32)
    )
    lo, hi = config.domain_m[:3], config.domain_m[3:]
    truth = {name: float(v) for name, v in config.truth.items() if name not in identify.VECTORS}
    law = law_of(config, truth)
    simulation = mpm.Config(mpm.Grid(lo, hi, config.dx_m), fps=config.frames / config.seconds, frames=config.frames)
    scene = mpm.Scene(tuple(config.gravity_m_s2), boundaries(config, lo, hi))
    # with the step of the fit: the stiffest admissible parameters set it
    blank = identify.Tracks(jnp.zeros((config.frames, body.count, 3)), TRACK_SIGMA)
    posed = identify.problem(law, body, scene, simulation, blank, ranges_of(config))
    path = mpm.simulate(law, body, scene, posed.config)
    if config.reference == "example":
        x = np.asarray(path.x) + TRACK_SIGMA * rng.standard_normal(path.x.shape).astype(np.float32)
        return Reference(body, simulation.fps, x=x)
    u = (np.asarray(body.x) - np.asarray(body.x).min(0)) / np.ptp(np.asarray(body.x), axis=0)
    color = 0.5 + 0.4 * np.sin(2 * np.pi * (u @ np.array([[0.7, 0.0, 0.4], [0.5, 0.6, 0.0], [0.0, 0.8, 1.1]])))
    gaussians = splats.Gaussians.create(np.asarray(body.x), 0.45 * config.dx_m / 2, color=color, opacity=0.9)
    camera = camera_of(config, config.image_pixels, config.image_pixels)
    drawn = splats.render_video(gaussians, path.x, None if config.law in FLOWING else path.F, camera)
    images = np.asarray(drawn.image) + PIXEL_SIGMA * rng.standard_normal(drawn.image.shape).astype(np.float32)
    return Reference(body, simulation.fps, images=images, gaussians=gaussians, camera=camera)


def camera_of(config, width: int, height: int) -> Camera:
    """The camera of the config, at a picture size."""
    if not config.cameras:
        return Camera.look_at(config.eye_m, config.target_m, fov_degrees=config.fov_degrees, width=width, height=height)
    known = read_cameras(config.cameras)
    if config.camera not in known:
        raise ValueError(f"config.camera = {config.camera!r} is not in {config.cameras}; it has {list(known)[:8]}")
    return known[config.camera].resized(width, height)


def read_tracks(path: Path, config) -> Reference:
    """Tracks from an npz; keys in the docstring of the config."""
    try:
        with np.load(path) as file:
            data = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as an npz ({error})") from error
    if not {"x", "fps"} <= set(data):
        raise ValueError(f"{path}: expected at least the arrays x and fps, found {sorted(data)}")
    x = np.asarray(data["x"], np.float32)
    if x.ndim != 3 or x.shape[2] != 3 or len(x) < 2:
        raise ValueError(f"{path}: x must have shape (1 + T, N, 3) with T >= 1, got {x.shape}")
    if not np.isfinite(x[0]).all():
        raise ValueError(f"{path}: x[0], the particles at t = 0, must be finite; later frames may hold NaN")
    volume = data.get("volume")
    if volume is None:
        # what a cell of the grid holds is shared by its particles
        _, cell, count = np.unique(np.floor(x[0] / config.dx_m), axis=0, return_inverse=True, return_counts=True)
        volume = config.dx_m**3 / np.maximum(count[cell.reshape(-1)], 8)
    v = data.get("v", np.asarray(config.velocity_m_s, np.float32))
    particles = mpm.Particles.create(jnp.asarray(x[0]), jnp.asarray(volume, jnp.float32), v=jnp.asarray(v, jnp.float32))
    fps = np.asarray(data["fps"])
    if fps.size != 1 or not np.isfinite(fps).all() or fps.item() <= 0:
        raise ValueError(f"{path}: fps must be one positive number, got {fps}")
    return Reference(particles, fps.item(), x=x[1:], part=data.get("part"))


def read_pictures(path: Path, config) -> Reference:
    """A video, its first picture at t = 0, and the splat that it shows."""
    if not config.splat:
        raise ValueError("config.splat is empty: a reference video needs the object at t = 0 as a PLY")
    binding = scenes.bind(splats.read_ply(config.splat), config.dx_m, v=tuple(config.velocity_m_s))
    frames, fps = media.read_video(path)
    if len(frames) < 2:
        raise ValueError(f"{path}: one picture only; a fit needs motion")
    width = min(config.image_pixels, frames.shape[2])
    height = max(1, round(frames.shape[1] * width / frames.shape[2]))
    images = jax.image.resize(frames[1:], (len(frames) - 1, height, width, 3), "linear", antialias=True)
    camera = camera_of(config, width, height)
    return Reference(
        binding.particles, fps, images=np.asarray(images), gaussians=binding.gaussians, camera=camera, part=None
    )


def ranges_of(config) -> dict[str, Bound]:
    """The unknowns of the config as bounds; the law says on which scale each is searched."""
    if config.law not in LAWS:
        raise ValueError(f"config.law = {config.law!r} is unknown, choose one of {', '.join(sorted(LAWS))}")
    ranges = {}
    for name, ends in config.unknown.items():
        if len(ends) != 2:
            raise ValueError(f"config.unknown.{name} must hold (lo, hi), got {tuple(ends)}")
        known = LAWS[config.law].bounds.get(name)
        unit, scale = (known.unit, known.scale) if known else (identify.VECTORS.get(name, ""), "linear")
        ranges[name] = Bound(float(ends[0]), float(ends[1]), unit, scale)
    return ranges


def prepare(config) -> tuple[identify.Problem, dict[str, tuple], float]:
    """The problem, the shape of every unknown, and the frames per second.

    Args:
        config: of experiments/configs/fit.py.

    Raises:
        ValueError: anything in the config or the files that does not fit.
    """
    ranges = ranges_of(config)
    fields: dict[str, Any] = {name: "part" for name in config.by_part} | {n: "particle" for n in config.by_particle}
    wrong = [n for n in fields if n not in ranges or n in identify.VECTORS]
    if wrong:
        raise ValueError(f"by_part and by_particle name unknown parameters of the law, got {wrong}")
    if config.by_part and config.by_particle:
        raise ValueError("fields are either by part or by particle, not both in one fit")
    if config.method not in METHODS:
        raise ValueError(f"config.method must be one of {METHODS}, got {config.method!r}")
    if config.starts < 1:
        raise ValueError(f"config.starts must be at least 1, got {config.starts}")
    path = Path(config.reference)
    if path.is_file():
        ref = read_tracks(path, config) if path.suffix == ".npz" else read_pictures(path, config)
    elif path.suffix:
        raise ValueError(f"config.reference: no such file: {path}")
    else:
        ref = example(config)
    if config.by_part and ref.part is None:
        raise ValueError("config.by_part needs the array `part` in the reference")
    x = np.asarray(ref.particles.x)
    if config.domain_m:
        lo, hi = np.asarray(config.domain_m[:3]), np.asarray(config.domain_m[3:])
    else:
        points = x if ref.x is None else np.concatenate([x, ref.x[np.isfinite(ref.x).all(-1)]])
        lo, hi = points.min(0) - config.margin_m, points.max(0) + config.margin_m
        lo[2] = points[:, 2].min()
    middle = {n: float(np.sqrt(b.lo * b.hi) if b.scale == "log" else 0.5 * (b.lo + b.hi)) for n, b in ranges.items()}
    law = law_of(config, {n: v for n, v in middle.items() if n not in identify.VECTORS})
    scene = mpm.Scene(tuple(config.gravity_m_s2), boundaries(config, lo, hi))
    seen: Any
    if ref.images is not None:
        frames = len(ref.images)
        sigma = config.sigma or PIXEL_SIGMA
        seen = identify.Video.create(
            ref.images, ref.gaussians, ref.camera, sigma=sigma, rigid=config.law in FLOWING, background=1.0
        )
    else:
        frames = len(ref.x)
        seen = identify.Tracks(jnp.asarray(ref.x), config.sigma or TRACK_SIGMA)
    simulation = mpm.Config(mpm.Grid(tuple(lo), tuple(hi), config.dx_m), fps=ref.fps, frames=frames)
    problem = identify.problem(
        law,
        ref.particles,
        scene,
        simulation,
        seen,
        ranges,
        part=ref.part if config.by_part else None,
        smoothness=config.smoothness if config.by_particle else None,
    )
    parts = 0 if ref.part is None else int(np.max(ref.part)) + 1
    sizes = {"part": (parts,), "particle": (ref.particles.count,)}
    shapes = {n: (3,) if n in identify.VECTORS else sizes[fields[n]] if n in fields else () for n in sorted(ranges)}
    return problem, shapes, ref.fps
