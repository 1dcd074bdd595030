"""A training run of seconds, for the cases about interruption and several processes.

    python -m experiments.toy_training --workdir=runs/toy --steps=40
    python -m experiments.toy_training --workdir=runs/two --address=localhost:9911 --processes=2 --index=0  # and 1

A small Wan transformer learns 32 clips of a drifting blob. A run in the same workdir goes on from its last checkpoint.
Writes metrics.jsonl and, at the end, final.json with a hash of every bit of the state. About 15 s on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import os

# One device with fixed threads, so that sums are always taken in the same order; quick to compile rather than to run.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1"
)

import jax
import numpy as np
import optax

from experiments.report import write_json
from jaxphys.diffusion.dit import WanConfig
from jaxphys.diffusion.flops import training_flops
from jaxphys.diffusion.flow import flow_loss
from jaxphys.diffusion.layout import CLIPS, PARAMETERS
from jaxphys.diffusion.protocol import Condition
from jaxphys.pytree import pytree
from jaxphys.sharding import make_mesh, start_processes
from jaxphys.train import Order, create_state, fit, make_step

MODEL = WanConfig(
    dim=16, ffn_dim=32, heads=2, layers=2, in_channels=1, out_channels=1, text_dim=4, freq_dim=16, remat="none"
)
SHAPE = (4, 8, 8, 1)
ORDER = Order(examples=32, batch=8, seed=3)


@pytree
class Example:
    """A blob that drifts; the text is its velocity."""

    clip: np.ndarray  # (T, H, W, 1)
    text: np.ndarray  # (1, 4)


def example(index: int) -> Example:
    start, velocity = np.random.default_rng(index).uniform([[2.0, 2.0], [-1.0, -1.0]], [[6.0, 6.0], [1.0, 1.0]])
    centre = start + np.arange(SHAPE[0])[:, None] * velocity
    pixel = np.stack(np.meshgrid(np.arange(SHAPE[1]), np.arange(SHAPE[2]), indexing="ij"), -1)
    squared = ((pixel - centre[:, None, None]) ** 2).sum(-1)
    text = np.concatenate([velocity, [0.0, 1.0]])[None]
    return Example(np.exp(-0.5 * squared)[..., None].astype(np.float32), text.astype(np.float32))


def batch(step: int) -> Example:
    """This process's part of the batch of a step."""
    indices = ORDER.indices(step, jax.process_index(), jax.process_count())
    return jax.tree.map(lambda *leaves: np.stack(leaves), *map(example, indices))


def loss(params, example: Example, key):
    return flow_loss(params, example.clip, Condition(text=example.text), MODEL, key=key)


def run(workdir: str, steps: int, checkpoint_every: int = 5) -> None:
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(3e-3, 100)))
    mesh = make_mesh()
    state = create_state(MODEL.init, tx, key=jax.random.key(0), ema=True, mesh=mesh, rules=PARAMETERS)
    step = make_step(loss, tx, mesh, rules=PARAMETERS, batch_rules=CLIPS, accumulate=2)
    state = fit(
        step,
        state,
        batch,
        steps,
        workdir=workdir,
        about={"order": [ORDER.examples, ORDER.batch, ORDER.seed], "seed": 0},
        checkpoint_every=checkpoint_every,
        log_every=1,
        flops=training_flops(MODEL, SHAPE, 1, ORDER.batch),
    )
    if jax.process_index() == 0 and int(state.step) == steps:
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves((state.params, state.opt_state, state.ema)):
            digest.update(np.asarray(leaf).tobytes())
        write_json(f"{workdir}/final.json", {"step": steps, "sha256": digest.hexdigest()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--checkpoint-every", type=int, default=5)
    parser.add_argument("--address")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--index", type=int)
    options = parser.parse_args()
    if options.processes:
        start_processes(options.address, options.processes, options.index)
    run(options.workdir, options.steps, options.checkpoint_every)
