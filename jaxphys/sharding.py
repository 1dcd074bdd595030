"""Device meshes. The only place that makes one."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

AXES = ("data", "fsdp", "tensor", "seq")


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, seq: int = 1, *, devices=None) -> Mesh:
    """A mesh with axes (data, fsdp, tensor, seq), all `AxisType.Auto`.

    `jax.make_mesh` alone makes Explicit axes since JAX 0.9, under which a scatter into a replicated grid is refused.

    Args:
        data, fsdp, tensor, seq: devices along each axis; one of them may be -1 for "the rest".
        devices: the devices to use; default all.

    Returns:
        The mesh.

    Raises:
        ValueError: the sizes do not multiply to the number of devices.

    >>> make_mesh(devices=jax.devices()[:1]).axis_names
    ('data', 'fsdp', 'tensor', 'seq')
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes = [data, fsdp, tensor, seq]
    if sizes.count(-1) == 1:
        rest = int(np.prod([s for s in sizes if s != -1]))
        sizes[sizes.index(-1)] = len(devices) // rest
    if int(np.prod(sizes)) != len(devices) or min(sizes) < 1:
        raise ValueError(
            f"mesh sizes {dict(zip(AXES, (data, fsdp, tensor, seq)))} do not use {len(devices)} devices: "
            "make their product equal to the number of devices, or leave one at -1"
        )
    return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 4)
