"""Calls on all cores: every entry is called, and what goes wrong in one ends the whole at once."""

import functools
import os
from pathlib import Path

import pytest

from experiments.processes import call_all


@pytest.mark.parametrize("processes", [1, 2])
def test_every_entry_is_called(tmp_path, processes):
    files = [tmp_path / name for name in "abc"]
    call_all(functools.partial(Path.touch, exist_ok=False), files, processes)
    assert sorted(tmp_path.iterdir()) == files


def test_a_process_that_dies_is_an_error():
    with pytest.raises(RuntimeError, match="a process died"):
        call_all(os._exit, [1], processes=2)


def test_what_a_call_raises_ends_the_others(tmp_path):
    with pytest.raises(FileNotFoundError):
        call_all(os.rmdir, [tmp_path / "nothing", *[tmp_path / str(k) for k in range(50)]], processes=2)
