"""Observations in both modes: pictures against the renderer, derivatives against differences, missing tracks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import splats
from jaxphys.camera import Camera
from jaxphys.scenes import observe


def scene(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.2, 0.2, (12, 3))
    gaussians = splats.Gaussians.create(x, 0.06, color=rng.uniform(0.2, 0.9, (12, 3)), opacity=0.8)
    camera = Camera.look_at((0.0, -1.2, 0.3), (0.0, 0.0, 0.0), width=16, height=16)
    if dtype == jnp.float64:
        gaussians, camera = jax.tree.map(lambda a: jnp.asarray(a, dtype), (gaussians, camera))
    return gaussians, camera


def motion(gaussians, frames=2):
    x = jnp.stack([gaussians.mean + 0.03 * k for k in range(frames)])
    F = jnp.broadcast_to(jnp.eye(3, dtype=x.dtype) + 0.05, (*x.shape[:2], 3, 3))
    return x, F


@pytest.mark.parametrize("rigid", [False, True])
def test_both_modes_see_the_same(rigid):
    gaussians, camera = scene()
    x, F = motion(gaussians)
    video = observe.Video.create(jnp.full((2, 16, 16, 3), 0.3), gaussians, camera, rigid=rigid)
    more = jnp.concatenate([x, x[:, :5] + 1.0], 1)  # particles that carry no Gaussian
    more_F = jnp.concatenate([F, F[:, :5]], 1)
    for blur in (0.0, 1.5):
        np.testing.assert_allclose(
            video.residuals(more, more_F, blur), video.residuals_reverse(more, more_F, blur), atol=2e-5 / 0.02
        )


def test_forward_derivative_of_a_video_is_that_of_differences_and_never_silent(float64):
    gaussians, camera = scene(jnp.float64)
    x, F = motion(gaussians)
    video = observe.Video.create(jnp.full((2, 16, 16, 3), 0.3), gaussians, camera, sigma=1.0)
    rng = np.random.default_rng(1)
    dx, dF = jnp.asarray(rng.normal(size=x.shape)), jnp.asarray(0.3 * rng.normal(size=F.shape))
    see = jax.jit(lambda x, s: video.residuals(x + s * dx, F + s * dF, 0.7))
    slope = jax.jit(lambda x: jax.jvp(lambda s: see(x, s), (0.0,), (1.0,)))
    _, tangent = slope(x)
    errors = []
    for h in (1e-4, 1e-5, 1e-6):
        difference = (see(x, h) - see(x, -h)) / (2 * h)
        errors.append(float(jnp.max(jnp.abs(tangent - difference)) / jnp.max(jnp.abs(tangent))))
    assert min(errors) < 1e-6, errors
    assert all(np.isnan(a).all() for a in slope(x.at[:, 3, 0].set(jnp.nan)))


def test_a_video_must_have_the_size_of_its_camera():
    gaussians, camera = scene()
    with pytest.raises(ValueError, match="16, 16"):
        observe.Video.create(jnp.zeros((2, 8, 16, 3)), gaussians, camera)


def test_tracks_that_were_not_seen_do_not_count():
    seen = jnp.zeros((2, 3, 3)).at[1, 2].set(jnp.nan)
    tracks = observe.Tracks(seen, 1e-2)
    r = tracks.residuals(jnp.full((2, 3, 3), 0.05), None, 0.0)
    np.testing.assert_allclose(r[0], 5.0, rtol=1e-6)
    np.testing.assert_array_equal(r[1, 2], 0.0)
    slope = jax.grad(lambda x: jnp.sum(tracks.residuals(x, None, 0.0) ** 2))(jnp.full((2, 3, 3), 0.05))
    assert bool(jnp.isfinite(slope).all()) and float(jnp.abs(slope[1, 2]).max()) == 0.0


def test_blur_keeps_the_mean_and_widens():
    image = jnp.zeros((1, 16, 16, 1)).at[0, 8, 8].set(1.0)
    wide = observe.smooth(image, 1.5)
    assert float(wide.sum()) == pytest.approx(1.0, abs=1e-3) and float(wide.max()) < 0.1
    row = np.asarray(wide[0, :, 8, 0] / wide[0, :, 8, 0].sum())
    assert np.sqrt(np.sum(row * (np.arange(16) - 8.0) ** 2)) == pytest.approx(1.5, rel=0.02)
    np.testing.assert_allclose(observe.smooth(image, 0.0), image, atol=1e-6)
