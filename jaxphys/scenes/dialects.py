"""Scene files of PhysGaussian, DreamPhysics, PhysFlow and MotionPhysics: which dialect it is, and what its keys mean.

They share most keys (docs/scene_files.md lists them) and differ in units: PhysGaussian writes E and yield_stress in
pascals, the others E / 1e7, yield_stress / 1e5, plastic_viscosity / 1e4, mu / 1e7 and bulk / 1e5. Lengths are those of
a scene that is turned, scaled to a longest side of `scale` (1) and put at the centre (1, 1, 1) of a box of side
`grid_lim` (2); MotionPhysics with grid_lim 1 scales by 1 / (1.8 span) and leaves a margin of a quarter below.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np

from jaxphys.mpm import materials
from jaxphys.scenes.sections import Section

DIALECTS = ("physgaussian", "dreamphysics", "physflow", "motionphysics")
VARIANTS = ("default", "released")

# A key that only one of them reads -> the dialect.
MARKS = {
    "substep_perframe": "motionphysics",
    "total_time": "motionphysics",
    "downsample_scale": "motionphysics",
    "bulk": "motionphysics",
    "mu": "motionphysics",
    "opt_frame_dt": "physflow",
}
SCALED_BELOW, SI_ABOVE = 10.0, 500.0  # E of the published files: 3e-7..0.2 scaled, 2e3..5e7 in pascals
# Read by the released codes for optimisation, display or debugging; no part of a simulation.
UNUSED = ("prompt", "lr", "bbox_2d", "line", "reduction", "show_hint", "downsample_scale", "opt_frame_dt", "viscosity")
UNUSED += ("mu_N", "lam_N")
NAMES = {"jelly": "fixed_corotated", "elastic": "fixed_corotated", "non_newtonian": "foam", "fluid": "water"}
MATERIALS = ("jelly", "elastic", "metal", "sand", "foam", "snow", "plasticine", "newtonian", "non_newtonian", "fluid")
CONDITIONS = ("bounding_box", "cuboid", "surface_collider", "particle_impulse", "add_constant_force")
CONDITIONS += ("enforce_particle_translation", "enforce_particle_velocity_rotation")
CONDITIONS += ("release_particles_sequentially", "release_particles_sequentially_size")


@dataclasses.dataclass(frozen=True)
class Units:
    """SI value of a number in the file."""

    modulus: float = 1.0  # E and mu [Pa, Pa s]
    stress: float = 1.0  # yield_stress and bulk [Pa]
    viscosity: float = 1.0  # plastic_viscosity [Pa s]


SI, SCALED = Units(), Units(1e7, 1e5, 1e4)


def detect(section: Section) -> tuple[str, str]:
    """The dialect of a scene file, and the reason.

    PhysGaussian and DreamPhysics have the same keys; the size of E tells them apart, where it is not ambiguous.

    Raises:
        ValueError: it cannot be told; name the dialect.

    >>> detect(Section({"E": 2e6, "substep_dt": 1e-4}, "a.json"))
    ('physgaussian', 'E = 2e+06 can only be in pascals')
    """
    marks = {key: MARKS[key] for key in MARKS if key in section}
    if isinstance(section.data.get("boundary_conditions"), list) and any(
        isinstance(c, dict) and c.get("type") == "add_constant_force" for c in section.data["boundary_conditions"]
    ):
        marks["add_constant_force"] = "motionphysics"
    found = set(marks.values())
    if len(found) > 1:
        raise section.error(f"has keys of several dialects ({marks}); name one of {', '.join(DIALECTS)}")
    if found:
        return found.pop(), f"it has {', '.join(sorted(marks))}"
    if "lr" in section or "line" in section or "bbox_2d" in section:
        return "physflow", "it has settings of PhysFlow's optimiser beside substep_dt"
    E = section.number("E", None, above=0.0)
    if E is None:
        raise section.error(
            "gives no E, so its unit cannot be told: PhysGaussian writes pascals, DreamPhysics E / 1e7; name the "
            f"dialect, one of {', '.join(DIALECTS)}"
        )
    if E < SCALED_BELOW:
        return "dreamphysics", f"E = {E:g} can only be in units of 1e7 Pa"
    if E > SI_ABOVE:
        return "physgaussian", f"E = {E:g} can only be in pascals"
    raise section.error(
        f"E = {E:g} could be in pascals (PhysGaussian) or in units of 1e7 Pa (DreamPhysics); name the dialect"
    )


def rotation(section: Section) -> np.ndarray:
    """The product of the rotations by `rotation_degree` about `rotation_axis` (0, 1, 2), the first one first."""
    degrees = section.numbers("rotation_degree", None, ())
    axes = section.numbers("rotation_axis", None, ())
    if len(degrees) != len(axes) or any(a not in (0, 1, 2) for a in axes):
        raise section.error(
            f"rotation_degree {list(degrees)} and rotation_axis {list(axes)} must pair angles with axes 0, 1 or 2"
        )
    R = np.eye(3)
    for degree, axis in zip(degrees, axes):
        c, s = np.cos(np.radians(degree)), np.sin(np.radians(degree))
        i, j = [(1, 2), (2, 0), (0, 1)][int(axis)]
        one = np.eye(3)
        one[i, i], one[i, j], one[j, i], one[j, j] = c, -s, s, c
        R = one @ R
    return R


@dataclasses.dataclass(frozen=True)
class Times:
    fps: float
    frames: int
    substeps: float  # per frame, as the file asks
    dt: float  # [s]


def times(section: Section, dialect: str) -> Times:
    if dialect == "motionphysics":
        frames = section.integer("frame_num", 100, least=1, most=100_000)
        total = section.number("total_time", 3.0, above=0.0)
        substeps = section.integer("substep_perframe", 256, least=1)
        return Times(frames / total, frames, substeps, total / (frames * substeps))
    frame = section.number("frame_dt", 1e-2, above=0.0, most=1e4)
    dt = section.number("substep_dt", 1e-4, above=0.0, most=1e4)
    return Times(1.0 / frame, section.integer("frame_num", 100, least=1, most=100_000), int(frame / dt + 1e-6), dt)


def law(section: Section, dialect: str, variant: str, boxes: Any) -> tuple[str, materials.Law, list[str]]:
    """The law that a file means.

    Conversions, with t = |dev tau| the norm by which the released codes measure stress: metal and plasticine yield at
    t = yield_stress, so the uniaxial yield stress is sqrt(3/2) times it, the hardening slope 3 mu xi, the softening
    rate 1.5 softening / that yield stress. Foam and non_newtonian yield at t = sqrt(2/3) yield_stress. E and nu of a
    `newtonian` mean viscosity = E / (2 (1 + nu)) and bulk modulus = E / (3 (1 - 2 nu)), as PhysFlow computes them.

    Args:
        section: the file.
        dialect: one of `DIALECTS`.
        variant: "default", or "released" for the laws as those codes compute them.
        boxes: (name, value) -> value with the changes of additional_material_params, a scalar or (N,).

    Returns:
        Its name in `mpm.materials.LAWS`, the law, notes.

    Raises:
        ValueError: an unknown material, a missing or impossible parameter.
    """
    units = SI if dialect == "physgaussian" else SCALED
    name = section.text("material", "jelly", choices=MATERIALS)
    notes = [] if "material" in section else ["no material given: jelly, as the released codes take it"]
    density = boxes("density", section.number("density", 200.0, above=0.0))
    values: dict[str, Any] = {"density": density}
    fluid = name in ("fluid", "newtonian") and "bulk" in section
    E = section.number("E", None, above=0.0)
    if E is None and not fluid:
        if dialect == "physflow" or dialect == "dreamphysics":
            raise section.error(f"gives no E, for which {dialect} would take 1e5 in units of 1e7 Pa; write the number")
        E = 1e5 if dialect == "physgaussian" else 1e-2
        notes.append(f"no E given: {E * units.modulus:g} Pa, as {dialect} takes it")
    nu = section.number("nu", 0.4, least=0.0, most=0.5)
    E = None if E is None else boxes("E", E) * units.modulus
    nu = boxes("nu", nu)
    released = {"variant": "released"} if variant == "released" else {}
    stress = section.number("yield_stress", None, least=0.0)
    plastic = section.number("plastic_viscosity", None, least=0.0)
    hardening, xi = section.flag("hardening", False), section.number("xi", 0.0, least=0.0)
    softening = section.number("softening", 0.1, least=0.0)
    angle = section.number("friction_angle", 25.0)
    bulk, mu = section.number("bulk", None, above=0.0), section.number("mu", None, above=0.0)
    for key, given, needed in (
        ("yield_stress", stress, name in ("metal", "plasticine", "foam", "non_newtonian")),
        ("plastic_viscosity", plastic, name in ("foam", "non_newtonian")),
        ("mu", mu, name == "newtonian" and bulk is not None),
        ("bulk", bulk, name == "fluid" or (name == "newtonian" and mu is not None)),
    ):
        if needed and given is None:
            raise section.error(f"material {name!r} needs {key}")
    if name in ("newtonian", "fluid"):
        values["bulk_modulus"] = E / (3 * (1 - 2 * nu)) if bulk is None else bulk * units.stress
        if name == "fluid":
            values["gamma"] = 1.1
        else:
            values |= released | {"viscosity": E / (2 * (1 + nu)) if mu is None else mu * units.modulus}
    else:
        values |= {"E": E, "nu": nu}
    if name in ("metal", "plasticine"):
        raw = stress * units.stress
        values |= released | {"yield_stress": raw if released else np.sqrt(1.5) * raw}
        if name == "metal" and hardening:
            values["hardening"] = xi if released else 3 * E / (2 * (1 + nu)) * xi
        if name == "plasticine":
            values["softening"] = softening if released else 1.5 * softening / values["yield_stress"]
    if name in ("foam", "non_newtonian"):
        values |= {"yield_stress": stress * units.stress, "viscosity": plastic * units.viscosity}
        if released:
            values["variant"] = "released" if name == "foam" else "released_non_newtonian"
    if name == "sand":
        values["friction_angle"] = angle
    if name == "snow":
        values |= released
        notes.append("snow: the released code computes no stress for it; here it is Stomakhin's law")
    if name == "non_newtonian":
        notes.append("non_newtonian: a Bingham solid (law foam), which is what the released code computes")
    if name == "newtonian" and not released:
        notes.append("newtonian: a viscous fluid; the released code computes a soft solid (variant='released')")
    if dialect != "physgaussian":
        notes.append(f"units of {dialect}: E x 1e7, yield_stress x 1e5, plastic_viscosity x 1e4 are SI")
    key = NAMES.get(name, name)
    return key, section.make(materials.create, key, **values), notes


def check_dialect(dialect: str | None, variant: str, path: str | os.PathLike) -> None:
    if dialect is not None and dialect not in DIALECTS:
        raise ValueError(f"{path}: dialect must be one of {', '.join(DIALECTS)} or None to detect it, got {dialect!r}")
    if variant not in VARIANTS:
        raise ValueError(f"{path}: variant must be one of {VARIANTS}, got {variant!r}")
