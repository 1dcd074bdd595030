"""Constitutive laws of the material point method, by plain names in `LAWS`.

Each is a frozen dataclass whose fields are its parameters in SI units, with the methods of `Law`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxphys.mpm.materials.base import Bound, Law, check, lame
from jaxphys.mpm.materials.elastic import FixedCorotated, Hencky, NeoHookean
from jaxphys.mpm.materials.fluid import NewtonianFluid, NonNewtonianFluid, Water
from jaxphys.mpm.materials.granular import Sand, Snow
from jaxphys.mpm.materials.plastic import Foam, Metal, Plasticine
from jaxphys.mpm.materials.viscoelastic import Viscoelastic

__all__ = [
    "LAWS",
    "Bound",
    "FixedCorotated",
    "Foam",
    "Hencky",
    "Law",
    "Metal",
    "NeoHookean",
    "NewtonianFluid",
    "NonNewtonianFluid",
    "Plasticine",
    "Sand",
    "Snow",
    "Viscoelastic",
    "Water",
    "check",
    "create",
    "lame",
]

LAWS: dict[str, type[Law]] = {
    "fixed_corotated": FixedCorotated,
    "neo_hookean": NeoHookean,
    "hencky": Hencky,
    "viscoelastic": Viscoelastic,
    "metal": Metal,
    "plasticine": Plasticine,
    "foam": Foam,
    "sand": Sand,
    "snow": Snow,
    "newtonian": NewtonianFluid,
    "non_newtonian": NonNewtonianFluid,
    "water": Water,
}


def create(name: str, **parameters: Any) -> Law:
    """A law by name, its parameters checked.

    Args:
        name: a key of `LAWS`.
        **parameters: fields of that SI units, scalars or arrays (N,).

    Raises:
        ValueError: unknown name, unknown or missing parameter, or a value out of range.

    >>> create("water", density=1000.0, bulk_modulus=2e6).gamma
    7.0
    >>> create("jelly", density=1000.0)
    Traceback (most recent call last):
    ValueError: unknown material 'jelly', choose one of fixed_corotated, foam, hencky, metal, neo_hookean, newtonian, \
non_newtonian, plasticine, sand, snow, viscoelastic, water
    """
    if name not in LAWS:
        raise ValueError(f"unknown material {name!r}, choose one of {', '.join(sorted(LAWS))}")
    cls = LAWS[name]
    fields = {f.name: f for f in dataclasses.fields(cls)}
    required = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    unknown, missing = set(parameters) - set(fields), required - set(parameters)
    if unknown or missing:
        problem = [f"{word} {', '.join(sorted(s))}" for word, s in (("unknown", unknown), ("missing", missing)) if s]
        raise ValueError(f"material {name!r} has parameters {', '.join(fields)}: {'; '.join(problem)}")
    material = cls(**parameters)
    check(material, name)
    return material
