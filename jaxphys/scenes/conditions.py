"""The `boundary_conditions` of scene files of the PhysGaussian family, as boundaries and forces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxphys import mpm, shapes
from jaxphys.mpm import forces
from jaxphys.scenes.dialects import CONDITIONS, Times
from jaxphys.scenes.drive import Drive, ForceOnEach
from jaxphys.scenes.sections import REQUIRED, Section
from jaxphys.scenes.setup import Frame, Region

PADDING = 3  # cells that a bounding_box keeps free on every side
FOREVER = 1e3  # what an end time means that is left out [s]


@dataclasses.dataclass
class Conditions:
    """What has been read so far."""

    boundaries: list = dataclasses.field(default_factory=list)
    forces: list = dataclasses.field(default_factory=list)
    regions: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)


def read_conditions(section: Section, times: Times, frame: Frame, limit: float, dx: float, variant: str) -> Conditions:
    """Everything that `boundary_conditions` and the damping of the grid ask for.

    A box has half sizes `size` about `point`. `surface_collider` holds what is below its plane: sticky, slip, or with
    Coulomb friction (the released codes make all of them sticky; so does variant="released"). `particle_impulse` is a
    force on each particle over `num_dt` steps of the file. `add_constant_force` is an acceleration, about a point of
    the file's world. A rotation turns by -rotation_scale about `normal`. A sequential release lets go of the particles
    at `start_position` first.

    Raises:
        ValueError: an unknown type, a missing or impossible value.
    """
    out = Conditions()
    damping = section.number("grid_v_damping_scale", 1.1, above=0.0)
    if damping < 1.0:
        out.forces.append(forces.Drag((0.0, 0.0, 0.0), -np.log(damping) / times.dt))
    for c in section.sections("boundary_conditions"):
        kind = c.text("type", choices=CONDITIONS)
        c.make(_READERS[kind], out, c, times=times, frame=frame, limit=limit, dx=dx, variant=variant)
        c.finish("start_time", "end_time")
    return out


def _window(c: Section, default: Any = 0.0) -> dict[str, float]:
    start = c.number("start_time", default, least=0.0)
    return dict(start=start, end=c.number("end_time", REQUIRED if default is REQUIRED else FOREVER, least=start))


def _box(c: Section, point: Any = REQUIRED, size: Any = REQUIRED) -> shapes.Box:
    return shapes.Box(c.numbers("point", 3, point), c.numbers("size", 3, size))


def _bounding_box(out: Conditions, c: Section, limit, dx, **_) -> None:
    lo, hi = (PADDING * dx,) * 3, (limit - PADDING * dx,) * 3
    out.boundaries.append(mpm.Walls(lo, hi, **_window(c)))
    out.regions.append(Region("bounding_box", shapes.Box((limit / 2,) * 3, tuple(np.subtract(hi, lo) / 2)), "domain"))


def _cuboid(out: Conditions, c: Section, **_) -> None:
    box = _box(c)
    velocity = c.numbers("velocity", 3)
    out.boundaries.append(mpm.Collider(box, kind="sticky", velocity=velocity, center=box.center, **_window(c)))
    out.regions.append(Region("cuboid", box, "boundary"))
    if c.flag("reset", False):
        out.notes.append(
            "cuboid: 'reset' stops the whole grid for 15 steps after the end of the released code's; left out"
        )


def _surface(out: Conditions, c: Section, variant, limit, **_) -> None:
    point, normal = c.numbers("point", 3), c.numbers("normal", 3)
    surface = c.text("surface")
    friction = c.number("friction", 0.0, least=0.0)
    if surface == "cut":
        raise ValueError("surface 'cut' holds fixed heights of one scene (0.4 to 0.53); use sticky, slip or friction")
    if surface == "sticky" and friction:
        raise ValueError(f"a sticky surface has no friction, got {friction:g}")
    kind = "sticky" if variant == "released" or surface == "sticky" else "slip" if surface == "slip" else "separate"
    half_space = shapes.HalfSpace(point, normal)
    with_friction = friction if kind == "separate" and friction > 0 else None
    out.boundaries.append(mpm.Collider(half_space, kind=kind, friction=with_friction, **_window(c)))
    if kind != "sticky":
        out.notes.append(f"surface_collider {surface!r}: {kind}; the released code makes every surface sticky")
    n = np.asarray(normal) / np.linalg.norm(normal)
    flat = np.where(np.abs(n) > 0.9, 0.01 * limit, 0.5 * limit)  # a sheet where an axis is nearly the normal
    where = np.where(np.abs(n) > 0.9, point, limit / 2)
    out.regions.append(Region(f"surface ({kind})", shapes.Box(tuple(where), tuple(flat)), "boundary"))


def _impulse(out: Conditions, c: Section, times, **_) -> None:
    box = _box(c, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    start = c.number("start_time", 0.0, least=0.0)
    end = start + c.integer("num_dt", 1, least=1) * times.dt
    out.forces.append(ForceOnEach(c.numbers("force", 3), box, start, end))
    out.regions.append(Region("particle_impulse", box, "force"))


def _acceleration(out: Conditions, c: Section, frame, **_) -> None:
    center = tuple(frame.apply(np.array(c.numbers("point", 3))))
    ball = shapes.Sphere(center, frame.scale * c.number("radius", above=0.0))
    out.forces.append(forces.Acceleration(c.numbers("force", 3), ball, **_window(c)))
    out.regions.append(Region("add_constant_force", shapes.Box(center, (ball.radius,) * 3), "force"))
    out.notes.append("add_constant_force: an acceleration [m/s^2], its point and radius in the file's world")


def _translation(out: Conditions, c: Section, **_) -> None:
    box = _box(c)
    out.forces.append(Drive(c.numbers("velocity", 3), shape=box, **_window(c, REQUIRED)))
    out.regions.append(Region("enforce_particle_translation", box, "boundary"))


def _rotation(out: Conditions, c: Section, **_) -> None:
    point, normal = c.numbers("point", 3), np.array(c.numbers("normal", 3))
    if not normal.any():
        raise ValueError("normal must not be zero")
    normal = normal / np.linalg.norm(normal)
    half_height, radius = c.numbers("half_height_and_radius", 2)
    rod = shapes.Cylinder(point, tuple(normal), half_height, radius)
    w, v = -c.number("rotation_scale") * normal, c.number("translation_scale") * normal
    out.forces.append(Drive(tuple(v), tuple(w), point, shape=rod, **_window(c, REQUIRED)))
    reach = half_height * np.abs(normal) + radius * np.sqrt(np.maximum(0.0, 1.0 - normal**2))
    out.regions.append(Region("enforce_particle_velocity_rotation", shapes.Box(point, tuple(reach)), "boundary"))


def _release(out: Conditions, c: Section, **_) -> None:
    normal = np.array(c.numbers("normal", 3))
    if np.count_nonzero(normal) != 1:
        raise ValueError(f"normal must be along one axis, got {normal.tolist()}")
    axis = int(np.flatnonzero(normal)[0])
    first, last = c.number("start_position"), c.number("end_position")
    if first == last:
        raise ValueError("start_position and end_position are the same")
    point, size = np.array(c.numbers("point", 3, (1.0,) * 3)), np.array(c.numbers("size", 3, (1.0,) * 3))
    point[axis], size[axis] = last, abs(first - last)
    layers = c.integer("num_layers", least=1)
    if c.number("start_time", least=0.0):
        raise ValueError("a release must start at 0: until start_time the particles would move, then stand still")
    end = c.number("end_time", above=0.0)
    direction = np.zeros(3)
    direction[axis] = last - first
    box = shapes.Box(tuple(point), tuple(size))
    out.forces.append(forces.Release(tuple(direction), end / layers, end + end / layers, layers, box))
    out.regions.append(Region("release", box, "boundary"))


_READERS = {
    "bounding_box": _bounding_box,
    "cuboid": _cuboid,
    "surface_collider": _surface,
    "particle_impulse": _impulse,
    "add_constant_force": _acceleration,
    "enforce_particle_translation": _translation,
    "enforce_particle_velocity_rotation": _rotation,
    "release_particles_sequentially": _release,
    "release_particles_sequentially_size": _release,
}
