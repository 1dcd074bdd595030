"""Frozen dataclasses that are pytrees: the one form in which jaxphys keeps scenes, states and parameters."""

from __future__ import annotations

import dataclasses
from typing import Any, dataclass_transform

import jax


def static(*, default: Any = dataclasses.MISSING) -> Any:
    """A field that is a choice and no array: a change of it recompiles."""
    return dataclasses.field(default=default, metadata=dict(static=True))


@dataclass_transform(field_specifiers=(dataclasses.field, static), frozen_default=True, eq_default=False)
def pytree(cls=None, *, kw_only: bool = False):
    """Class decorator: a frozen dataclass, registered as a pytree whose type is part of its structure.

    Why `jax.tree_util.register_dataclass` is not used: two of its classes with as many fields and the same static
    values compare equal as tree structures (JAX 0.10.2), so that a function compiled for one law can be run, silently,
    on the parameters of another. It also calls the constructor whenever JAX rebuilds a tree, so a gradient with a
    negative entry would be refused by the checks of `__post_init__`; here a tree is rebuilt without them.

    Fields with `metadata=dict(static=True)` are static, all others are children.

    >>> @pytree
    ... class Positive:
    ...     a: float
    ...     def __post_init__(self):
    ...         assert self.a > 0
    >>> jax.grad(lambda p: -2.0 * p.a)(Positive(1.0)).a.item()
    -2.0
    """
    if cls is None:
        return lambda cls: pytree(cls, kw_only=kw_only)
    cls = dataclasses.dataclass(frozen=True, eq=False, kw_only=kw_only)(cls)
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
