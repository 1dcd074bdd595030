"""Scene files read into a `Setup`: the native format, and the PhysGaussian family with the splats they need."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from jaxphys import mpm, shapes
from jaxphys.checks import as_array
from jaxphys.scenes import dialects
from jaxphys.scenes.conditions import read_conditions
from jaxphys.scenes.drive import Drive
from jaxphys.scenes.fill import Solid, cell_volumes, solid_of_gaussians
from jaxphys.scenes.native import read_native
from jaxphys.scenes.sections import Section, read_json
from jaxphys.scenes.setup import Frame, Part, Region, Setup
from jaxphys.scenes.survey import survey
from jaxphys.scenes.viewpoint import read_camera
from jaxphys.splats import Gaussians, formats


def read_scene(
    path: str | os.PathLike,
    model: str | os.PathLike | Gaussians | None = None,
    *,
    dialect: str | None = None,
    variant: str = "default",
    scale: float | None = None,
) -> Setup:
    """Reads a scene file and the splats that it is about.

    Args:
        path: a json file of the native format, or of PhysGaussian, DreamPhysics, PhysFlow or MotionPhysics.
        model: for those four: the splats, as a file, as the folder of a 3D Gaussian Splatting run (with cameras.json,
            `moving_part_points.ply`, `clean_object_points.ply` where there are such), or as Gaussians.
        dialect: "physgaussian" | "dreamphysics" | "physflow" | "motionphysics"; None detects it, and says why in the
            notes, or raises where it is ambiguous.
        variant: "default", or "released" for laws and colliders as the released codes compute them.
        scale: longest side of the object in the simulation's box, in place of the file's `scale`. (PhysFlow and
            MotionPhysics have such factors in their code, by the name of the scene's folder.)

    Returns:
        What is to be simulated, in the space of the file: for the four dialects a box of side `grid_lim`.

    Raises:
        ValueError: what is wrong, where in the file, and what was expected.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    dialects.check_dialect(dialect, variant, path)
    section = read_json(path)
    if "format" in section:
        if model is not None or dialect is not None or scale is not None:
            raise section.error("is a native scene file, which names its splats itself: give no model, dialect, scale")
        return read_native(section, path.parent)
    reason = "as named"
    if dialect is None:
        dialect, reason = dialects.detect(section)
    if model is None:
        raise section.error(f"is a {dialect} scene file, which does not say where its splats are: give `model`")
    return _read_family(section, model, dialect, reason, variant, scale)


def _read_family(section: Section, model: Any, dialect: str, reason: str, variant: str, scale: float | None) -> Setup:
    notes = [f"dialect {dialect}: {reason}"]
    folder = None if isinstance(model, Gaussians) else Path(model)
    whole = model if isinstance(model, Gaussians) else formats.read(model)
    threshold = section.number("opacity_threshold", 0.02, least=0.0, most=1.0)
    opaque = np.asarray(whole.opacity) > threshold
    if not opaque.any():
        raise section.error(f"no Gaussian is more opaque than opacity_threshold = {threshold:g}")
    if not opaque.all():
        notes.append(f"{int((~opaque).sum())} Gaussians with opacity <= {threshold:g} left out")
    whole = whole.select(np.flatnonzero(opaque))
    notes.append(f"the file of the splats: {section.make(survey, whole).describe()}")
    limit = section.number("grid_lim", 2.0, above=0.0)
    n_grid = section.integer("n_grid", 50, least=8, most=1024)
    dx = limit / n_grid
    R = dialects.rotation(section)
    chosen, area = _choose(section, whole, R, folder, dialect, n_grid, notes)
    wanted = section.number("scale", 1.0, above=0.0) if scale is None else scale
    frame = _normalise(np.asarray(whole.mean, np.float64)[chosen] @ R.T, R, limit, wanted, dialect, section)
    moved = whole.transform(frame.rotation, frame.translation, frame.scale)
    gaussians = moved.select(np.flatnonzero(chosen))
    still = None if chosen.all() else moved.select(np.flatnonzero(~chosen))
    x, filled = _fill(section, gaussians, limit, n_grid, notes)
    x = np.concatenate([np.asarray(gaussians.mean, np.float64), x])
    volume = cell_volumes(x, dx)
    if section.data.get("material") == "sand":
        volume = np.full(len(x), volume.mean())
    times = dialects.times(section, dialect)
    name, law, said = dialects.law(section, dialect, variant, _boxes(section, x, notes))
    conditions = read_conditions(section, times, frame, limit, dx, variant)
    if dialect == "motionphysics":
        conditions.forces += _frozen(folder, frame, x, n_grid, notes)
    gravity = section.numbers("g", 3, (0.0, 0.0, -9.8))
    if "g" not in section:
        notes.append("no g given: (0, 0, -9.8) is taken; the released codes stop here")
    if section.number("pic_damping", 0.0) > 0:
        raise section.error("pic_damping is not supported; use rpic_damping (1 keeps the rotation only)")
    damping = section.number("rpic_damping", 0.0, most=1.0)
    if damping < 0:
        raise section.error("rpic_damping < 0 means PIC, which is not supported; use a number from 0 to 1")
    camera, seen = read_camera(section, folder, frame, times.frames, limit)
    section.finish(*dialects.UNUSED)
    box = mpm.Grid((0.0,) * 3, (limit,) * 3, dx)
    config = mpm.Config(box, fps=times.fps, frames=times.frames, rpic_damping=damping)
    particles = section.make(mpm.Particles.create, np.asarray(x, np.float32), volume)
    scene = mpm.Scene(gravity, tuple(conditions.boundaries), tuple(conditions.forces))
    for force in scene.forces:
        section.make(force.check, x)
    needed = section.make(mpm.resolve_substeps, (law,), particles, scene, config)
    notes.append(f"the file asks for {times.substeps:g} substeps per frame; {needed} are stable and will be taken")
    selected = (
        [] if area is None else [Region("sim_area", _between(*(frame.scale * area + frame.translation)), "select")]
    )
    regions = [*selected, *filled, *conditions.regions]
    regions.append(Region("domain", shapes.Box((limit / 2,) * 3, (limit / 2,) * 3), "domain"))
    part = Part("object", name, slice(0, len(gaussians)), float(volume.sum()))
    notes += said + conditions.notes + seen
    return Setup(
        dialect,
        gaussians,
        still,
        particles,
        (law,),
        (part,),
        scene,
        config,
        camera,
        frame,
        tuple(regions),
        tuple(notes),
    )


def _between(lo, hi) -> shapes.Box:
    return shapes.Box(tuple(((lo + hi) / 2).tolist()), tuple(((hi - lo) / 2).tolist()))


def _corners(section: Section, key: str) -> np.ndarray | None:
    """x0, x1, y0, y1, z0, z1 as the lower and the upper corner (2, 3); None where it is missing or null."""
    if section.get(key, None) is None:
        return None
    six = section.numbers(key, 6)
    corners = np.array([six[::2], six[1::2]])
    if not (corners[0] < corners[1]).all():
        raise section.error(f"{key} {list(six)} must be x0, x1, y0, y1, z0, z1 with x0 < x1 and so on")
    return corners


def _choose(section, whole, R, folder, dialect, n_grid, notes) -> tuple[np.ndarray, np.ndarray | None]:
    """Mask of the Gaussians that move: in `sim_area`, or near the points of the model's mask; and that area."""
    area = _corners(section, "sim_area")
    chosen = np.ones(len(whole), bool)
    if area is not None:
        rotated = np.asarray(whole.mean, np.float64) @ R.T
        chosen = ((rotated > area[0]) & (rotated < area[1])).all(1)
        if not chosen.any():
            raise section.error(
                f"sim_area {area.T.ravel().tolist()} (x0, x1, y0, y1, z0, z1 after the rotation) holds no Gaussian; "
                f"they span {rotated.min(0).tolist()} to {rotated.max(0).tolist()}"
            )
    mask = _mask_file(folder, dialect)
    if mask is not None:
        distance: Any = cKDTree(formats.read_points(mask)).query(np.asarray(whole.mean, np.float64))[0]
        chosen = distance <= 0.5 / n_grid
        if not chosen.any():
            raise section.error(f"no Gaussian lies within {0.5 / n_grid:g} of a point of {mask}")
        notes.append(f"{int(chosen.sum())} Gaussians near the points of {mask.name} move")
    return chosen, area


def _mask_file(folder: Path | None, dialect: str) -> Path | None:
    if folder is None or not folder.is_dir() or dialect not in ("physflow", "motionphysics"):
        return None
    moving, clean = folder / "moving_part_points.ply", folder / "clean_object_points.ply"
    if not moving.is_file():
        return None
    return clean if dialect == "motionphysics" and clean.is_file() else moving


def _frozen(folder: Path | None, frame: Frame, x: np.ndarray, n_grid: int, notes: list) -> list:
    """MotionPhysics with both point files: what is far from the moving part stands still."""
    mask = _mask_file(folder, "motionphysics")
    if mask is None or folder is None or mask.name != "clean_object_points.ply":
        return []
    moving = frame.apply(formats.read_points(folder / "moving_part_points.ply"))
    distance: Any = cKDTree(moving).query(x)[0]
    far = distance > 2.0 / n_grid
    notes.append(f"{int(far.sum())} particles far from moving_part_points.ply are held")
    return [Drive(members=as_array(far, np.float32))] if far.any() else []


def _normalise(x: np.ndarray, R: np.ndarray, limit: float, wanted: float, dialect: str, section: Section) -> Frame:
    lo, hi = x.min(0), x.max(0)
    if dialect == "motionphysics" and limit == 1.0:
        span = x.max() - x.min()
        scale = 1.0 / (1.8 * span) if span > 0 else 0.0
        shift = -(x.min() - 0.25 * span) * scale * np.ones(3)
    else:
        span = (hi - lo).max()
        scale = wanted / span if span > 0 else 0.0
        shift = 1.0 - scale * (lo + hi) / 2
    if not (scale > 0 and np.isfinite(scale)):
        raise section.error(f"the object has a size of {span:g}; it needs Gaussians at several places")
    frame = Frame(R, shift, float(scale))
    y = scale * x + shift
    if y.min() < 0 or y.max() > limit:
        raise section.error(
            f"the object spans {y.min(0).tolist()} to {y.max(0).tolist()} in the box of side grid_lim = {limit:g}, so "
            "part of it lies outside: lower scale, or enlarge grid_lim"
        )
    return frame


def _fill(section: Section, gaussians: Gaussians, limit: float, n_grid: int, notes: list) -> tuple:
    """Points that fill the inside (N, 3), and the region they were asked for."""
    if section.get("particle_filling", None) is None:
        return np.zeros((0, 3)), []
    filling = section.section("particle_filling")
    cells = filling.integer("n_grid", 4 * n_grid, least=8, most=2048)
    most = filling.integer("max_particles_num", 2_000_000, least=1)
    each = filling.integer("max_partciels_per_cell", 1, least=1, most=64, also="max_particles_per_cell")
    area = _corners(filling, "boundary")
    regions = [] if area is None else [Region("particle_filling", _between(*area), "select")]
    solid: Solid = filling.make(solid_of_gaussians, gaussians, limit / cells)
    filling.finish(
        *("density_threshold", "search_threshold", "search_exclude_direction", "ray_cast_direction"),
        *("smooth", "visualize"),
    )
    points = solid.points(max(1, round(each ** (1 / 3))))
    if area is not None:
        points = points[((points > area[0]) & (points < area[1])).all(1)]
    if len(points) > most:
        raise filling.error(f"filling takes {len(points)} particles, more than max_particles_num = {most}")
    notes.append(f"{len(points)} particles fill {solid.volume:.4g} of volume by the project's own method; thresholds")
    notes[-1] += " and directions of the released one are not used"
    if solid.hollow:
        notes.append(f"the Gaussians enclose nothing at a cell of {limit / cells:.3g}: only their own cells are filled")
    return points, regions


def _boxes(section: Section, x: np.ndarray, notes: list):
    """The changes of `additional_material_params`, as a function (name, value) -> value or (N,)."""
    changes = []
    for part in section.sections("additional_material_params"):
        point, size = np.array(part.numbers("point", 3)), np.array(part.numbers("size", 3))
        values = {key: part.number(key, least=0.0) for key in ("E", "nu")}
        values["density"] = part.number("density", None, above=0.0)
        part.finish()
        within = (np.abs(x - point) < size).all(1)
        if not within.any():
            notes.append(f"{part.where.split(': ', 1)[-1]}: no particle lies in it")
        changes.append((within, values))

    def apply(name, value):
        if value is None or not any(within.any() and values[name] is not None for within, values in changes):
            return value
        out = np.full(len(x), value, np.float32)
        for within, values in changes:
            if values[name] is not None:
                out[within] = values[name]
        return out

    return apply
