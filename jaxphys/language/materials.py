"""The table of everyday materials: measured means and ranges with their source, and what a simulation can afford.

Real steel carries sound at 5 km/s and would need a million substeps per second. `simulated` compresses stiffness above
`SOFT_LIMIT` by a power law, which keeps the order of materials, and scales a yield stress with it, which keeps the
yield strain.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
from importlib import resources

SOFT_LIMIT = 3e5  # Pa: stiffness up to here is simulated as it is
COMPRESSION = 0.2  # exponent above it: steel (2e11 Pa) becomes 4.4e6 Pa
SOUND_SPEED = (
    20.0  # m/s: greatest sound speed of a simulated fluid, ten times a two-metre fall's 6 m/s within a factor of 3
)
FLUIDS = ("water", "newtonian", "non_newtonian")


@dataclasses.dataclass(frozen=True)
class Range:
    """A mean and the range it may lie in, in SI units."""

    mean: float
    lo: float
    hi: float

    def __post_init__(self):
        if not self.lo <= self.mean <= self.hi:
            raise ValueError(f"range: needs lo <= mean <= hi, got {self.lo}, {self.mean}, {self.hi}")

    def scaled(self, factor: float) -> Range:
        """Mean times the factor; the range grows to hold it."""
        mean = self.mean * factor
        return Range(mean, min(self.lo, mean), max(self.hi, mean))


@dataclasses.dataclass(frozen=True)
class Everyday:
    """A row of the table."""

    name: str
    words: tuple[str, ...]
    law: str
    density: float  # kg/m^3
    parameters: dict[str, Range]
    source: str


@functools.cache
def load_table() -> tuple[Everyday, ...]:
    """All rows.

    >>> len(load_table()) >= 40
    True
    """
    text = (resources.files("jaxphys.language") / "assets" / "materials.csv").read_text(encoding="utf-8")
    rows = []
    for row in csv.DictReader(text.splitlines(), delimiter=";"):
        parameters = {}
        for item in row["parameters"].split():
            name, values = item.split("=")
            parameters[name] = Range(*(float(v) for v in values.split(":")))
        words = tuple(row["words"].split(","))
        rows.append(Everyday(row["name"], words, row["law"], float(row["density"]), parameters, row["source"]))
    return tuple(rows)


def compressed_stiffness(E: float) -> float:
    """E up to SOFT_LIMIT, then SOFT_LIMIT (E / SOFT_LIMIT)^COMPRESSION.

    >>> compressed_stiffness(1e5), round(compressed_stiffness(2.1e11) / 1e6, 1)
    (100000.0, 4.4)
    """
    return E if E <= SOFT_LIMIT else SOFT_LIMIT * (E / SOFT_LIMIT) ** COMPRESSION


def simulated(law: str, density: float, measured: dict[str, float]) -> dict[str, float]:
    """The values a simulation can afford, by the capping rule.

    Args:
        law: name of the law.
        density: [kg/m^3].
        measured: parameters in SI units.

    Returns:
        Parameters for `mpm.materials.create`, density excepted.

    >>> simulated("metal", 7850.0, {"E": 2.1e11, "nu": 0.29, "yield_stress": 3e8})["yield_stress"] < 1e4
    True
    """
    values = dict(measured)
    if "E" in values:
        soft = compressed_stiffness(values["E"])
        for name in ("yield_stress", "hardening", "cohesion", "mu_N", "lam_N"):
            if name in values and not (law == "snow" and name == "hardening"):
                values[name] *= soft / values["E"]
        values["E"] = soft
    if "nu" in values:
        values["nu"] = min(values["nu"], 0.45)  # lam grows without bound toward 0.5, and the sound speed with it
    if law in FLUIDS:
        values["bulk_modulus"] = min(values["bulk_modulus"], density * SOUND_SPEED**2)
    if law == "non_newtonian":
        values.setdefault("regularization", 0.05)
    return values
