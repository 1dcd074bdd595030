"""Motions at one rate, whatever the rate of the recording: a smoothing spline as a matrix.

The curve y minimises  sum_i |y(t_i) - x_i|^2 / fps + (2 pi fc)^-6 integral |y'''|^2 dt  (Whittaker 1922; Wahba,
Spline Models for Observational Data, 1990, chapter 1): away from the ends a sine of frequency f is scaled by
1 / (1 + (f / fc)^6), whatever the frame rate, so that differences of y mean the same at 16 and at 120 per second.
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.linalg

FINE = 4  # points of the curve per sample that is returned


@functools.lru_cache(maxsize=64)
def smoothing(frames: int, fps: float, rate: float, cutoff_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that take T frames to the smooth curve: at `rate` samples per second, and at the frames themselves.

    Args:
        frames: T.
        fps: frames per second.
        rate: samples per second of the first matrix.
        cutoff_hz: fc [Hz].

    Returns:
        (n, T) with n = 1 + floor((T - 1) rate / fps) samples from the first frame on, and (T, T); float64.

    Raises:
        ValueError: fewer than three samples come out.

    >>> to_rate, here = smoothing(61, 60.0, 30.0, 6.0)
    >>> t = np.arange(61) / 60.0
    >>> to_rate.shape, bool(np.allclose(to_rate @ t**2, t[::2] ** 2, atol=1e-4))
    ((31, 61), True)
    """
    seconds = (frames - 1) / fps
    n = 1 + int(np.floor(seconds * rate + 1e-6))
    if frames < 3 or n < 3:
        raise ValueError(
            f"{frames} frame{'s' * (frames != 1)} at {fps:g} frames per second last {seconds:.3g} s; velocities and "
            f"accelerations need at least 3 frames and {2 / rate:.3g} s"
        )
    h = 1.0 / (FINE * rate)
    m = 1 + int(np.ceil(seconds / h - 1e-6))
    place = np.minimum(np.arange(frames) / fps / h, m - 1)
    left = np.minimum(place.astype(int), m - 2)
    A = np.zeros((frames, m))
    A[np.arange(frames), left] = 1.0 - (place - left)
    A[np.arange(frames), left + 1] = place - left
    # the third difference in units in which its penalty is of the order of one
    D = np.diff(np.eye(m), 3, axis=0) / (2.0 * np.pi * cutoff_hz * h) ** 3
    M = A.T @ A / (fps * h) + D.T @ D
    band = np.stack([np.pad(np.diagonal(M, -k), (0, k)) for k in range(4)])
    curve = scipy.linalg.solveh_banded(band, A.T / (fps * h), lower=True)
    return curve[: n * FINE : FINE], A @ curve
