"""What else the same motion may mean: a body that is denser and as much stiffer, stronger and more viscous moves alike.

Cauchy's equation div(sigma) + rho g = rho a keeps its solution where the density and every stress have one factor.
Stresses have that of the moduli, yield stresses and viscosities, for every law of this project; speeds of sound, and so
the steps of time that are stable, stay. One simulated clip is thus a clip of many materials, whose words and numbers
differ: a model that learns from all of them learns what density has to do with it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.language import captions
from jaxphys.scenes.clips import DENSITY, LAW, RANGES, SCALARS, WORDS

SCALED = ("E", "yield_stress", "viscosity", "density")
"""Those of `SCALARS` that have the factor; their logarithms are shifted alike."""
_IS_SCALED = np.asarray([name in SCALED for name in SCALARS])
_NAMES = {"weight": "density"} | {slot: name for slot, (name, _) in WORDS.items() if name in SCALED}


def _ranges() -> np.ndarray:
    """Ends between which a material's scaled numbers are drawn, in the order of its word: (materials, SCALARS, 2)."""
    out = np.broadcast_to([-np.inf, np.inf], (len(captions.NAMED["material"]), len(SCALARS), 2)).copy()
    for k, material in enumerate(captions.NAMED["material"]):
        known = RANGES[material] | {"density": DENSITY} if material in LAW else {}
        for name in SCALED:
            if name in known:
                out[k, SCALARS.index(name)] = np.log10(known[name])
    return out


def shifted(tokens: jax.Array, scalars: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The caption and the numbers of the same motion at a density 10^shift times as high.

    Args:
        tokens: caption (S,), see `captions.tokens`; slots that it leaves open stay so.
        scalars: values of `clips.SCALARS` (K,), NaN where there is none.
        shift: of the logarithms to base 10.

    Returns:
        Tokens (S,) and scalars (K,).

    Example:
        >>> said = {"material": "elastic", "stiffness": "soft", "weight": "light"}
        >>> numbers = np.full(len(SCALARS), np.nan)
        >>> numbers[[SCALARS.index("E"), SCALARS.index("density")]] = 4.7, 3.0
        >>> tokens, moved = shifted(captions.tokens(said), numbers, 0.2)
        >>> captions.from_tokens(tokens)
        {'material': 'elastic', 'stiffness': 'medium', 'weight': 'heavy'}
    """
    tokens, scalars = jnp.asarray(tokens), scalars + jnp.where(_IS_SCALED, shift, 0.0)
    for slot, name in _NAMES.items():
        edges = jnp.asarray(captions.SCALES[slot].edges[1:-1])
        word = 1 + jnp.searchsorted(edges, scalars[SCALARS.index(name)], side="right")
        at = list(captions.SLOTS).index(slot)
        tokens = tokens.at[at].set(jnp.where(tokens[at] > 0, word, 0).astype(tokens.dtype))
    return tokens, scalars


def resample(tokens: jax.Array, scalars: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`shifted` by an even draw among the shifts that keep every number in the range that clips are drawn from.

    The logarithms are drawn evenly from a box; an even draw along a line within the box leaves that distribution as it
    is (a step of Gibbs sampling).

    Args:
        tokens: caption (S,) that names its material.
        scalars: values of `clips.SCALARS` (K,), NaN where there is none; the density is given.
        key: of the draw.

    Returns:
        Tokens (S,) and scalars (K,).
    """
    material = tokens[list(captions.SLOTS).index("material")]
    ranges = jnp.asarray(_ranges(), jnp.float32)[material - 1]
    down, up = (jnp.where(_IS_SCALED, ranges[:, k] - scalars, jnp.nan) for k in (0, 1))
    low, high = jnp.minimum(jnp.nanmax(down), 0.0), jnp.maximum(jnp.nanmin(up), 0.0)
    return shifted(tokens, scalars, jax.random.uniform(key, (), minval=low, maxval=high))
