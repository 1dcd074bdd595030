"""Eight virtual devices under five meshes give the loss and the gradients of one, each compiled once.

The training step of a tiny Wan transformer, three steps with Adam on the same eight clips: loss and parameters against
those of one device, and how often each step was compiled. The share of the work that one device does is XLA's count for
its program over XLA's count for one device alone; 1/8 is perfect, 1 means that the mesh is not used. The same step
under `jax.pmap`. About two minutes on one core.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxphys.diffusion.dit import WanConfig
from jaxphys.diffusion.flow import flow_loss
from jaxphys.diffusion.layout import CLIPS, PARAMETERS
from jaxphys.diffusion.protocol import Condition
from jaxphys.pytree import pytree
from jaxphys.sharding import make_mesh
from jaxphys.train import create_state, make_step, update

MESHES = {
    "data": dict(data=8),
    "fsdp": dict(data=1, fsdp=8),
    "tensor": dict(data=1, tensor=8),
    "seq": dict(data=1, seq=8),
    "mixed": dict(data=1, fsdp=2, tensor=2, seq=2),
}
MODEL = WanConfig(
    dim=64, ffn_dim=128, heads=8, layers=2, in_channels=4, out_channels=4, text_dim=16, freq_dim=32, attention="dot"
)
STEPS = 3
BATCH = 8


@pytree
class Example:
    """One clip and its text."""

    clip: jax.Array  # (T, H, W, C)
    text: jax.Array  # (L, D)


def loss(params, example: Example, key):
    return flow_loss(params, example.clip, Condition(text=example.text), MODEL, key=key)


def batch() -> Example:
    rng = np.random.default_rng(0)
    # Six frames: the tokens of an example can be spread over eight devices, its frames cannot.
    arrays = rng.normal(size=(BATCH, 6, 4, 4, 4)), rng.normal(size=(BATCH, 8, 16))
    return Example(*(np.asarray(a, np.float32) for a in arrays))


def optimizer():
    # With the usual eps of 1e-8 a gradient that is nothing but rounding would still move its parameter by a whole step.
    return optax.adam(1e-2, eps=1e-3)


@dataclasses.dataclass
class Run:
    """What three steps gave."""

    losses: list[float]
    gradient: Any  # of the first step
    params: Any
    compiled: int  # times
    flops: float  # of one device, by XLA's count
    bytes: int  # of the state on one device


@contextlib.contextmanager
def compilations():
    """A list that grows by one whenever XLA compiles the step (of `jax.jit`, or of `jax.pmap`, which names it _fun)."""
    found = []

    def listen(event, seconds, **about):
        if event.endswith("backend_compile_duration") and about.get("fun_name") in ("jit(step)", "jit(_fun)"):
            found.append(about["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@functools.cache
def first_params():
    return jax.tree.map(np.asarray, jax.jit(MODEL.init)(jax.random.key(0)))


def train(mesh=None) -> Run:
    rules = PARAMETERS if mesh is not None else ()
    state = create_state(first_params(), optimizer(), key=jax.random.key(1), ema=True, mesh=mesh, rules=rules)
    held = sum(a.addressable_shards[0].data.nbytes for a in jax.tree.leaves((state.params, state.opt_state, state.ema)))
    step = make_step(loss, optimizer(), mesh, rules=rules, batch_rules=CLIPS)
    losses, gradient = [], None
    with compilations() as compiled:
        for _ in range(STEPS):
            state, metrics = step(state, batch())
            losses.append(float(metrics["loss"]))
            if gradient is None:  # the first moment after one step is 0.1 times the gradient
                gradient = jax.tree.map(lambda m: 10.0 * np.array(m), state.opt_state[0].mu)
    flops = step.lower(state, batch()).compile().cost_analysis()["flops"]
    return Run(losses, gradient, jax.tree.map(np.array, state.params), len(compiled), flops, held)


def under_pmap() -> Run:
    """The same step with the batch over eight devices of `jax.pmap`, one example each."""
    function = jax.pmap(update(loss, optimizer(), axis_name="devices"), axis_name="devices")
    state = create_state(first_params(), optimizer(), key=jax.random.key(1), ema=True)
    state = jax.tree.map(lambda a: jnp.stack([a] * BATCH), state)
    losses, gradient = [], None
    with compilations() as compiled:
        for _ in range(STEPS):
            state, metrics = function(state, jax.tree.map(lambda a: a[:, None], batch()))
            losses.append(float(metrics["loss"][0]))
            if gradient is None:
                gradient = jax.tree.map(lambda m: 10.0 * np.array(m[0]), state.opt_state[0].mu)
    return Run(losses, gradient, jax.tree.map(lambda a: np.array(a[-1]), state.params), len(compiled), 0.0, 0)


def difference(got, wanted) -> float:
    """The greatest difference of an element, over the greatest element of its leaf."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted))
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-12)) for a, b in pairs)


def compare(name: str, got: Run, alone: Run) -> dict[str, float]:
    return {
        f"{name}_loss_relative": float(np.abs(np.divide(got.losses, alone.losses) - 1.0).max()),
        f"{name}_gradient_relative": difference(got.gradient, alone.gradient),
        f"{name}_parameters_relative": difference(got.params, alone.params),
        f"{name}_compiled": got.compiled,
        f"{name}_work_share": got.flops / alone.flops,
        f"{name}_state_share": got.bytes / alone.bytes,
    }


def run() -> dict:
    alone = train()
    figures: dict[str, float] = {}
    for name, sizes in MESHES.items():
        figures |= compare(name, train(make_mesh(**sizes, devices=jax.devices()[:8])), alone)
    mapped = compare("pmap", under_pmap(), alone)
    figures |= {k: v for k, v in mapped.items() if k.endswith("relative")}
    pick = lambda end, worst: worst(v for k, v in figures.items() if k.endswith(end))
    return figures | {
        "worst_relative": pick("_relative", max),
        "most_compiled": pick("_compiled", max),
        "worst_work_share": pick("_work_share", max),
    }


CHECKS = {"worst_relative": ("<=", 1e-5), "most_compiled": ("<=", 1), "worst_work_share": ("<=", 0.25)}
