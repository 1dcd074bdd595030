"""Regular blocks of particles for the validation cases."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxphys import mpm


def block(lo, hi, spacing: float, **fields) -> mpm.Particles:
    """Particles on a regular lattice that fills a box.

    Args:
        lo, hi: corners [m].
        spacing: distance of neighbours [m], rounded so that the lattice fits.
        **fields: of `mpm.Particles.create`; a function is called with the positions.
    """
    counts = [max(1, round((b - a) / spacing)) for a, b in zip(lo, hi)]
    axes = [a + (b - a) * (np.arange(n) + 0.5) / n for a, b, n in zip(lo, hi, counts)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    volume = np.prod(np.subtract(hi, lo)) / len(x)
    fields = {name: value(x) if callable(value) else value for name, value in fields.items()}
    return mpm.Particles.create(jnp.asarray(x, jnp.float32), volume, **fields)
