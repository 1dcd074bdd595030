"""The low-pass filter: response, phase, ends, and rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from jaxphys.body import lowpass, so3, whittaker


@pytest.mark.parametrize("fps, cutoff", [(30.0, 3.0), (60.0, 6.0), (120.0, 10.0)])
def test_response_is_that_of_a_butterworth_filter_run_both_ways(fps, cutoff):
    frames = 400
    t = np.arange(frames) / fps
    W = whittaker(frames, fps, cutoff)
    sections = butter(
        3, cutoff / (fps / 2), output="sos"
    )  # sixth power of the frequency, as here: half the amplitude at the cut-off
    middle = slice(150, 250)
    for f in (0.3 * cutoff, cutoff, 2.0 * cutoff):
        wave = np.sin(2 * np.pi * f * t)
        ours, theirs = (W @ wave)[middle], sosfiltfilt(sections, wave)[middle]
        # same gain within 4 %, and no phase: what remains is proportional to the wave
        gain = np.dot(ours, wave[middle]) / np.dot(wave[middle], wave[middle])
        assert gain == pytest.approx(np.dot(theirs, wave[middle]) / np.dot(wave[middle], wave[middle]), abs=0.04)
        np.testing.assert_allclose(ours, gain * wave[middle], atol=1e-3)
    wave = np.sin(2 * np.pi * cutoff * t)
    assert np.dot((W @ wave)[middle], wave[middle]) / np.dot(wave[middle], wave[middle]) == pytest.approx(0.5, abs=0.01)


def test_constant_acceleration_passes_to_the_ends():
    t = np.arange(40.0)
    x = 3.0 - 0.2 * t + 0.05 * t**2
    np.testing.assert_allclose(whittaker(40, 30.0, 3.0) @ x, x, atol=1e-9)


def test_rotations_stay_rotations_and_the_choice_of_axes_is_free(float64):
    rng = np.random.default_rng(0)
    t = np.arange(60) / 30.0
    w = 0.6 * np.sin(2 * np.pi * t[:, None, None] * rng.uniform(0.3, 1.0, (1, 24, 3)))
    R, x = so3.exp(jnp.asarray(w + 0.02 * rng.normal(size=w.shape))), jnp.asarray(rng.normal(size=(60, 3)))
    smooth_out = jax.jit(lambda R, x: lowpass(R, x, 30.0, 5.0))
    smooth, y = smooth_out(R, x)
    identity = np.broadcast_to(np.eye(3), smooth.shape)
    np.testing.assert_allclose(so3.matmul(smooth, so3.transpose(smooth)), identity, atol=1e-13)
    clean = so3.exp(jnp.asarray(w))
    # less noise than before, against the motion without noise
    assert np.abs(smooth - clean).mean() < 0.6 * np.abs(R - clean).mean()
    A, B = so3.exp(jnp.array([0.3, 1.0, -2.0])), so3.exp(jnp.array([-1.0, 0.4, 0.2]))
    turned, z = smooth_out(A @ R @ B, x @ A.T + 7.0)
    np.testing.assert_allclose(turned, A @ smooth @ B, atol=1e-13)
    np.testing.assert_allclose(z, y @ A.T + 7.0, atol=1e-12)


def test_gradient(float64):
    rng = np.random.default_rng(1)
    w, x = jnp.asarray(0.3 * rng.normal(size=(9, 2, 3))), jnp.asarray(rng.normal(size=(9, 3)))
    weight = jnp.asarray(rng.normal(size=(9, 2, 3, 3)))
    loss = jax.jit(lambda w: jnp.sum(weight * lowpass(so3.exp(w), x, 30.0, 6.0)[0]))
    d = jnp.asarray(rng.normal(size=w.shape))
    slope = float(jnp.vdot(jax.grad(loss)(w), d))
    errors = [abs(float(loss(w + h * d) - loss(w - h * d)) / (2 * h) - slope) / abs(slope) for h in (1e-4, 1e-5, 1e-6)]
    assert min(errors) < 1e-8


def test_cutoffs():
    R, x = jnp.broadcast_to(jnp.eye(3), (9, 1, 3, 3)), jnp.arange(27.0).reshape(9, 3) ** 3
    for cutoff in (None, 15.0, 20.0):  # nothing to remove
        np.testing.assert_array_equal(lowpass(R, x, 30.0, cutoff)[1], x)
    assert np.abs(lowpass(R, x, 30.0, 2.0)[1] - x).max() > 1.0
    with pytest.raises(ValueError, match="cut-off must lie between 0 and half"):
        lowpass(R, x, 30.0, -1.0)
    with pytest.raises(ValueError, match="fps must be one positive number"):
        lowpass(R, x, None, 6.0)
    with pytest.raises(ValueError, match="give numbers, not tracers"):
        jax.jit(lambda fps: lowpass(R, x, fps, 6.0))(30.0)
