"""Device meshes, which part of an array each device holds, and the start of several processes.

Nothing else in the project makes a mesh. Its axes are

    data    examples of a batch; parameters are copies
    fsdp    examples of a batch, and slices of every large parameter (fully sharded data parallel)
    tensor  slices of the widths of a layer: heads, and the hidden width of its MLP
    seq     slices of the tokens of one example

What goes where is a table of rules, (regular expression, axes): the first expression that matches the end of a leaf's
path gives the mesh axes of its dimensions. Since the paths of an optimizer's moments and of averaged parameters end
like those of the parameters, one table places them all.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor", "seq")
BATCH_AXES = ("data", "fsdp")  # over which the examples of a batch are spread
Rules = tuple[tuple[str, tuple], ...]
REPLICATED: Rules = ()
BATCH: Rules = ((".*", (BATCH_AXES,)),)  # the first axis of everything in a batch is its examples


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


def start_processes(address: str | None = None, processes: int | None = None, index: int | None = None) -> None:
    """Joins this process to a run over several; before anything else touches a device.

    Args:
        address: "host:port" of process 0. None: asked of the cluster (TPU pods, Slurm, Kubernetes, Open MPI).
        processes: how many there are.
        index: which one this is.

    Raises:
        ValueError: some of the three are given and some are not.
    """
    given = [x is not None for x in (address, processes, index)]
    if any(given) != all(given):
        raise ValueError(
            f"start_processes: give address, processes and index, or none of them where a cluster knows; "
            f"got {address!r}, {processes}, {index}"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # of no effect on other backends
    jax.distributed.initialize(address, processes, index)


def leaf_paths(tree: Any) -> list[str]:
    """The path of every leaf, parts joined by "/".

    >>> leaf_paths({"blocks": {"q": 1.0}, "head": (2.0, 3.0)})
    ['blocks/q', 'head/0', 'head/1']
    """
    return [
        jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]


def spec(path: str, shape: tuple[int, ...], mesh: Mesh | AbstractMesh, rules: Rules) -> PartitionSpec:
    """The mesh axes of one leaf's dimensions.

    Every device holds an equal part, so of the axes that a rule names for a dimension only those are taken, in their
    order, whose sizes still divide it; over the others the leaf is copied. The result is in the form that the compiler
    gives its outputs (no axes of size 1, no None at the end): in another, a second step would be compiled again.

    Args:
        path: as in `leaf_paths`.
        shape: of the leaf.
        mesh: from `make_mesh`.
        rules: an entry of the axes is None, one axis, or a tuple of axes.

    Raises:
        ValueError: a rule has more axes than the leaf has dimensions, or names an axis that the mesh has not.

    >>> mesh = jax.sharding.AbstractMesh((1, 2, 4, 1), AXES)
    >>> tuple(spec("params/blocks/q/kernel", (2, 6, 8), mesh, ((r"q/kernel", (None, "fsdp", "tensor")),)))
    (None, 'fsdp', 'tensor')
    """
    for pattern, axes in rules:
        if re.search(f"(?:{pattern})$", path) is None:
            continue
        if pattern == ".*":  # a rule for everything may meet scalars
            axes = axes[: len(shape)]
        if len(axes) > len(shape):
            raise ValueError(f"the sharding rule {pattern!r} has {len(axes)} axes, but {path} has the shape {shape}")
        entries = []
        for size, names in zip(shape, axes):
            taken = []
            for name in (names,) if isinstance(names, str) else names or ():
                if name not in mesh.shape:
                    raise ValueError(f"the sharding rule {pattern!r} names {name!r}; the mesh has {tuple(mesh.shape)}")
                if (
                    mesh.shape[name] > 1
                    and size % (mesh.shape[name] * int(np.prod([mesh.shape[n] for n in taken]))) == 0
                ):
                    taken.append(name)
            entries.append(tuple(taken) if len(taken) > 1 else taken[0] if taken else None)
        while entries and entries[-1] is None:
            entries.pop()
        return PartitionSpec(*entries)
    return PartitionSpec()


def shardings(tree: Any, mesh: Mesh, rules: Rules = REPLICATED) -> Any:
    """A tree of `NamedSharding`, one per leaf (an array or a `jax.ShapeDtypeStruct`), by a table of rules."""
    leaves, structure = jax.tree.flatten(tree)
    found = [NamedSharding(mesh, spec(p, np.shape(x), mesh, rules)) for p, x in zip(leaf_paths(tree), leaves)]
    return jax.tree.unflatten(structure, found)


def place(tree: Any, mesh: Mesh, rules: Rules = REPLICATED) -> Any:
    """The same values, held as the rules say; every process must give the whole of them."""

    def put(x, sharding):
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    return jax.tree.map(put, tree, shardings(tree, mesh, rules))


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """(parts of a batch that this process holds, parts in all): one part per place along data and fsdp.

    >>> batch_share(make_mesh(devices=jax.devices()[:1]))
    (1, 1)
    """
    data, fsdp = (mesh.shape[name] for name in BATCH_AXES)
    mine = [d.process_index == jax.process_index() for d in mesh.devices.flat]
    held = np.reshape(mine, (data * fsdp, -1)).any(axis=1)
    return int(held.sum()), data * fsdp


def place_batch(batch: Any, mesh: Mesh, rules: Rules = BATCH) -> Any:
    """A batch on the mesh; of several processes each gives its own rows, in the order of their indices.

    Args:
        batch: arrays with a leading axis of examples: `batch_share(mesh)`'s part of the whole batch.
        mesh: from `make_mesh`.
        rules: a table; see `spec`.

    Raises:
        ValueError: the examples cannot be spread evenly.
    """
    local, count = batch_share(mesh)
    rows = {np.shape(x)[:1] for x in jax.tree.leaves(batch)}
    if len(rows) != 1 or () in rows or next(iter(rows))[0] % local:
        raise ValueError(
            f"a batch needs one leading axis of examples on every leaf, here a multiple of {local} (data x fsdp = "
            f"{count} over {jax.process_count()} processes); got leading axes {sorted(rows)}"
        )

    def put(x, path):
        shape = (np.shape(x)[0] * count // local, *np.shape(x)[1:])
        sharding = NamedSharding(mesh, spec(path, shape, mesh, rules))
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        return jax.make_array_from_process_local_data(sharding, np.asarray(x), shape)

    leaves, structure = jax.tree.flatten(batch)
    return jax.tree.unflatten(structure, [put(x, path) for x, path in zip(leaves, leaf_paths(batch))])


def constrain(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """Inside `jit`: the compiler is told to hold the tree as the rules say."""
    return jax.lax.with_sharding_constraint(tree, shardings(tree, mesh, rules))


def constrain_axes(x: Any, *axes: Any) -> Any:
    """Inside `jit` under `jax.set_mesh`: mesh axes for the dimensions of x; with no mesh, or in `shard_map`, x itself.

    For what a network makes inside itself. Sizes need not divide; under `vmap` the axes are those of one example.

    >>> constrain_axes(jax.numpy.ones((4, 2)), "seq", None).shape
    (4, 2)
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not set(AXES) <= set(mesh.auto_axes):  # in `shard_map` x is already one device's part
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))
