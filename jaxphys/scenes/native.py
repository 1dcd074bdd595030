"""The native scene format: a json file that names its objects, their materials, and what acts on them. SI, z up.

docs/scene_files.md describes every key.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from jaxphys import language, mpm, shapes
from jaxphys.camera import Camera
from jaxphys.checks import as_array
from jaxphys.mesh import read_mesh
from jaxphys.mpm import forces
from jaxphys.scenes.bind import select_box, select_component
from jaxphys.scenes.draw import suggest_camera
from jaxphys.scenes.drive import Drive
from jaxphys.scenes.fill import Solid, fill, solid_of_gaussians, solid_of_mesh, solid_of_shape
from jaxphys.scenes.sections import REQUIRED, Section
from jaxphys.scenes.setup import Frame, Part, Region, Setup
from jaxphys.scenes.survey import survey
from jaxphys.splats import Gaussians, concatenate, formats

FORMAT = "jaxphys-scene"
UPS = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-z": np.diag([1.0, -1.0, -1.0]),
}
MOST_PARTICLES = 20_000_000


@dataclasses.dataclass
class _Object:
    """One object as read."""

    name: str
    gaussians: Gaussians
    solid: Solid | None
    law: mpm.materials.Law
    law_name: str
    velocity: tuple
    lattice: bool  # its Gaussians are the lattice of its solid


def read_native(section: Section, folder: Path) -> Setup:
    """Reads a native scene file; the paths in it are relative to `folder`.

    Raises:
        ValueError: what is wrong, where in the file, and what was expected.
        FileNotFoundError: a file that it names is not there.
    """
    section.text("format", choices=(FORMAT,))
    if section.integer("version") != 1:
        raise section.error(f"version must be 1, got {section.data['version']!r}")
    notes: list[str] = []
    regions: list[Region] = []
    grid = section.section("grid")
    dx = grid.number("dx_m", above=0.0)
    files = _Files(folder)
    read = [_object(part, files, dx, notes, regions) for part in section.sections("objects")]
    if not read:
        raise section.error("names no objects")
    names = [part.name for part in read]
    if len(set(names)) < len(names):
        raise section.error(f"two objects have one name: {names}")
    particles, parts = _particles(section, read)
    x = np.asarray(particles.x, np.float64)
    boundaries, pushes = [], []
    lo, hi = _domain(grid, x)
    for part in section.sections("boundaries"):
        boundaries.append(part.make(_boundary, part, lo, hi, regions))
        part.finish()
    for part in section.sections("forces"):
        pushes.append(part.make(_force, part, regions))
        part.finish()
    if not boundaries:
        notes.append("no boundaries: what leaves the domain stops the simulation")
    time = section.section("time")
    seconds, fps = time.number("seconds", above=0.0), time.number("fps", above=0.0)
    frames = max(1, round(min(seconds * fps, 1e9)))
    if frames > 100_000:
        raise time.error(f"seconds x fps makes {frames} frames, more than 100000")
    substeps = time.integer("substeps", None, least=1)
    time.finish()
    gravity = section.numbers("gravity_m_s2", 3, (0.0, 0.0, -9.81))
    box = section.make(mpm.Grid, tuple(lo), tuple(hi), dx)
    damping = section.number("rpic_damping", 0.0, least=0.0, most=1.0)
    config = mpm.Config(box, fps=fps, frames=frames, substeps=substeps or "auto", rpic_damping=damping)
    scene = mpm.Scene(gravity, tuple(boundaries), tuple(pushes))
    for push in pushes:
        section.make(push.check, x)
    section.make(mpm.resolve_substeps, tuple(o.law for o in read), particles, scene, config)
    still = files.still()
    camera = _camera(section.section("camera", None), x)
    section.finish("comment")
    regions.append(Region("domain", shapes.Box(tuple((lo + hi) / 2), tuple((hi - lo) / 2)), "domain"))
    return Setup(
        "native",
        concatenate([o.gaussians for o in read]),
        still,
        particles,
        tuple(o.law for o in read),
        parts,
        scene,
        config,
        camera,
        Frame.identity(),
        tuple(regions),
        tuple(notes),
    )


class _Files:
    """Splat files, each read once, and which of their Gaussians are taken."""

    def __init__(self, folder: Path):
        self.folder, self.whole, self.taken, self.left = folder, {}, {}, {}

    def splats(self, part: Section, name: str, up: str) -> Gaussians:
        key = (name, up)
        if key not in self.whole:
            g = formats.read(self.folder / name)
            self.whole[key] = g if up == "z" else g.transform(rotation=UPS[up])
            self.taken[key] = np.zeros(len(g), bool)
        return self.whole[key]

    def take(self, part: Section, name: str, up: str, chosen: np.ndarray, keep: bool) -> None:
        key = (name, up)
        both = int((self.taken[key] & chosen).sum())
        if both:
            raise part.error(f"{both} Gaussians of {name} belong to an earlier object already; separate the selections")
        self.taken[key] |= chosen
        self.left[key] = keep or self.left.get(key, False)

    def still(self) -> Gaussians | None:
        rest = [
            g.select(np.flatnonzero(~self.taken[key]))
            for key, g in self.whole.items()
            if self.left[key] and not self.taken[key].all()
        ]
        return concatenate(rest) if rest else None


def _object(part: Section, files: _Files, dx: float, notes: list, regions: list) -> _Object:
    name = part.text("name")
    spacing = part.number("spacing_m", dx, above=0.0)
    color = part.numbers("color", 3, (0.7, 0.7, 0.7))
    turn = Rotation.from_rotvec(np.radians(part.numbers("rotation_degrees", 3, (0.0,) * 3))).as_matrix()
    shift, scale = np.array(part.numbers("translation_m", 3, (0.0,) * 3)), part.number("scale", 1.0, above=0.0)
    sources = [key for key in ("splats", "mesh", "shape") if key in part]
    if len(sources) != 1:
        raise part.error(f"needs one of splats, mesh or shape, got {sources}")
    up = part.text("up", "z", choices=tuple(UPS))
    keep = part.flag("keep_rest", True)
    whole = part.flag("fill", True)
    solid, lattice = None, True
    if sources == ["splats"]:
        file = part.text("splats")
        g = files.splats(part, file, up)
        chosen = part.make(_select, part.section("select", None), g, files.folder, regions, name)
        files.take(part, file, up, chosen, keep)
        notes.append(f"{name}: {file}, turned z up by up = {up!r}: {part.make(survey, g).describe()}")
        gaussians = part.make(g.select(np.flatnonzero(chosen)).transform, turn, shift, scale)
        lattice = False
        if whole:
            solid = part.make(solid_of_gaussians, gaussians, spacing)
            if solid.hollow:
                notes.append(
                    f"{name}: its Gaussians enclose nothing at {spacing:g} m; only their own voxels are matter"
                )
    else:
        if not whole:
            raise part.error("a mesh or a shape is filled; fill: false is for splats")
        if sources == ["mesh"]:
            mesh = read_mesh(files.folder / part.text("mesh")).transform(turn @ UPS[up], shift, scale)
            solid = part.make(solid_of_mesh, mesh, spacing)
            exact = abs(mesh.volume)
        else:
            if (turn != np.eye(3)).any() or shift.any() or scale != 1.0 or up != "z":
                raise part.error("a shape is placed by its own keys, not by rotation_degrees, translation_m, scale, up")
            solid = part.make(solid_of_shape, _shape(part.section("shape")), spacing)
            exact = solid.volume
        if abs(solid.volume / exact - 1) > 0.03:
            notes.append(
                f"{name}: {solid.volume:.4g} m^3 in voxels of {spacing:g} m, {exact:.4g} m^3 by its surface; a smaller "
                "spacing_m comes nearer"
            )
        points = solid.points()
        gaussians = Gaussians.create(points, 0.35 * spacing, color=color, opacity=0.95)
    law_name, law = _material(part.section("material"), notes, name)
    velocity = part.numbers("velocity_m_s", 3, (0.0,) * 3)
    part.finish()
    return _Object(name, gaussians, solid, law, law_name, velocity, lattice)


def _select(select: Section | None, g: Gaussians, folder: Path, regions: list, name: str) -> np.ndarray:
    """Mask (N,) of the Gaussians that meet every condition."""
    chosen = np.ones(len(g), bool)
    if select is None:
        return chosen
    if "box_m" in select:
        corners = select.get("box_m")
        pair = [Section({"corner": c}, select.where).numbers("corner", 3) for c in corners] if _is_pair(corners) else []
        if len(pair) != 2 or not (np.array(pair[0]) < pair[1]).all():
            raise select.error(f"box_m must be [[x0, y0, z0], [x1, y1, z1]], lower corner first, got {corners}")
        chosen &= select_box(g, *pair)
        lo, hi = np.array(pair)
        regions.append(Region(f"{name}: box", shapes.Box(tuple((lo + hi) / 2), tuple((hi - lo) / 2)), "select"))
    if "mask" in select:
        chosen &= _mask(folder / select.text("mask"), select.integer("label", None, least=-(10**9)), len(g))
    if "points" in select:
        reach = select.number("radius_m", above=0.0)
        distance: Any = cKDTree(formats.read_points(folder / select.text("points"))).query(np.asarray(g.mean))[0]
        chosen &= distance <= reach
    if "cluster_voxel_m" in select:
        chosen &= select_component(g, select.number("cluster_voxel_m", above=0.0))
    opacity = select.number("opacity_above", None, least=0.0, most=1.0)
    if opacity is not None:
        chosen &= np.asarray(g.opacity) > opacity
    select.finish("box_m", "mask", "label", "points", "radius_m", "cluster_voxel_m", "opacity_above")
    if not chosen.any():
        x = np.asarray(g.mean)
        raise select.error(f"selects no Gaussian; the file spans {x.min(0).tolist()} to {x.max(0).tolist()}")
    return chosen


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _mask(path: Path, label: int | None, count: int) -> np.ndarray:
    try:
        mask = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # what numpy raises on a damaged file depends on where it is damaged
        raise ValueError(f"{path}: not a .npy file ({error})") from None
    if not isinstance(mask, np.ndarray) or mask.shape != (count,) or mask.dtype.kind not in "biu":
        got = f"{mask.dtype}{list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ValueError(f"{path}: a mask must hold one truth value or whole number per Gaussian ({count}), got {got}")
    if label is None and mask.dtype.kind != "b" and not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{path}: the mask holds labels {np.unique(mask)[:10].tolist()}; give the one as `label`")
    return mask == label if label is not None else mask.astype(bool)


def _material(part: Section, notes: list, name: str) -> tuple[str, mpm.materials.Law]:
    """A law by name and SI parameters, or by the words of a prompt."""
    if "prompt" in part:
        proposal = part.make(language.propose, part.text("prompt"))
        notes.append(f"{name}: {proposal.material} ({proposal.law}), {'; '.join(proposal.reasons)}")
        part.finish()
        values = {"density": proposal.density} | dict(proposal.simulated)
        return proposal.law, part.make(mpm.materials.create, proposal.law, **values)
    law = part.text("law", choices=tuple(mpm.materials.LAWS))
    values = {}
    for key in part.data:
        if key != "law" and not key.startswith("_"):
            value = part.get(key)
            values[key] = value if isinstance(value, (str, bool)) else part.number(key)
    return law, part.make(mpm.materials.create, law, **values)


def _particles(section: Section, objects: list[_Object]) -> tuple[mpm.Particles, tuple[Part, ...]]:
    """All Gaussians first, object by object; then what fills them."""
    carriers, fillers, parts, first = [], [], [], 0
    for k, o in enumerate(objects):
        n = len(o.gaussians)
        if o.solid is None or o.lattice:
            x = np.asarray(o.gaussians.mean, np.float64)
            volume = o.solid.share(x) if o.solid is not None else _own_volumes(o)
            inside = mpm.Particles.create(np.asarray(x, np.float32), volume, v=o.velocity, material=k)
        else:
            inside = fill(o.solid, surface=o.gaussians.mean, v=o.velocity, material=k)
        total = float(np.asarray(inside.volume, np.float64).sum())
        parts.append(Part(o.name, o.law_name, slice(first, first + n), total))
        first += n
        fields = {f.name: np.asarray(getattr(inside, f.name)) for f in dataclasses.fields(inside)}
        carriers.append({name: a[:n] for name, a in fields.items()})
        fillers.append({name: a[n:] for name, a in fields.items()})
    merged = {name: np.concatenate([p[name] for p in carriers + fillers]) for name in carriers[0]}
    if len(merged["x"]) > MOST_PARTICLES:
        raise section.error(
            f"makes {len(merged['x'])} particles, more than {MOST_PARTICLES}; enlarge dx_m or spacing_m"
        )
    return mpm.Particles(**{name: as_array(a) for name, a in merged.items()}), tuple(parts)


def _own_volumes(o: _Object) -> np.ndarray:
    """Of Gaussians that nothing fills: the ellipsoid of one standard deviation each [m^3]."""
    return np.asarray(4 / 3 * np.pi * np.prod(np.asarray(o.gaussians.scale, np.float64), 1))


def _domain(grid: Section, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    margin = grid.number("margin_m", 0.5, least=0.0)
    lo = np.array(grid.numbers("lo_m", 3, tuple(x.min(0) - margin)))
    hi = np.array(grid.numbers("hi_m", 3, tuple(x.max(0) + margin)))
    cells = np.prod((hi - lo) / grid.number("dx_m"))
    if not cells <= 1e9:
        raise grid.error(f"has {cells:.3g} cells, more than 1e9; enlarge dx_m or shrink the domain")
    grid.finish()
    return lo, hi


def _shape(part: Section) -> shapes.Shape:
    kind = part.text("type", choices=("sphere", "box", "capsule", "cylinder", "half_space"))
    if kind == "sphere":
        shape = part.make(shapes.Sphere, part.numbers("center_m", 3), part.number("radius_m"))
    elif kind == "box":
        turn = tuple(np.radians(part.numbers("rotation_degrees", 3, (0.0,) * 3)))
        shape = part.make(shapes.Box, part.numbers("center_m", 3), part.numbers("half_size_m", 3), turn)
    elif kind == "capsule":
        ends = (part.numbers("start_m", 3), part.numbers("end_m", 3))
        shape = part.make(shapes.Capsule, *ends, part.number("radius_m"))
    elif kind == "cylinder":
        place = (part.numbers("center_m", 3), part.numbers("axis", 3))
        shape = part.make(shapes.Cylinder, *place, part.number("half_height_m"), part.number("radius_m"))
    else:
        shape = part.make(shapes.HalfSpace, part.numbers("point_m", 3), part.numbers("normal", 3))
    part.finish()
    return shape


def _region(label: str, shape: shapes.Shape, kind: str, regions: list) -> None:
    """A box around a shape, for the preview."""
    if isinstance(shape, shapes.HalfSpace):
        return
    at: Any = shape
    if isinstance(shape, shapes.Capsule):
        lo = np.minimum(at.start, at.end) - at.radius
        hi = np.maximum(at.start, at.end) + at.radius
        shape = shapes.Box(tuple((lo + hi) / 2), tuple((hi - lo) / 2))
    elif not isinstance(shape, shapes.Box):
        reach = shape.reach(at.center)
        shape = shapes.Box(tuple(at.center), (reach,) * 3)
    regions.append(Region(label, shape, kind))


def _window(part: Section, end: Any = float("inf")) -> dict[str, Any]:
    start = part.number("start_s", 0.0, least=0.0)
    return dict(start=start, end=part.number("end_s", end, least=start))


def _boundary(part: Section, lo, hi, regions: list) -> Any:
    what = part.text("type", choices=("walls", "ground", "collider"))
    kind = part.text("kind", "separate", choices=("slip", "separate", "sticky"))
    friction = part.number("friction", None, least=0.0)
    if what == "walls":
        corners = (part.numbers("lo_m", 3, tuple(lo)), part.numbers("hi_m", 3, tuple(hi)))
        walls = mpm.Walls(*corners, kind=kind, friction=friction, **_window(part))
        a, b = (np.array(c) for c in corners)
        regions.append(Region("walls", shapes.Box(tuple((a + b) / 2), tuple((b - a) / 2)), "boundary"))
        return walls
    if what == "ground":
        height = part.number("height_m")
        size = tuple(np.append((hi - lo)[:2] / 2, 0.005 * float((hi - lo).max())))
        regions.append(Region("ground", shapes.Box((*((lo + hi) / 2)[:2], height), size), "boundary"))
        shape = shapes.HalfSpace((0.0, 0.0, height), (0.0, 0.0, 1.0))
        return mpm.Collider(shape, kind=kind, friction=friction, **_window(part))
    shape = _shape(part.section("shape"))
    _region(f"collider ({kind})", shape, "boundary", regions)
    return mpm.Collider(
        shape,
        kind=kind,
        friction=friction,
        velocity=part.numbers("velocity_m_s", 3, (0.0,) * 3),
        angular_velocity=part.numbers("angular_velocity_rad_s", 3, (0.0,) * 3),
        center=part.numbers("center_m", 3, (0.0,) * 3),
        moving=part.flag("moving", True),
        **_window(part),
    )


def _force(part: Section, regions: list) -> Any:
    what = part.text("type", choices=("impulse", "force", "acceleration", "drag", "release", "drive"))
    shape = _shape(part.section("shape")) if "shape" in part else None
    if shape is not None:
        _region(what, shape, "force", regions)
    if what == "impulse":
        return forces.Impulse(part.numbers("impulse_N_s", 3), shape, **_window(part, None))
    if what == "force":
        return forces.Force(part.numbers("force_N", 3), shape, **_window(part))
    if what == "acceleration":
        return forces.Acceleration(part.numbers("acceleration_m_s2", 3), shape, **_window(part))
    if what == "drag":
        wind, rate = part.numbers("wind_m_s", 3, (0.0,) * 3), part.number("rate_1_s", least=0.0)
        return forces.Drag(wind, rate, shape, **_window(part))
    if what == "release":
        window = _window(part, REQUIRED)
        layers = part.integer("layers", 1, least=1)
        return forces.Release(part.numbers("direction", 3), window["start"], window["end"], layers, shape)
    return Drive(
        part.numbers("velocity_m_s", 3, (0.0,) * 3),
        part.numbers("angular_velocity_rad_s", 3, (0.0,) * 3),
        part.numbers("center_m", 3, (0.0,) * 3),
        shape,
        **_window(part),
    )


def _camera(part: Section | None, x: np.ndarray) -> Camera:
    if part is None:
        return suggest_camera(x, width=512, height=512)
    size = dict(
        width=part.integer("width", 512, least=1, most=2**14), height=part.integer("height", 512, least=1, most=2**14)
    )
    if "eye_m" in part:
        fov = part.number("fov_degrees", 45.0, above=0.0, most=179.0)
        eye, target = part.numbers("eye_m", 3), part.numbers("target_m", 3)
        camera = part.make(Camera.look_at, eye, target, fov_degrees=fov, **size)
    else:
        azimuth = part.number("azimuth_degrees", 35.0)
        elevation = part.number("elevation_degrees", 18.0, above=-90.0, most=89.9)
        camera = suggest_camera(x, azimuth_degrees=azimuth, elevation_degrees=elevation, **size)
    part.finish()
    return camera
