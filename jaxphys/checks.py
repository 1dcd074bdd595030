"""Errors at the door: what a constructor checks."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def is_concrete(*trees: Any) -> bool:
    """True where no leaf is a tracer, so that values may be checked in Python."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def as_array(value: Any, dtype=None) -> jax.Array:
    """`value` on the default device; a numpy array of a new shape compiles nothing, as in `jax.numpy.asarray` it would.

    >>> as_array([1.0, 2.0], "float32")
    Array([1., 2.], dtype=float32)
    """
    if isinstance(value, jax.Array):
        return jax.numpy.asarray(value, dtype)
    return jax.device_put(np.asarray(value, dtype))


def cast(tree: Any, dtype) -> Any:
    """Every leaf as an array of `dtype`, so that a scene in float64 does not widen a simulation in float32."""
    return jax.tree.map(lambda a: as_array(a, dtype), tree)


def check_number(owner: str, name: str, value: Any, above: float | None = None, least: float | None = None) -> None:
    """Raises ValueError unless value is one number, not NaN, greater than `above` and not less than `least`."""
    if not is_concrete(value):
        return
    limit = f" greater than {above}" if above is not None else "" if least is None else f" not less than {least}"
    number = np.asarray(value, np.float64)
    if (
        number.shape != ()
        or np.isnan(number)
        or (above is not None and number <= above)
        or (least is not None and number < least)
    ):
        raise ValueError(f"{owner}: {name} must be one number{limit}, got {value}")


def check_vector(owner: str, name: str, value: Any, *, nonzero: bool = False, above: float | None = None) -> None:
    """Raises ValueError unless value is three numbers, none NaN, not all 0 (`nonzero`), each greater than `above`."""
    if not is_concrete(value):
        return
    shape = np.shape(value)
    if shape != (3,):
        raise ValueError(f"{owner}: {name} must hold three numbers, got shape {list(shape)}: {value}")
    vector = np.asarray(value, np.float64)
    if np.any(np.isnan(vector)):
        raise ValueError(f"{owner}: {name} must not be NaN, got {value}")
    if nonzero and not np.any(vector):
        raise ValueError(f"{owner}: {name} must not be zero; give a direction of any length")
    if above is not None and np.any(vector <= above):
        raise ValueError(f"{owner}: each component of {name} must be greater than {above}, got {value}")
