"""Checkpoints of a run: written in the background, either complete or not there, restored onto any mesh bit for bit.

A thin layer over orbax. What it adds: a tree is stored as named arrays, so that one of another structure is refused by
name and not read into the wrong place; typed PRNG keys are stored; and what the run was (seeds, order of the data)
stands beside the numbers.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxphys.sharding import leaf_paths


class Checkpoints:
    """A folder of checkpoints, one per step.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Checkpoints(folder, keep=1) as checkpoints:
    ...     for step in (1, 2):
    ...         checkpoints.save(step, {"w": jnp.full(3, step)}, {"seed": 0})
    ...     step, tree, about = checkpoints.restore({"w": jax.ShapeDtypeStruct((3,), jnp.int32)})
    >>> step, tree["w"].tolist(), about
    (2, [2, 2, 2], {'seed': 0})
    """

    def __init__(self, folder: str | Path, keep: int = 3):
        """
        Args:
            folder: is made where it does not exist; several processes share one.
            keep: older checkpoints than the newest `keep` are deleted.

        Raises:
            ValueError: keep is less than 1.
        """
        if keep < 1:
            raise ValueError(f"Checkpoints: keep must be at least 1, got {keep}")
        # What a killed process left unfinished is removed when the folder is opened.
        logging.getLogger("absl").addFilter(_NotRoutine())
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=True, cleanup_tmp_directories=True, enable_async_checkpointing=True
        )
        self.folder = Path(folder).resolve()
        handlers = {"arrays": ocp.StandardCheckpointHandler(), "about": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    @property
    def latest(self) -> int | None:
        """The newest complete step."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """All complete steps."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any, about: dict | None = None) -> None:
        """Copies the arrays to the host and returns; a thread writes them. Waits for the write before it, if any.

        Args:
            step: its name; must be greater than the newest.
            tree: arrays, typed PRNG keys included; sharded ones are written by the processes that hold them.
            about: what JSON can hold.

        Raises:
            ValueError: the step is not new.
        """
        if self.latest is not None and step <= self.latest:
            raise ValueError(f"Checkpoints: step {step} is not after the newest in {self.folder}, {self.latest}")
        arrays = dict(zip(leaf_paths(tree), map(_raw, jax.tree.leaves(tree))))
        items = dict(arrays=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about or {}))
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(self, like: Any, step: int | None = None) -> tuple[int, Any, dict]:
        """Reads a checkpoint straight into the shardings of `like`; the values are those that were saved, bit for bit.

        Args:
            like: a tree of the structure that was saved: arrays, or `jax.ShapeDtypeStruct` with a `sharding` each. A
                leaf without a sharding comes to the first device.
            step: None: the newest.

        Returns:
            The step, the tree, and `about`.

        Raises:
            FileNotFoundError: there is none.
            ValueError: a missing, extra or misshapen leaf, by name.
        """
        self.wait()
        step = self.latest if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise FileNotFoundError(f"no checkpoint{'' if step is None else f' of step {step}'} in {self.folder}")
        paths, (leaves, structure) = leaf_paths(like), jax.tree.flatten(like)
        wanted = dict(zip(paths, map(_raw_abstract, leaves)))
        found = self._manager.item_metadata(step)["arrays"].tree
        self._check(step, wanted, found)
        got = self._manager.restore(
            step, args=ocp.args.Composite(arrays=ocp.args.StandardRestore(wanted), about=ocp.args.JsonRestore())
        )
        tree = jax.tree.unflatten(structure, [_typed(got["arrays"][p], x) for p, x in zip(paths, leaves)])
        return step, tree, got["about"]

    def about(self, step: int | None = None) -> dict:
        """What was saved beside the arrays, without reading them."""
        self.wait()
        step = self.latest if step is None else step
        got = self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))
        return got["about"]

    def preempted(self, step: int) -> bool:
        """True where the cluster has announced to any process that this one ends: the same answer on all of them."""
        return jax.process_count() > 1 and self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Until all that was saved is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of the threads."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _check(self, step, wanted, found):
        missing = [p for p in wanted if p not in found]
        extra = [p for p in found if p not in wanted]
        wrong = [
            f"{p} {tuple(found[p].shape)} {np.dtype(found[p].dtype)}, wanted {x.shape} {np.dtype(x.dtype)}"
            for p, x in wanted.items()
            if p in found and (tuple(found[p].shape) != x.shape or np.dtype(found[p].dtype) != np.dtype(x.dtype))
        ]
        problems = [
            f"{what}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
            for what, names in (("not in the file", missing), ("only in the file", extra), ("of another shape", wrong))
            if names
        ]
        if problems:
            raise ValueError(
                f"checkpoint {step} in {self.folder} is of another model or optimizer; {'; '.join(problems)}"
            )


class _NotRoutine(logging.Filter):
    """Orbax reports every routine act on the logger of absl; what a user should see are warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or "orbax" not in record.pathname


def _is_key(x) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _raw(x):
    """A typed key as its bits."""
    x = jnp.asarray(x)
    return jax.random.key_data(x) if _is_key(x) else x


def _raw_abstract(x):
    """The stored form of a leaf: shape, dtype and where it shall be."""
    x = x if hasattr(x, "dtype") and hasattr(x, "shape") else jnp.asarray(x)
    sharding = getattr(x, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    if not _is_key(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    bits = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(x.shape, x.dtype))
    if isinstance(sharding, jax.sharding.NamedSharding):  # the bits of a key stay together
        sharding = jax.sharding.NamedSharding(sharding.mesh, sharding.spec)
    return jax.ShapeDtypeStruct(bits.shape, bits.dtype, sharding=sharding)


def _typed(value, like):
    like = like if hasattr(like, "dtype") else jnp.asarray(like)
    if not _is_key(like):
        return value
    return jax.random.wrap_key_data(value, impl=_implementation(like.dtype))


def _implementation(dtype) -> str:
    """The name of the generator of a key dtype, from "key<fry>"."""
    return jax.random.key_impl(jax.random.key(0)) if dtype == jax.random.key(0).dtype else dtype._impl.name
