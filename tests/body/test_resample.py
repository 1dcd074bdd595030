"""The smoothing spline: what it leaves alone, what it removes, and that both do not depend on the frame rate."""

import numpy as np
import pytest

from jaxphys.body.resample import smoothing


@pytest.mark.parametrize("fps", [16.0, 24.0, 30.0, 60.0, 120.0])
def test_parabolas_pass_and_samples_lie_where_they_should(fps):
    frames = int(2 * fps) + 1
    to_rate, here = smoothing(frames, fps, 30.0, 6.0)
    t, new = np.arange(frames) / fps, np.arange(len(to_rate)) / 30.0
    for curve in (lambda t: 1.0 + 0 * t, lambda t: 3 * t - 1, lambda t: t**2 - t):
        np.testing.assert_allclose(to_rate @ curve(t), curve(new), atol=1e-4)
        np.testing.assert_allclose(here @ curve(t), curve(t), atol=1e-4)
    assert new[-1] <= t[-1] + 1e-9 < new[-1] + 1 / 30.0


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
@pytest.mark.parametrize("hertz", [1.0, 3.0, 6.0, 10.0])
def test_a_sine_is_scaled_by_the_formula_at_every_frame_rate(fps, hertz):
    frames = int(6 * fps) + 1
    to_rate, _ = smoothing(frames, fps, 30.0, 6.0)
    t, new = np.arange(frames) / fps, np.arange(len(to_rate)) / 30.0
    phases = [to_rate @ f(2 * np.pi * hertz * t) for f in (np.cos, np.sin)]
    middle = slice(45, len(new) - 45)
    wave = np.stack([np.cos(2 * np.pi * hertz * new), np.sin(2 * np.pi * hertz * new)])[:, middle]
    gain = np.mean(phases[0][middle] * wave[0] + phases[1][middle] * wave[1])
    assert gain == pytest.approx(1 / (1 + (hertz / 6.0) ** 6), abs=0.03)


def test_three_frames_and_a_fifteenth_of_a_second_are_needed():
    assert smoothing(3, 30.0, 30.0, 6.0)[0].shape == (3, 3)
    with pytest.raises(ValueError, match="1 frame at 30 frames per second last 0 s"):
        smoothing(1, 30.0, 30.0, 6.0)
    with pytest.raises(ValueError, match=r"need at least 3 frames and 0\.0667 s"):
        smoothing(5, 120.0, 30.0, 6.0)
