"""Granular materials: sand and snow."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxphys.mpm.materials.base import (
    Bound,
    ElasticLaw,
    HenckyLaw,
    hencky_stress,
    log_strain,
    physical_det,
    restretch,
)
from jaxphys.numerics import clamp_sym, expm1_sym, safe_norm
from jaxphys.pytree import pytree, static
from jaxphys.tensor import Tensor3, polar_rotation


@pytree(kw_only=True)
class Sand(HenckyLaw):
    """Drucker-Prager plasticity without dilatancy on Hencky elasticity, with cohesion and volume correction.

    Klar et al. 2016, "Drucker-Prager elastoplasticity for sand animation"; cohesion by the cone through the compressive
    corners of Mohr-Coulomb (de Souza Neto et al. 2008, eq. 6.123). With p = -K tr(eps) and K = lam + 2/3 mu:

        |s| <= sqrt(2/3) 6 (p sin(phi) + cohesion cos(phi)) / (3 - sin(phi)),   p >= -cohesion / tan(phi) (the tip)

    The return keeps tr(eps) down to the tip, where all shear stress vanishes: grains separate without stress. The
    volume that opens there is the internal state v = ln(J_open), and it must close again before pressure builds:
    tr(eps) + v is never changed by the return (Tampubolon et al. 2017, section 5.3).
    """

    friction_angle: jax.Array | float  # degrees
    cohesion: jax.Array | float = 0.0  # Pa

    bounds: ClassVar[dict[str, Bound]] = HenckyLaw.bounds | {
        "friction_angle": Bound(1.0, 80.0, "degrees", "linear"),
        "cohesion": Bound(1e-3, 1e10, "Pa", zero=True),
    }

    def init(self, like: jax.Array) -> jax.Array:
        return jnp.zeros_like(like)

    def cone(self) -> tuple[jax.Array, jax.Array]:
        """(slope, intercept) of the yield surface |s| = slope p + intercept."""
        phi = self.friction_angle * (math.pi / 180.0)
        scale = math.sqrt(2.0 / 3.0) * 6.0 / (3.0 - jnp.sin(phi))
        return scale * jnp.sin(phi), scale * jnp.cos(phi) * self.cohesion

    def step(self, F: Tensor3, internal: jax.Array, L: Tensor3, dt: Any) -> tuple[Tensor3, jax.Array, Tensor3]:
        mu, lam = self.lame
        bulk = lam + mu * (2.0 / 3.0)
        slope, intercept = self.cone()
        eps, Q = log_strain(F)
        volume = eps.trace + internal
        kept = jnp.minimum(volume, intercept / (slope * bulk))
        radius = jnp.maximum(intercept - slope * bulk * kept, 0.0) / (2.0 * mu)
        norm = safe_norm(eps.dev)
        yields = norm > radius
        scale = jnp.where(yields, radius / jnp.where(yields, norm, 1.0), 1.0)
        change = (eps.dev * (scale - 1.0)).add_diagonal((kept - eps.trace) / 3.0)
        return restretch(F, change, Q), volume - kept, hencky_stress(eps + change, mu, lam)


@pytree(kw_only=True)
class Snow(ElasticLaw):
    """Snow: fixed corotated elasticity whose principal stretches are clamped, and that hardens as it is compressed.

    Stomakhin et al. 2013, "A material point method for snow simulation", section 5: stretches in [1 -
    critical_compression, 1 + critical_stretch]; what is clamped off goes into the plastic volume Jp (the internal
    state, kept as ln Jp); both Lame parameters are multiplied by h = exp(hardening (1 - Jp)), at most `max_hardening`
    (the paper has no limit, but an explicit step needs one). The clamp acts on stretches, not on stresses: where one
    direction is stretched while the volume is compressed it can give back a little work.

    `variant="released"`: no stress and no clamp, as in warp-mpm and PhysGaussian, whose "snow" is a stub.
    """

    hardening: jax.Array | float = 10.0  # 1, xi
    critical_compression: jax.Array | float = 2.5e-2  # 1, theta_c
    critical_stretch: jax.Array | float = 7.5e-3  # 1, theta_s
    max_hardening: jax.Array | float = 10.0  # 1, greatest factor h on the moduli
    variant: str = static(default="default")

    variants: ClassVar[tuple[str, ...]] = ("default", "released")
    bounds: ClassVar[dict[str, Bound]] = ElasticLaw.bounds | {
        "hardening": Bound(1e-2, 100.0, "1", zero=True),
        "critical_compression": Bound(1e-4, 0.5, "1"),
        "critical_stretch": Bound(1e-5, 0.5, "1"),
        "max_hardening": Bound(1.0, 1e4, "1"),
    }

    def init(self, like: jax.Array) -> jax.Array:
        return jnp.zeros_like(like)

    def stiffening(self, internal: jax.Array) -> jax.Array:
        """h, the factor on the moduli for a plastic volume ln Jp."""
        return jnp.exp(jnp.minimum(-self.hardening * jnp.expm1(internal), jnp.log(self.max_hardening)))

    def step(self, F: Tensor3, internal: jax.Array, L: Tensor3, dt: Any) -> tuple[Tensor3, jax.Array, Tensor3]:
        if self.variant == "released":
            return F, internal, F * 0.0
        mu, lam = self.lame
        trial, Q = log_strain(F)
        eps = clamp_sym(trial, Q, jnp.log1p(-self.critical_compression), jnp.log1p(self.critical_stretch))
        internal = internal + trial.trace - eps.trace
        h = self.stiffening(internal)
        W, volume = expm1_sym(eps, Q), jnp.expm1(eps.trace)  # V - I and J - 1
        tau = ((W + W @ W) * (2.0 * mu)).add_diagonal(lam * (1.0 + volume) * volume)  # (F - R) F^T = (V - I) V
        return restretch(F, eps - trial, Q), internal, tau * h

    def wave_modulus(self) -> jax.Array:
        return super().wave_modulus() * self.max_hardening

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        mu, lam = self.lame
        D = F - polar_rotation(F)
        psi = mu * D.inner(D) + 0.5 * lam * (physical_det(F) - 1.0) ** 2
        return psi if internal is None else psi * self.stiffening(internal)
