"""All cores of a CPU for many small networks: import this before jax.

One device per core, each with one thread, trains and asks small networks faster than one device with all cores.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count={CORES} --xla_cpu_multi_thread_eigen=false")
# A sum over devices waits for all of them: with no more threads than devices XLA has stood still.
os.environ.setdefault("NPROC", str(2 * CORES))

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from jaxphys.sharding import make_mesh  # noqa: E402


def keep_memory() -> None:
    """Tells glibc to keep what is freed.

    XLA takes the memory of a step anew each time; where it goes back to the system in between, every page of it costs a
    fault: a sixth of the time of a step on three cores. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((-8, 32), (-3, 2**30), (-1, 2**31 - 1)):  # arenas, thresholds of mmap and trim
            mallopt(option, value)


def each(f: Callable, *rows) -> np.ndarray:
    """f of every row, one row at a time on each device; rows beyond a multiple of the devices are worked on twice."""
    count, devices = len(rows[0]), jax.device_count()
    index = np.resize(np.arange(count), -(-count // devices) * devices)
    rowwise = lambda *a: jax.lax.map(lambda row: f(*row), a)
    shared = jax.shard_map(rowwise, mesh=make_mesh(), in_specs=P("data"), out_specs=P("data"))
    return np.asarray(jax.jit(shared)(*(r[index] for r in rows)))[:count]
