"""Runs in processes of their own: killed and resumed, and two that train together."""

import pytest

from experiments.cases import multihost, resume


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody touches."""
    workdir = tmp_path_factory.mktemp("whole")
    resume.finish(resume.start(workdir))
    assert sorted(resume.curve(workdir)) == list(range(1, resume.STEPS + 1))
    return workdir


def test_killed_and_resumed_is_bit_identical(whole, tmp_path):
    reached = resume.interrupt(tmp_path, step=12, delay=0.01)
    assert 12 <= reached < resume.STEPS and not (tmp_path / "final.json").exists()
    resume.finish(resume.start(tmp_path))
    assert resume.compare(tmp_path, whole) == (0, True)


@pytest.mark.long
def test_two_processes_follow_one(whole, tmp_path):
    multihost.two_processes(tmp_path, "--steps=8", "--checkpoint-every=8")
    assert multihost.distance(tmp_path, whole, steps=8) <= 1e-6
