"""Weakly compressible fluids. Of F they remember the volume alone: F = J^(1/3) I.

The pressure is p = bulk_modulus / gamma (J^-gamma - 1) (Tait 1888, Cole 1948), tau = J sigma. PAC-NeRF's kappa (J -
J^-6) I is this stress with gamma = 7 and kappa = bulk_modulus / 7.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxphys.mpm.materials.base import MODULUS, VISCOSITY, YIELD_STRESS, Bound, Law, physical_det
from jaxphys.numerics import safe_norm
from jaxphys.pytree import pytree, static
from jaxphys.tensor import Tensor3

GAMMA = 7.0


def tait_stress(log_J: jax.Array, bulk_modulus: jax.Array, gamma: jax.Array) -> jax.Array:
    """-J p, the spherical part of the Kirchhoff stress [Pa], for a volume ratio exp(log_J)."""
    return -bulk_modulus / gamma * jnp.exp(log_J) * jnp.expm1(-gamma * log_J)


def tait_energy(log_J: jax.Array, bulk_modulus: jax.Array, gamma: jax.Array) -> jax.Array:
    """Energy per undeformed volume, the integral of -p dJ [J/m^3]."""
    return bulk_modulus / gamma * (jnp.expm1((1.0 - gamma) * log_J) / (gamma - 1.0) + jnp.expm1(log_J))


def spherical(log_J: jax.Array) -> Tensor3:
    """J^(1/3) I."""
    return Tensor3.diagonal(jnp.exp(log_J / 3.0))


@pytree(kw_only=True)
class FluidLaw(Law):
    """A fluid with a bulk modulus."""

    bulk_modulus: jax.Array | float  # Pa

    bounds: ClassVar[dict[str, Bound]] = {"density": Law.bounds["density"], "bulk_modulus": MODULUS}

    def wave_modulus(self) -> jax.Array:
        return jnp.asarray(self.bulk_modulus, float)

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        return tait_energy(jnp.log(physical_det(F)), self.bulk_modulus, GAMMA)


@pytree(kw_only=True)
class Water(FluidLaw):
    """Weakly compressible inviscid fluid: tau = -J p(J) I with Tait's equation of state.

    As it is, the fluid carries tension down to p = -bulk_modulus / gamma, which holds a jet together and conserves
    volume exactly. With `cavitation=True` p is never negative: separating fluid is free of stress, and its opened
    volume must close again before pressure builds. Choose bulk_modulus = density c^2 with c about ten times the
    greatest speed: the density then varies by 1 %. (The fluid of the released codes is gamma = 1.1 and bulk_modulus =
    1.1 times theirs.)

    >>> water = Water(density=1000.0, bulk_modulus=2e6)
    >>> F = Tensor3.diagonal(jnp.array(0.99 ** (1 / 3)))
    >>> _, _, tau = water.step(F, (), F * 0.0, 1e-4)
    >>> print(f"{-tau[0, 0] / 0.99:.0f} Pa")
    20825 Pa
    """

    gamma: jax.Array | float = GAMMA  # 1
    cavitation: bool = static(default=False)

    bounds: ClassVar[dict[str, Bound]] = FluidLaw.bounds | {"gamma": Bound(1.05, 15.0, "1", "linear")}

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        log_J = jnp.log(physical_det(F))
        stress = tait_stress(log_J, self.bulk_modulus, self.gamma)
        stress = jnp.minimum(stress, 0.0) if self.cavitation else stress
        return spherical(log_J), internal, Tensor3.diagonal(stress)

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        log_J = jnp.log(physical_det(F))
        log_J = jnp.minimum(log_J, 0.0) if self.cavitation else log_J
        return tait_energy(log_J, self.bulk_modulus, self.gamma)


@pytree(kw_only=True)
class NewtonianFluid(FluidLaw):
    """Weakly compressible viscous fluid: tau = -J p(J) I + 2 J viscosity dev(D), D = sym(L).

    Batchelor 1967, section 3.3, with no bulk viscosity; the shear stress in simple shear is viscosity times shear rate.

    `variant="released"`: tau = K/2 (J^2 - 1) I + viscosity J^(-2/3) dev(b) with F never relaxed, as warp-mpm's
    descendants compute it: a soft neo-Hookean solid, whose "viscosity" is a shear modulus [Pa].
    """

    viscosity: jax.Array | float  # Pa s
    variant: str = static(default="default")

    variants: ClassVar[tuple[str, ...]] = ("default", "released")
    bounds: ClassVar[dict[str, Bound]] = FluidLaw.bounds | {"viscosity": VISCOSITY}

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        J = physical_det(F)
        if self.variant == "released":
            solid = (F @ F.T).dev * (self.viscosity * J ** (-2.0 / 3.0))
            return F, internal, solid.add_diagonal(0.5 * self.bulk_modulus * (J * J - 1.0))
        log_J = jnp.log(J)
        viscous = L.sym.dev * (2.0 * J * self.viscosity)
        return spherical(log_J), internal, viscous.add_diagonal(tait_stress(log_J, self.bulk_modulus, GAMMA))

    def wave_modulus(self) -> jax.Array:
        solid = self.viscosity * (4.0 / 3.0) if self.variant == "released" else 0.0
        return super().wave_modulus() + solid

    def dynamic_viscosity(self) -> jax.Array:
        return jnp.asarray(self.viscosity, float) * (0.0 if self.variant == "released" else 1.0)


@pytree(kw_only=True)
class NonNewtonianFluid(FluidLaw):
    """Weakly compressible yield-stress fluid: tau = -J p(J) I + 2 J eta(rate) dev(D), rate = sqrt(2 dev(D) : dev(D)).

    Herschel and Bulkley 1926, with the yield term regularised as Papanastasiou 1987 does and the power law by the same
    rate 1 / regularization:

        eta = yield_stress (1 - exp(-regularization rate)) / rate
            + viscosity (rate^2 + regularization^-2)^((exponent - 1) / 2)

    so the stress in simple shear is yield_stress + viscosity rate^exponent well above the rate 1 / regularization, and
    below it the material creeps with the viscosity yield_stress regularization, which sets the time step. Here
    `yield_stress` is the shear stress at which it flows (a uniaxial one is sqrt(3) times larger). An exponent above 1
    is refused: a shear-thickening fluid has no greatest viscosity, hence no stable explicit step. The released codes'
    "non-Newtonian" material is not a fluid law: it is `Foam(variant="released_non_newtonian")`.
    """

    yield_stress: jax.Array | float  # Pa, in shear
    viscosity: jax.Array | float  # Pa s^exponent, consistency
    exponent: jax.Array | float = 1.0  # 1
    regularization: jax.Array | float = 10.0  # s

    bounds: ClassVar[dict[str, Bound]] = FluidLaw.bounds | {
        "yield_stress": YIELD_STRESS,
        "viscosity": VISCOSITY,
        "exponent": Bound(0.1, 1.0, "1", "linear"),
        "regularization": Bound(1e-4, 1e6, "s"),
    }

    def apparent_viscosity(self, rate: jax.Array) -> jax.Array:
        """eta(rate) [Pa s] for a shear rate [1/s]."""
        x = self.regularization * rate
        small = x < 0.02
        safe = jnp.where(small, 1.0, x)
        plateau = jnp.where(small, 1.0 - x * (0.5 - x * (1.0 / 6.0 - x / 24.0)), -jnp.expm1(-safe) / safe)
        power = jnp.exp(0.5 * (self.exponent - 1.0) * jnp.log(rate * rate + self.regularization**-2.0))
        return self.yield_stress * self.regularization * plateau + self.viscosity * power

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        J = physical_det(F)
        log_J, D = jnp.log(J), L.sym.dev
        viscous = D * (2.0 * J * self.apparent_viscosity(2.0**0.5 * safe_norm(D)))
        return spherical(log_J), internal, viscous.add_diagonal(tait_stress(log_J, self.bulk_modulus, GAMMA))

    def dynamic_viscosity(self) -> jax.Array:
        return jnp.asarray(self.apparent_viscosity(jnp.zeros_like(jnp.asarray(self.viscosity, float))))
