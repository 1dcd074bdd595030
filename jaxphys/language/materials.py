"""The table of everyday materials: measured means and ranges with their source, and what a simulation can afford.

Real steel carries sound at 5 km/s and would need a million substeps per second. `simulated` compresses stiffness above
`SOFT_LIMIT` by a power law, which keeps the order of materials, and scales a yield stress with it, which keeps the
yield strain. Accuracy is judged on the measured value, never on the simulated one.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from importlib import resources

SOFT_LIMIT = 3e5  # Pa: stiffness up to here is simulated as it is
COMPRESSION = 0.2  # exponent above it: steel (2e11 Pa) becomes 4.4e6 Pa
SOUND_SPEED = (
    20.0  # m/s: greatest sound speed of a simulated fluid, ten times a two-metre fall's 6 m/s within a factor of 3
)
GREATEST_NU = 0.45
FLUIDS = ("water", "newtonian", "non_newtonian")
MODELS = {
    "fixed_corotated": "elastic",
    "neo_hookean": "elastic",
    "hencky": "elastic",
}  # else the name of the law
CAPPING_RULE = (
    f"E above {SOFT_LIMIT:g} Pa becomes {SOFT_LIMIT:g} (E / {SOFT_LIMIT:g})^{COMPRESSION:g}, and yield stress, "
    f"hardening and cohesion shrink by the same factor; nu is at most {GREATEST_NU:g}; the bulk modulus of a fluid is "
    f"at most density ({SOUND_SPEED:g} m/s)^2"
)
UNITS = {
    "density": "kg/m^3",
    "E": "Pa",
    "yield_stress": "Pa",
    "cohesion": "Pa",
    "mu_N": "Pa",
    "lam_N": "Pa",
    "bulk_modulus": "Pa",
    "viscosity": "Pa s",
    "friction_angle": "degrees",
}


@dataclasses.dataclass(frozen=True)
class Range:
    """A mean and the range it may lie in, in SI units."""

    mean: float
    lo: float
    hi: float

    def __post_init__(self):
        if not self.lo <= self.mean <= self.hi:
            raise ValueError(f"range: needs lo <= mean <= hi, got {self.lo}, {self.mean}, {self.hi}")

    def at(self, position: float, logarithmic: bool = True) -> float:
        """The value at a position in the range: lo at -1, the mean at 0, hi at 1, between them by powers or lines.

        >>> round(Range(1e6, 1e5, 1e8).at(0.5)), Range(30.0, 20.0, 40.0).at(-0.5, logarithmic=False)
        (10000000, 25.0)
        """
        end, share = (self.hi, position) if position > 0 else (self.lo, -position)
        if logarithmic and end > 0 and self.mean > 0:
            return math.exp(math.log(self.mean) * (1 - share) + math.log(end) * share)
        return self.mean * (1 - share) + end * share


@dataclasses.dataclass(frozen=True)
class Everyday:
    """A row of the table."""

    name: str
    category: str
    words: tuple[str, ...]
    law: str  # a key of mpm.materials.LAWS
    density: Range  # kg/m^3
    parameters: dict[str, Range]  # measured, SI units
    source: str

    @property
    def model(self) -> str:
        """What kind of material: a key of `language.answers.MODELS`."""
        return MODELS.get(self.law, self.law)

    @property
    def is_estimate(self) -> bool:
        """No published measurement stands behind the row."""
        return self.source.startswith("estimate")

    @property
    def simulated(self) -> dict[str, float]:
        """What a simulation can afford of the measured means, by `CAPPING_RULE`."""
        return simulated(self.law, self.density.mean, {name: r.mean for name, r in self.parameters.items()})


def _read_csv(name: str) -> csv.DictReader:
    text = (resources.files("jaxphys.language") / "assets" / name).read_text(encoding="utf-8")
    return csv.DictReader(text.splitlines(), delimiter=";")


@functools.cache
def load_table() -> tuple[Everyday, ...]:
    """All rows.

    >>> len(load_table()) >= 120
    True
    """
    citations = {row["key"]: row["citation"] for row in _read_csv("sources.csv")}
    rows = []
    for row in _read_csv("materials.csv"):
        parameters = {}
        for item in row["parameters"].split():
            name, values = item.split("=")
            parameters[name] = Range(*(float(v) for v in values.split(":")))
        key, _, detail = row["source"].partition(": ")
        source = citations[key] + (f" ({detail})" if detail else "")
        words, density = tuple(row["words"].split(",")), parameters.pop("density")
        rows.append(Everyday(row["name"], row["category"], words, row["law"], density, parameters, source))
    return tuple(rows)


def compressed_stiffness(E: float) -> float:
    """E up to SOFT_LIMIT, then SOFT_LIMIT (E / SOFT_LIMIT)^COMPRESSION.

    >>> compressed_stiffness(1e5), round(compressed_stiffness(2.1e11) / 1e6, 1)
    (100000.0, 4.4)
    """
    return E if E <= SOFT_LIMIT else SOFT_LIMIT * (E / SOFT_LIMIT) ** COMPRESSION


def simulated(law: str, density: float, measured: dict[str, float]) -> dict[str, float]:
    """The values a simulation can afford, by `CAPPING_RULE`.

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
        values["nu"] = min(values["nu"], GREATEST_NU)  # lam grows without bound toward 0.5, and the sound speed with it
    if law in FLUIDS:
        values["bulk_modulus"] = min(values["bulk_modulus"], density * SOUND_SPEED**2)
    if law == "non_newtonian":
        values.setdefault("regularization", 0.05)
    return values
