"""The formula against XLA's count of the same network with its layers written out, and against published sizes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

from jaxphys.diffusion import flops
from jaxphys.diffusion.dit import PRESETS, WanConfig
from jaxphys.diffusion.protocol import Condition
from jaxphys.diffusion.schedules import Schedule

TINY = WanConfig(
    dim=256, ffn_dim=512, heads=4, layers=3, in_channels=8, out_channels=8, text_dim=64, freq_dim=64, remat="none",
    attention="dot",
)  # fmt: skip
SHAPE, TEXT = (4, 16, 16, 8), 32


def counted(config, shape, monkeypatch, gradient=False, frames=False):
    """XLA's count; a scan is counted once however long it is, so here it is written out."""
    monkeypatch.setattr(jax.lax, "scan", functools.partial(jax.lax.scan, unroll=True))
    params = jax.eval_shape(config.init, jax.random.key(0))
    sds = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    cond = Condition(
        text=sds(TEXT, config.text_dim),
        concat=sds(*shape[:3], config.in_channels - 8) if config.in_channels > 8 else None,
        clip=sds(257, config.image_dim) if config.image_dim else None,
    )
    time = sds(shape[0]) if frames else sds()

    def run(params, x, t, cond):
        return config.velocity(params, x, t, cond)

    if gradient:
        run = jax.grad(lambda *a: jnp.sum(config.velocity(*a) ** 2), argnums=(0, 1))
    return jax.jit(run).lower(params, sds(*shape), time, cond).compile().cost_analysis()["flops"]


@pytest.mark.parametrize(
    "change",
    [{}, {"causal_frames": 1}, {"image_dim": 32, "in_channels": 12}, {"text_tokens": 64, "patch": (2, 2, 2)}],
)
def test_forward_count(monkeypatch, change):
    config = dataclasses.replace(TINY, **change)
    expected = flops.velocity_flops(config, SHAPE, TEXT)
    # The rest of XLA's count are norms, activations and the softmax.
    assert 1.0 < counted(config, SHAPE, monkeypatch) / expected < 1.04
    # and a term that was forgotten would show: each is more than what the bound leaves
    shallow = flops.velocity_flops(dataclasses.replace(config, layers=2), SHAPE, TEXT)
    assert shallow < 0.8 * expected


def test_backward_is_twice_forward(monkeypatch):
    step = flops.training_flops(TINY, SHAPE, TEXT, batch=1)
    assert 0.97 < counted(TINY, SHAPE, monkeypatch, gradient=True) / step < 1.06


def test_times_per_frame_are_counted(monkeypatch):
    config = dataclasses.replace(TINY, layers=1)
    more = counted(config, SHAPE, monkeypatch, frames=True) - counted(config, SHAPE, monkeypatch)
    expected = flops.velocity_flops(config, SHAPE, TEXT, frame_times=True) - flops.velocity_flops(config, SHAPE, TEXT)
    assert 0.98 < more / expected < 1.15


def test_published_sizes():
    """Teraflops of one evaluation, derived by hand for 81 frames (121 for the 5B model) from widths and tokens."""
    for name, shape, expected in (
        ("wan2.1-t2v-1.3b", (21, 60, 104, 16), 82 + 201),
        ("wan2.1-t2v-14b", (21, 90, 160, 16), 1810 + 4714),
        ("wan2.2-ti2v-5b", (31, 44, 80, 48), 237 + 279),
    ):
        assert abs(flops.velocity_flops(PRESETS[name], shape, 512) / 1e12 / expected - 1.0) < 0.03, name


def test_a_sampled_clip():
    one = flops.velocity_flops(TINY, SHAPE, TEXT)
    count = functools.partial(flops.sampling_flops, TINY, SHAPE, TEXT)
    assert count(Schedule.create(10, "unipc"), guided=True, gradient=False) == 20 * one
    assert count(Schedule.create(10, "heun"), guided=False, gradient=True) == 3 * 19 * one


def test_peak_of_known_devices():
    device = lambda kind: type("Device", (), {"device_kind": kind})()
    assert flops.peak_flops(device("NVIDIA H100 80GB HBM3")) == 989e12
    assert flops.peak_flops(device("NVIDIA H100 PCIe")) == 756e12
    assert flops.peak_flops(device("TPU v5 lite")) == 197e12 and flops.peak_flops(device("TPU v5p")) == 459e12
    assert flops.peak_flops(jax.devices("cpu")[0]) is None
