"""Outcomes of motions that are known in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.scenes.outcomes import measure

CUBE = np.stack(np.meshgrid(*[np.linspace(-0.1, 0.1, 7)] * 3, indexing="ij"), -1).reshape(-1, 3)


def motion(height, stretch=None, width=None):
    """Cubes whose lower face is at height(t), stretched along z and across."""
    height = np.asarray(height, np.float64)
    stretch = np.ones_like(height) if stretch is None else np.asarray(stretch)
    width = np.ones_like(height) if width is None else np.asarray(width)
    x = CUBE[None] * np.stack([width, width, stretch], -1)[:, None]
    x[..., 2] += (0.1 * stretch + height)[:, None]
    return jnp.asarray(x, jnp.float32)


def test_a_ball_that_bounces_to_a_quarter_of_its_height():
    t = np.arange(41) / 40
    fall = np.sqrt(2 * 0.4 / 9.81)
    late = t - fall
    v = 0.5 * 9.81 * fall
    height = np.where(t < fall, 0.4 - 0.5 * 9.81 * t**2, np.maximum(v * late - 0.5 * 9.81 * late**2, 0.0))
    seen = measure(motion(height), 40.0)
    assert abs(float(seen.rebound) - 0.25) < 0.02
    assert float(seen.bounces) == 1.0 and float(seen.squash) < 1e-5 and abs(float(seen.spread) - 1) < 1e-5


def test_squash_and_spread():
    stretch = np.concatenate([np.linspace(1.0, 0.4, 10), np.full(11, 0.5)])
    width = np.concatenate([np.linspace(1.0, 2.0, 10), np.full(11, 2.0)])
    seen = measure(motion(np.zeros(21), stretch, width), 20.0)
    np.testing.assert_allclose(seen.squash, 0.6, rtol=1e-5)
    np.testing.assert_allclose(seen.spread, 2.0, rtol=1e-5)
    np.testing.assert_allclose(seen.flow, 5 / 20, atol=1e-6)  # width 1.5 first at frame 5
    assert float(seen.bounces) == 0.0


def test_a_damped_oscillation_wobbles_until_it_keeps_within_a_twentieth():
    t = np.arange(61) / 60
    seen = measure(motion(np.zeros(61), 1.0 + 0.3 * np.exp(-5 * t) * np.cos(2 * np.pi * 5 * t)), 60.0)
    assert 0.2 < float(seen.wobble) < 0.45  # 0.3 exp(-5 t) = 0.05 at 0.36 s
    assert float(measure(motion(np.zeros(61)), 60.0).wobble) == 0.0


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"\(T, N, 3\)"):
        measure(jnp.zeros((2, 4, 3)), 10.0)
