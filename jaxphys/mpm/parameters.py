"""Material parameters as unconstrained numbers that an optimiser may move anywhere, and as fields over a body.

    z = unconstrain(law, ("E", "nu"))              # {"E": (), "nu": ()}
    law = constrain(optax.apply_updates(z, u), law)   # always inside the physical range

A value of shape (P,) is one number per part, (N,) one per particle, and `evaluate_field` makes one per particle from a
small network of the rest position.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.mpm.materials.base import Bound, Law

L = TypeVar("L", bound=Law)


def to_unconstrained(value: jax.Array, bound: Bound) -> jax.Array:
    """z with `to_constrained(z, bound)` = value: the logit of the position of value (or its logarithm) in the range."""
    lo, hi = _ends(bound)
    y = jnp.log(value) if bound.scale == "log" else value
    return y - lo if np.isinf(hi) else jnp.log(y - lo) - jnp.log(hi - y)


def to_constrained(z: jax.Array, bound: Bound) -> jax.Array:
    """The value in the range of `bound` that stands at z.

    scale "log": exp(ln lo + (ln hi - ln lo) sigmoid(z)), or lo exp(z) where hi is infinite; "linear": lo + (hi - lo)
    sigmoid(z).

    >>> round(float(to_constrained(0.0, Bound(0.0, 0.4, "1", "linear"))), 6)
    0.2
    """
    lo, hi = _ends(bound)
    y = lo + (z if np.isinf(hi) else (hi - lo) * jax.nn.sigmoid(z))
    return jnp.exp(y) if bound.scale == "log" else y


def _ends(bound: Bound) -> tuple[float, float]:
    return (float(np.log(bound.lo)), float(np.log(bound.hi))) if bound.scale == "log" else (bound.lo, bound.hi)


def _ranges(law: Law, names, ranges: Mapping[str, Bound] | None) -> dict[str, Bound]:
    unknown = [n for n in (*names, *(ranges or {})) if n not in law.bounds]
    if unknown:
        raise ValueError(f"{type(law).__name__} has no parameter {', '.join(unknown)}; it has {', '.join(law.bounds)}")
    bounds = {name: (ranges or {}).get(name, law.bounds[name]) for name in names}
    for name, b in bounds.items():
        if (
            not b.lo < b.hi
            or (b.scale == "log" and b.lo <= 0)
            or (b.scale == "linear" and np.isinf([b.lo, b.hi]).any())
        ):
            raise ValueError(f"range of {name}: {b} needs lo < hi, lo > 0 on a log scale, finite ends on a linear one")
    return bounds


def unconstrain(law: Law, names: Sequence[str], *, ranges: Mapping[str, Bound] | None = None) -> dict[str, jax.Array]:
    """The chosen parameters of a law as unconstrained numbers.

    Args:
        law: parameters strictly inside their ranges.
        names: which parameters.
        ranges: narrower ranges than `law.bounds`, which span everything physical. `Bound(lo, inf, unit)` is a plain
        log.

    Raises:
        ValueError: unknown name, empty range, or a value on or outside the ends of its range.

    >>> from jaxphys.mpm.materials import NeoHookean
    >>> z = unconstrain(NeoHookean(density=1e3, E=1e6, nu=0.2), ["E"], ranges={"E": Bound(1e5, 1e7, "Pa")})
    >>> round(abs(float(z["E"])), 3)
    0.0
    """
    z = {}
    for name, bound in _ranges(law, names, ranges).items():
        value = getattr(law, name)
        if not isinstance(value, jax.core.Tracer):
            inside = (np.asarray(value) > bound.lo) & (np.asarray(value) < bound.hi)
            if not inside.all():
                raise ValueError(
                    f"{name} = {np.asarray(value)[~inside].flat[0]:g} is not strictly inside "
                    f"({bound.lo:g}, {bound.hi:g}) "
                    f"{bound.unit}: start from a value inside, or pass another range"
                )
        z[name] = to_unconstrained(jnp.asarray(value, float), bound)
    return z


def constrain(
    z: Mapping[str, jax.Array], law: L, *, ranges: Mapping[str, Bound] | None = None, part: jax.Array | None = None
) -> L:
    """The law with the parameters that `z` stands for; the inverse of `unconstrain` with the same ranges.

    Args:
        z: unconstrained numbers by parameter name, (), (N,), or (P,) where `part` is given.
        law: the other parameters are kept.
        ranges: as for `unconstrain`.
        part: index of the part of each particle (N,): a value (P,) is spread to the particles of its part.
    """
    values = {name: to_constrained(z[name], bound) for name, bound in _ranges(law, z, ranges).items()}
    if part is not None:
        values = {name: value if jnp.ndim(value) == 0 else value[part] for name, value in values.items()}
    return dataclasses.replace(law, **values)


def init_field(
    names: Sequence[str], *, length: float, features: int = 16, width: int = 32, key: jax.Array
) -> dict[str, dict]:
    """Parameters of a field network: random Fourier features of the rest position and one hidden layer.

    Tancik et al. 2020, "Fourier features let networks learn high frequency functions". The last layer starts at 0, so
    the
    field changes nothing at first.

    Args:
        names: parameters of a law that the field varies.
        length: shortest length over which a parameter should vary [m].
        features: number of random directions.
        width: hidden units.
        key: typed PRNG key.

    Returns:
        {"fixed": not to be trained, "weights": pytree for the optimiser}.
    """
    directions, hidden = jax.random.split(key)
    return {
        "fixed": {"frequency": jax.random.normal(directions, (3, features)) / length},
        "weights": {
            "hidden": jax.random.normal(hidden, (2 * features, width)) / np.sqrt(features),
            "shift": jnp.zeros(width),
            "out": {name: jnp.zeros(width) for name in names},
        },
    }


def evaluate_field(field: dict[str, dict], x0: jax.Array) -> dict[str, jax.Array]:
    """The field at rest positions x0 (N, 3) [m]: an unconstrained change per parameter, (N,) each, to be added to z."""
    weights = field["weights"]
    phase = x0 @ jax.lax.stop_gradient(field["fixed"]["frequency"])
    waves = jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], -1)
    hidden = jnp.tanh(waves @ weights["hidden"] + weights["shift"])
    return {name: hidden @ out for name, out in weights["out"].items()}
