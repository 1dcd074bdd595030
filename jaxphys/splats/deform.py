"""Gaussians carried by a deformation: the link from a simulated motion to a picture."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxphys.splats.gaussians import Gaussians, Kernels, check_shapes
from jaxphys.tensor import Tensor3, polar_rotation


def deform(gaussians: Gaussians, x: jax.Array, F: jax.Array) -> Kernels:
    """Moves Gaussians with the material: mean x, covariance F Sigma0 F^T (PhysGaussian, arXiv 2311.12198, eq. 8).

    View-dependent colour turns with the rotation R of the polar decomposition F = R S: a viewer in direction d sees
    the original Gaussian from R^T d. Derivatives are finite at F = I. Where F is singular (|det F| < 1e-6 |F|^3) it has
    no polar rotation, and the colour is left unturned. Where det F < 0 (an inverted particle) R is the orthogonal
    factor with determinant -1, so the colour is mirrored with the material.

    Args:
        gaussians: the N Gaussians of the undeformed object.
        x: (N, 3) present centres [m].
        F: (N, 3, 3) deformation gradients since the undeformed state.

    Returns:
        Kernels for `render`.

    Raises:
        ValueError: `x` or `F` has the wrong shape.

    >>> import jax.numpy as jnp
    >>> g = Gaussians.create([[0.0, 0.0, 0.0]], scale=1.0, color=1.0)
    >>> deform(g, g.mean, jnp.diag(jnp.array([2.0, 1.0, 1.0]))[None]).cov[0].diagonal()
    Array([4., 1., 1.], dtype=float32)
    """
    check_shapes(gaussians)
    n = len(gaussians)
    x, F = jnp.asarray(x), jnp.asarray(F)
    if x.shape != (n, 3) or F.shape != (n, 3, 3):
        raise ValueError(f"x must be ({n}, 3) and F ({n}, 3, 3) to match the Gaussians, got {x.shape} and {F.shape}")
    return _deform(gaussians, x, F)


@jax.jit
def _deform(gaussians: Gaussians, x: jax.Array, F: jax.Array) -> Kernels:
    f = Tensor3.from_array(jnp.moveaxis(F, 0, -1))
    sigma0 = Tensor3.from_array(jnp.moveaxis(gaussians.covariance(), 0, -1))
    cov = f @ sigma0 @ f.T
    regular = jnp.abs(f.det) > 1e-6 * f.inner(f) ** 1.5
    rotation = polar_rotation(f.where(regular, Tensor3.identity(f[0, 0])))
    return Kernels(
        x,
        jnp.moveaxis(cov.to_array(), -1, 0),
        gaussians.opacity,
        gaussians.sh,
        jnp.moveaxis(rotation.to_array(), -1, 0),
    )
