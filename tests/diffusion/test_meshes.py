"""Eight devices train as one does: two of the five meshes of experiments/cases/meshes.py, and `jax.pmap`."""

import functools

import jax
import pytest

from experiments.cases import meshes
from jaxphys.sharding import make_mesh

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs eight (virtual) devices, as conftest makes")


@functools.cache
def alone():
    return meshes.train()


@pytest.mark.parametrize("name", ["data", "mixed"])
def test_step_on_a_mesh_equals_one_device(name):
    run = meshes.train(make_mesh(**meshes.MESHES[name], devices=jax.devices()[:8]))
    figures = meshes.compare(name, run, alone())
    assert max(v for k, v in figures.items() if k.endswith("relative")) <= 1e-5, figures
    assert run.compiled == 1
    assert figures[f"{name}_work_share"] < 0.2
    assert name == "data" or figures["mixed_state_share"] < 0.35  # fsdp x tensor = 4, and small leaves are copied


def test_step_under_pmap_equals_one_device():
    figures = meshes.compare("pmap", meshes.under_pmap(), alone())
    assert max(v for k, v in figures.items() if k.endswith("relative")) <= 1e-5, figures
