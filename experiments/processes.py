"""A list of calls on all cores, one process to a core."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm


def take_core(cores: Any) -> None:
    """Binds a process to the next core."""
    core = cores.get()
    if core is not None:
        os.sched_setaffinity(0, {core})


def call_all(call: Callable[[Any], Any], todo: Sequence[Any], processes: int = 0, unit: str = "call") -> None:
    """Calls a function with every entry, in no order that can be relied on, with a progress bar.

    Args:
        call: of one entry; a name of a module, or a `functools.partial` of one; what it returns is dropped.
        todo: entries, which processes can be sent.
        processes: how many; 0: one per core; 1: this one.
        unit: what the bar counts.

    Raises:
        RuntimeError: a process died. What a call raises is raised as it is; calls that have not begun are left out.

    >>> call_all(abs, [1, -2], processes=1)
    """
    if processes == 1:
        for entry in tqdm(todo, unit=unit, file=sys.stdout):
            call(entry)
        return
    everywhere: list = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    count = processes or (len(everywhere) if everywhere[0] is not None else os.cpu_count() or 1)
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for k in range(count):
        cores.put(everywhere[k % len(everywhere)])
    # multiprocessing.Pool waits for ever for the entry of a process that died
    with ProcessPoolExecutor(count, context, take_core, (cores,)) as pool:
        jobs = [pool.submit(call, entry) for entry in todo]
        try:
            for job in tqdm(as_completed(jobs), total=len(todo), unit=unit, file=sys.stdout):
                job.result()
        except BrokenProcessPool as error:
            raise RuntimeError("a process died, perhaps for want of memory; what was finished is kept") from error
        finally:
            pool.shutdown(cancel_futures=True)
