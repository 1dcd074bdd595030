"""What is seen of a scene: tracks of its particles, or a video; predicted in a form that both modes differentiate."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxphys.camera import Camera
from jaxphys.pytree import pytree, static
from jaxphys.splats import Gaussians, plan_capacity, render_video

TILE = 8


@pytree
class Tracks:
    """Positions of the particles at the frames of a simulation, with independent errors."""

    x: Any  # [m], (T, N, 3); NaN where a particle was not seen
    sigma: Any  # standard deviation of a coordinate [m]

    @property
    def frames(self) -> int:
        return self.x.shape[0]

    def residuals(self, x: jax.Array, F: jax.Array | None, blur) -> jax.Array:
        """(predicted - seen) / sigma, (T, N, 3); 0 where nothing was seen."""
        seen = jnp.isfinite(self.x)
        return jnp.where(seen, x - jnp.where(seen, self.x, 0.0), 0.0) / self.sigma

    def residuals_reverse(self, x: jax.Array, F: jax.Array | None, blur) -> jax.Array:
        return self.residuals(x, F, blur)


@pytree
class Video:
    """Pictures of Gaussians that the first particles carry, with independent errors of the pixels."""

    image: Any  # (T, H, W, 3)
    sigma: Any  # standard deviation of a pixel
    gaussians: Gaussians  # at rest, as many as particles that carry one
    camera: Camera
    background: Any  # scalar, (3,) or (H, W, 3)
    capacity: int = static()  # (tile, Gaussian) pairs of one picture, with room for other motions
    rigid: bool = static(default=False)  # True: Gaussians keep their shape (what flows has no F to draw)

    @property
    def frames(self) -> int:
        return self.image.shape[0]

    @classmethod
    def create(
        cls, image, gaussians: Gaussians, camera: Camera, *, sigma=0.02, background=1.0, rigid: bool = False
    ) -> Video:
        """A video with room for three times the pairs of the picture at rest.

        Raises:
            ValueError: the video does not have the size of the camera.
        """
        image = jnp.asarray(image)
        if image.ndim != 4 or image.shape[1:] != (camera.height, camera.width, 3):
            raise ValueError(
                f"video: expected (T, {camera.height}, {camera.width}, 3) by the camera, got {list(image.shape)}"
            )
        capacity = plan_capacity(gaussians, camera, margin=3.0, tile=TILE)
        return cls(image, sigma, gaussians, camera, background, capacity, rigid)

    def residuals(self, x: jax.Array, F: jax.Array | None, blur) -> jax.Array:
        """(predicted - seen) / sigma, blurred over `blur` pixels, (T, H, W, 3); differentiable in forward mode."""
        return self._residuals(x, F, blur, "forward")

    def residuals_reverse(self, x: jax.Array, F: jax.Array | None, blur) -> jax.Array:
        """The same for reverse mode."""
        return self._residuals(x, F, blur, "reverse")

    def _residuals(self, x, F, blur, gradient: Literal["forward", "reverse"]) -> jax.Array:
        n = len(self.gaussians)
        drawn = render_video(
            self.gaussians,
            x[:, :n],
            None if F is None or self.rigid else F[:, :n],
            self.camera,
            background=self.background,
            capacity=self.capacity,
            tile=TILE,
            gradient=gradient,
        )
        return smooth(drawn.image - self.image, blur) / self.sigma


def smooth(image: jax.Array, blur) -> jax.Array:
    """Pictures (T, H, W, C) under a Gaussian filter of standard deviation `blur` [pixel]; 0 leaves them as they are.

    A difference of blurred pictures still says where to go when an object is off by more than its texture's grain.

    >>> float(smooth(jnp.ones((1, 8, 8, 3)), 2.0)[0, 3, 3, 0])
    1.0
    """
    height, width = image.shape[1:3]
    image = jnp.einsum("hk,tkwc->thwc", _filter(height, blur, image.dtype), image, precision=lax.Precision.HIGHEST)
    return jnp.einsum("wk,thkc->thwc", _filter(width, blur, image.dtype), image, precision=lax.Precision.HIGHEST)


def _filter(n: int, blur, dtype) -> jax.Array:
    """(n, n): row i holds the weights of pixel i, which sum to 1."""
    step = jnp.asarray(np.subtract.outer(np.arange(n), np.arange(n)), dtype)
    weight = jnp.exp(-0.5 * (step / jnp.maximum(jnp.asarray(blur, dtype), 1e-3)) ** 2)
    return weight / weight.sum(1, keepdims=True)
