"""Projection of 3D Gaussians to the screen (EWA splatting, Zwicker et al. 2001, as in 3D Gaussian Splatting)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jaxphys.camera import Camera
from jaxphys.pytree import pytree
from jaxphys.splats.gaussians import Kernels
from jaxphys.splats.harmonics import sh_basis

ALPHA_MIN = 1.0 / 255.0  # a weaker contribution to a pixel is dropped: it could not change an 8-bit picture
BLUR = 0.3  # [pixel^2] added to every screen covariance: no Gaussian is thinner than about a pixel


@pytree
class Screen:
    """Gaussians on the screen."""

    geometry: jax.Array  # (N, 6): centre x, y [pixel]; conic a, b, c [1/pixel^2]; opacity
    depth: jax.Array  # camera z [m] (N,)
    extent: jax.Array  # half size of the box in which alpha >= 1/255 [pixel] (N, 2)
    visible: jax.Array  # (N,) bool: in front of the camera and not transparent
    nonfinite: jax.Array  # (N,) bool: a NaN or an infinity came in or arose


def project(kernels: Kernels, camera: Camera, near: float) -> Screen:
    """Screen centre, conic and extent of every Gaussian.

    Sigma' = J W Sigma W^T J^T + 0.3 I with W the camera rotation and J the derivative of the pinhole projection at the
    centre; J is taken at most 30 % of the half field of view outside the picture, where its linearisation would
    otherwise stretch Gaussians across the whole image.
    """
    c = camera
    mx, my, mz = (kernels.mean[:, i] for i in range(3))
    x, y, z = (c.R[i, 0] * mx + c.R[i, 1] * my + c.R[i, 2] * mz + c.t[i] for i in range(3))
    in_front = z > near
    rz = 1.0 / jnp.where(in_front, z, 1.0)
    u, v = x * rz, y * rz
    margin_x, margin_y = 0.15 * c.width / c.fx, 0.15 * c.height / c.fy
    u_lin = jnp.clip(u, -c.cx / c.fx - margin_x, (c.width - c.cx) / c.fx + margin_x)
    v_lin = jnp.clip(v, -c.cy / c.fy - margin_y, (c.height - c.cy) / c.fy + margin_y)
    # rows of J W: the world gradient of the pixel's column and of its row
    px = [c.fx * rz * (c.R[0, j] - u_lin * c.R[2, j]) for j in range(3)]
    py = [c.fy * rz * (c.R[1, j] - v_lin * c.R[2, j]) for j in range(3)]
    cov = kernels.cov
    s = [[0.5 * (cov[:, i, j] + cov[:, j, i]) if i != j else cov[:, i, i] for j in range(3)] for i in range(3)]
    sx = [s[i][0] * px[0] + s[i][1] * px[1] + s[i][2] * px[2] for i in range(3)]
    sy = [s[i][0] * py[0] + s[i][1] * py[1] + s[i][2] * py[2] for i in range(3)]
    xx = px[0] * sx[0] + px[1] * sx[1] + px[2] * sx[2] + BLUR
    yy = py[0] * sy[0] + py[1] * sy[1] + py[2] * sy[2] + BLUR
    xy = py[0] * sx[0] + py[1] * sx[1] + py[2] * sx[2]
    det = xx * yy - xy * xy
    positive = det > 0
    inverse = 1.0 / jnp.where(positive, det, 1.0)
    geometry = jnp.stack(
        [c.fx * u + c.cx, c.fy * v + c.cy, yy * inverse, -xy * inverse, xx * inverse, kernels.opacity], -1
    )
    # alpha = opacity exp(-sigma) >= 1/255 inside the ellipse sigma = ln(255 opacity): its half widths are exact
    reach = jnp.sqrt(2.0 * jnp.log(jnp.maximum(lax.stop_gradient(kernels.opacity) / ALPHA_MIN, 1.0)))
    extent = reach[:, None] * jnp.sqrt(jnp.maximum(lax.stop_gradient(jnp.stack([xx, yy], -1)), BLUR))
    given = [kernels.mean, cov.reshape(-1, 9), kernels.opacity[:, None], kernels.sh.reshape(len(z), -1)]
    if kernels.rotation is not None:
        given.append(kernels.rotation.reshape(-1, 9))
    finite = jnp.stack([jnp.isfinite(g).all(-1) for g in given]).all(0)
    # a covariance so large that its determinant is not a number is an error, not an invisible Gaussian
    finite &= ~in_front | (jnp.isfinite(geometry).all(-1) & jnp.isfinite(det))
    visible = in_front & positive & (kernels.opacity >= ALPHA_MIN) & finite
    return Screen(geometry, z, extent, visible, ~finite)


def colors(kernels: Kernels, camera: Camera) -> jax.Array:
    """RGB (N, 3) seen from the camera: max(0, 0.5 + SH(R^T d)) with d the unit vector from the camera to the centre."""
    d = kernels.mean - camera.position
    squared = jnp.sum(d * d, -1, keepdims=True)
    d = d * lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
    direction = tuple(d[:, i] for i in range(3))
    if kernels.rotation is not None:
        R = kernels.rotation
        direction = tuple(sum(R[:, i, j] * direction[i] for i in range(3)) for j in range(3))
    count = kernels.sh.shape[1]
    basis = sh_basis(direction, count)
    return jnp.maximum(0.5 + sum(b[:, None] * kernels.sh[:, k] for k, b in enumerate(basis)), 0.0)
