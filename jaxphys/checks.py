"""Errors at the door: what a constructor checks, and pytrees that are checked only where a user makes them."""

from __future__ import annotations

import dataclasses
from typing import Any, dataclass_transform

import jax
import numpy as np


def is_concrete(*trees: Any) -> bool:
    """True where no leaf is a tracer, so that values may be checked in Python."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


@dataclass_transform(frozen_default=True, eq_default=False)
def checked_pytree(cls):
    """Class decorator: a frozen dataclass, registered as a pytree, whose `__post_init__` checks what a user gives.

    `jax.tree_util.register_dataclass` calls the constructor again whenever JAX rebuilds a tree, so a gradient with a
    negative entry for a positive parameter would be refused. Here a tree is rebuilt without the checks.
    Fields with `metadata=dict(static=True)` are static, all others are children.

    >>> @checked_pytree
    ... class Positive:
    ...     a: float
    ...     def __post_init__(self):
    ...         check_number("Positive", "a", self.a, above=0.0)
    >>> jax.grad(lambda p: -2.0 * p.a)(Positive(1.0)).a.item()
    -2.0
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    names = {static: [] for static in (False, True)}
    for field in dataclasses.fields(cls):
        names[bool(field.metadata.get("static", False))].append(field.name)
    children, static = tuple(names[False]), tuple(names[True])

    def flatten(tree):
        return tuple(getattr(tree, n) for n in children), tuple(getattr(tree, n) for n in static)

    def flatten_with_keys(tree):
        values, aux = flatten(tree)
        return tuple((jax.tree_util.GetAttrKey(n), v) for n, v in zip(children, values)), aux

    def unflatten(aux, values):
        tree = object.__new__(cls)
        for name, value in zip(children + static, (*values, *aux)):
            object.__setattr__(tree, name, value)
        return tree

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def cast(tree: Any, dtype) -> Any:
    """Every leaf as an array of `dtype`, so that a scene in float64 does not widen a simulation in float32."""
    return jax.tree.map(lambda a: jax.numpy.asarray(a, dtype), tree)


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
