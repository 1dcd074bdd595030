"""Elastoplastic solids: Hencky elasticity with a von Mises yield surface in Kirchhoff stress.

s = 2 mu dev(eps) is the deviatoric stress, and the yield surface for a uniaxial yield stress Y is |s| = sqrt(2/3) Y.
With the exponential map of the flow rule, the return is a change of the logarithmic strain alone (Simo 1992).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxphys.mpm.materials.base import (
    VISCOSITY,
    YIELD_STRESS,
    Bound,
    HenckyLaw,
    hencky_stress,
    log_strain,
    restretch,
    times_stretch,
)
from jaxphys.numerics import safe_div, safe_norm
from jaxphys.pytree import pytree, static
from jaxphys.tensor import Tensor3

ROOT = math.sqrt(2.0 / 3.0)


@pytree(kw_only=True)
class Metal(HenckyLaw):
    """Von Mises plasticity with linear isotropic hardening: |s| <= sqrt(2/3) (yield_stress + hardening alpha).

    Simo and Hughes 1998, box 3.2, on logarithmic strain. Internal state: the equivalent plastic strain alpha.

    `variant="released"`: radius `yield_stress` (no sqrt(2/3)), which a step raises by 2 mu hardening dgamma (hardening
    is a pure number there), stress times the stretch. The state then holds the rise in yield stress [Pa]. (The released
    codes also carry it from one optimisation step to the next by overwriting the parameter; a law here cannot.)
    """

    yield_stress: jax.Array | float  # Pa, uniaxial
    hardening: jax.Array | float = 0.0  # Pa, slope of the yield stress over the equivalent plastic strain
    variant: str = static(default="default")

    variants: ClassVar[tuple[str, ...]] = ("default", "released")
    bounds: ClassVar[dict[str, Bound]] = HenckyLaw.bounds | {
        "yield_stress": YIELD_STRESS,
        "hardening": Bound(1e-3, 1e12, "Pa", zero=True),
    }

    def init(self, like: jax.Array) -> jax.Array:
        return jnp.zeros_like(like)

    def step(self, F: Tensor3, internal: jax.Array, L: Tensor3, dt: Any) -> tuple[Tensor3, jax.Array, Tensor3]:
        mu, lam = self.lame
        eps, Q = log_strain(F)
        norm = safe_norm(eps.dev)
        if self.variant == "released":
            plastic = jnp.maximum(norm - (self.yield_stress + internal) / (2.0 * mu), 0.0)
            internal = internal + 2.0 * mu * self.hardening * plastic
        else:
            excess = 2.0 * mu * norm - ROOT * (self.yield_stress + self.hardening * internal)
            plastic = jnp.maximum(excess, 0.0) / (2.0 * mu + self.hardening / 1.5)
            internal = internal + ROOT * plastic
        change = eps.dev * -safe_div(plastic, norm)
        eps = eps + change
        tau = hencky_stress(eps, mu, lam)
        F = restretch(F, change, Q)
        return F, internal, tau if self.variant == "default" else times_stretch(tau, eps, Q)


@pytree(kw_only=True)
class Plasticine(HenckyLaw):
    """Von Mises plasticity that softens toward zero, with a damage that lowers the moduli.

    Damage D = damage alpha / (1 + damage alpha) acts through the effective stress, tau = (1 - D) tau_Hencky (Lemaitre
    1985), and the effective stress yields at |s_Hencky| = sqrt(2/3) yield_stress / (1 + softening alpha). Both fall
    with the equivalent plastic strain alpha (the internal state), continuously and never below zero; the hyperbolic
    form is this project's choice, because its return map is the root of a quadratic that exists for every trial strain.

    `variant="released"`: no yield test, so elastic states are pushed outward onto the yield surface (radius
    `yield_stress`); a step lowers the yield stress by softening |dgamma| [Pa]; moduli drop to 0 at once where it
    reaches 0; stress times the stretch. The state then holds the fall in yield stress [Pa], and `damage` is not used.
    """

    yield_stress: jax.Array | float  # Pa, uniaxial
    softening: jax.Array | float = 0.0  # 1, relative fall of the yield stress per equivalent plastic strain
    damage: jax.Array | float = 0.0  # 1, relative fall of the moduli per equivalent plastic strain
    variant: str = static(default="default")

    variants: ClassVar[tuple[str, ...]] = ("default", "released")
    bounds: ClassVar[dict[str, Bound]] = HenckyLaw.bounds | {
        "yield_stress": YIELD_STRESS,
        "softening": Bound(1e-4, 1e4, "1", zero=True),
        "damage": Bound(1e-4, 1e4, "1", zero=True),
    }

    def init(self, like: jax.Array) -> jax.Array:
        return jnp.zeros_like(like)

    def integrity(self, internal: jax.Array) -> jax.Array:
        """1 - D, the part of the moduli that is left."""
        return 1.0 / (1.0 + self.damage * internal)

    def step(self, F: Tensor3, internal: jax.Array, L: Tensor3, dt: Any) -> tuple[Tensor3, jax.Array, Tensor3]:
        if self.variant == "released":
            return self._released_step(F, internal)
        mu, lam = self.lame
        eps, Q = log_strain(F)
        norm = safe_norm(eps.dev)
        # (norm - p) (a + b p) = r: the strain left times the softening, at alpha + ROOT p
        a, b, r = 1.0 + self.softening * internal, ROOT * self.softening, ROOT * self.yield_stress / (2.0 * mu)
        excess = a * norm - r
        yields = excess > 0
        linear = a - b * norm
        root = jnp.sqrt(jnp.where(yields, linear**2 + 4.0 * b * excess, 1.0))
        steep = linear < 0  # of the two forms of the positive root, the one without cancellation
        plastic = jnp.where(
            steep, (root - linear) / jnp.where(steep, 2.0 * b, 1.0), 2.0 * excess / jnp.where(steep, 1.0, linear + root)
        )
        plastic = jnp.where(yields, plastic, 0.0)
        internal = internal + ROOT * plastic
        change = eps.dev * -safe_div(plastic, norm)
        return restretch(F, change, Q), internal, hencky_stress(eps + change, mu, lam) * self.integrity(internal)

    def _released_step(self, F: Tensor3, fall: jax.Array) -> tuple[Tensor3, jax.Array, Tensor3]:
        mu, lam = self.lame
        eps, Q = log_strain(F)
        norm = safe_norm(eps.dev)
        left = self.yield_stress - fall
        plastic = jnp.where(left > 0, norm - left / (2.0 * mu), 0.0)
        change = eps.dev * -safe_div(plastic, norm)
        fall = fall + self.softening * jnp.abs(plastic)
        intact = jnp.where(self.yield_stress - fall > 0, 1.0, 0.0)
        eps = eps + change
        return restretch(F, change, Q), fall, times_stretch(hencky_stress(eps, mu, lam) * intact, eps, Q)

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        psi = super().energy(F)
        return psi if internal is None else psi * self.integrity(internal)


@pytree(kw_only=True)
class Foam(HenckyLaw):
    """Hencky solid with overstress viscoplasticity of Herschel-Bulkley type.

    Where |s| > sqrt(2/3) yield_stress, the plastic strain rate is ((|s| - sqrt(2/3) yield_stress) /
    viscosity)^(1/exponent) (Perzyna 1966; Yue et al. 2015, "Continuum foam"). The backward Euler step solves

        viscosity z^exponent + 2 mu dt z = |s_trial| - sqrt(2/3) yield_stress

    for the rate z, in ln z, where the equation is convex with slopes between 1 and the exponent: five Newton steps
    reach round-off (one does at exponent 1, Bingham). The derivative is implicit, and finite at the yield point. The
    viscosity acts in series with the elasticity, so it does not limit the time step.

    `variant="released"`: |s| -> |s| - excess / (1 + viscosity / (2 mu tr(b)/3 dt)) and stress times the stretch.
    `variant="released_non_newtonian"`: also without the yield test, which is the released codes' "non-Newtonian"
    material.
    """

    yield_stress: jax.Array | float  # Pa, uniaxial
    viscosity: jax.Array | float  # Pa s^exponent
    exponent: jax.Array | float = 1.0  # 1, below 1: thinner the faster it flows
    variant: str = static(default="default")

    variants: ClassVar[tuple[str, ...]] = ("default", "released", "released_non_newtonian")
    bounds: ClassVar[dict[str, Bound]] = HenckyLaw.bounds | {
        "yield_stress": YIELD_STRESS,
        "viscosity": VISCOSITY._replace(zero=False),
        "exponent": Bound(0.2, 2.0, "1", "linear"),
    }

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        mu, lam = self.lame
        eps, Q = log_strain(F)
        norm = safe_norm(eps.dev)
        excess = 2.0 * mu * norm - ROOT * self.yield_stress
        if self.variant == "default":
            plastic = dt * flow_rate(excess, self.viscosity, self.exponent, 2.0 * mu * dt)
        else:
            if self.variant == "released":
                excess = jnp.maximum(excess, 0.0)
            spatial = 2.0 * mu * F.inner(F) / 3.0
            plastic = excess / (1.0 + self.viscosity / (spatial * dt)) / (2.0 * mu)
        change = eps.dev * -safe_div(plastic, norm)
        eps = eps + change
        tau = hencky_stress(eps, mu, lam)
        return restretch(F, change, Q), internal, tau if self.variant == "default" else times_stretch(tau, eps, Q)


def flow_rate(excess: jax.Array, viscosity: jax.Array, exponent: jax.Array, drop: jax.Array) -> jax.Array:
    """The rate z >= 0 with viscosity z^exponent + drop z = excess; 0 where excess <= 0.

    >>> round(float(flow_rate(jnp.array(3.0), 1.0, 1.0, 2.0)), 6)
    1.0
    """
    flows = excess > jnp.finfo(jnp.result_type(excess)).tiny
    log_excess = jnp.log(jnp.where(flows, excess, 1.0))
    log_viscosity, log_drop = jnp.log(viscosity), jnp.log(drop)

    def newton(u, frozen):
        # f(u) = ln(viscosity e^(exponent u) + drop e^u) - ln(excess)
        viscous, elastic = log_viscosity + exponent * u, log_drop + u
        share = jax.nn.sigmoid(viscous - elastic)
        return u - (jnp.logaddexp(viscous, elastic) - log_excess) / frozen(1.0 + (exponent - 1.0) * share)

    start = jnp.minimum((log_excess - log_viscosity) / exponent, log_excess - log_drop)
    start = jax.lax.stop_gradient(start)
    steps = 6 if start.dtype == jnp.float64 else 4
    u = jax.lax.fori_loop(0, steps, lambda _, u: jax.lax.stop_gradient(newton(u, lambda x: x)), start)
    # at the root, one more step with a frozen slope has the derivative of the implicit function
    z = jnp.exp(newton(u, jax.lax.stop_gradient))
    return jnp.where(flows, z, 0.0)
