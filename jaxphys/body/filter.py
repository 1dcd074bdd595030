"""Zero-phase low-pass filter of motions, with its cut-off in Hz."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from jaxphys.body import so3
from jaxphys.body.motion import check_fps
from jaxphys.checks import is_concrete

ORDER = 3  # of the difference that is penalised: constant acceleration passes unchanged, ends included


@functools.lru_cache(maxsize=32)
def whittaker(frames: int, fps: float, cutoff_hz: float) -> np.ndarray:
    """Matrix of Whittaker's smoother, W = (I + D^T D / s)^-1 with D the third difference.

    It minimises |x - y|^2 + |D x|^2 / s (Whittaker 1922; Eilers 2003). Away from the ends a sine of frequency f is
    scaled by 1 / (1 + (sin(pi f / fps) / sin(pi fc / fps))^6), which is 1/2 at f = fc, as for a second-order
    Butterworth filter run forwards and backwards; s = (2 sin(pi fc / fps))^6. No phase shift, no padding at the ends.

    Args:
        frames: T.
        fps: frames per second.
        cutoff_hz: fc [Hz], below fps / 2.

    Returns:
        (T, T) float64.

    Raises:
        ValueError: the cut-off is not between 0 and fps / 2.

    >>> import numpy as np
    >>> bool(np.allclose(whittaker(20, 30.0, 6.0) @ np.arange(20.0) ** 2, np.arange(20.0) ** 2))
    True
    """
    if not 0 < cutoff_hz < 0.5 * fps:
        raise ValueError(
            f"the cut-off must lie between 0 and half the frame rate, got {cutoff_hz} Hz at {fps} frames per second; "
            "cutoff=None does not filter"
        )
    if frames <= ORDER:
        return np.eye(frames)
    D = np.diff(np.eye(frames), ORDER, axis=0) / (2.0 * np.sin(np.pi * cutoff_hz / fps)) ** ORDER
    A = np.eye(frames) + D.T @ D
    band = np.stack([np.pad(np.diagonal(A, k), (0, k)) for k in range(ORDER + 1)])
    return scipy.linalg.solveh_banded(band, np.eye(frames), lower=True)


def lowpass(R: jax.Array, translation: jax.Array, fps: float, cutoff: float | None) -> tuple[jax.Array, jax.Array]:
    """Rotations and root positions without what is faster than the cut-off.

    Matrix entries are smoothed by `whittaker` and projected back to the nearest rotations, which needs no unwrapping
    and does not depend on the choice of axes.

    Args:
        R: (T, J, 3, 3) rotations.
        translation: (T, 3) [m].
        fps: frames per second; a number known when tracing, as is the cut-off.
        cutoff: [Hz]; None, or half the frame rate and above: nothing is filtered.

    Returns:
        R (T, J, 3, 3) and translation (T, 3).

    >>> R, x = lowpass(jnp.broadcast_to(jnp.eye(3), (9, 24, 3, 3)), jnp.ones((9, 3)), 30.0, 6.0)
    >>> bool(jnp.allclose(x, 1.0, atol=1e-5))
    True
    """
    check_fps("lowpass", fps)
    if not is_concrete(fps, cutoff):
        raise ValueError("lowpass: fps and cutoff fix a matrix when the function is traced: give numbers, not tracers")
    if cutoff is None or cutoff >= 0.5 * fps:
        return R, translation
    W = jnp.asarray(whittaker(R.shape[0], float(fps), float(cutoff)), R.dtype)
    start = translation[:1]  # digits: a clip far from the origin is smoothed about its first frame
    return so3.project(jnp.tensordot(W, R, 1)), start + W @ (translation - start)
