"""Body dynamics and the reward of motions against C MuJoCo's mj_inverse on a pool of threads, in one run.

    python -m experiments.bench.body --out experiments/results/bench_body.json

64 clips of 81 frames in one call: inverse dynamics, contact forces, and the gradient of a sum of squares of both to
all poses and positions; then the whole reward with its gradient. The clips are spread over as many virtual devices as
the process has cores. `mj_inverse` gets the same states (coordinates, velocities, accelerations) and one thread per
core; it releases the interpreter's lock, so the threads run side by side, but each call pays for copying its state from
Python. It does less (no contact forces that make sense on recorded motion, no gradient) and more (mass matrix, energy).
Each figure is the least of repeats taken in turn. Compile times are without a cache. Two to four minutes.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import resource
import sys
import time

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={CORES}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import mujoco  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402

from experiments.report import bench_row, write_bench  # noqa: E402
from jaxphys.body import Motion, contact_forces, humanoid, inverse_dynamics, mjcf  # noqa: E402
from jaxphys.body.filter import lowpass  # noqa: E402
from jaxphys.body.inverse import GRAVITY, to_mujoco, to_state  # noqa: E402
from jaxphys.methods.phymotion import reward  # noqa: E402
from jaxphys.sharding import make_mesh  # noqa: E402

PEERS = ("mujoco",)
CLIPS, FRAMES, FPS, REPEATS = 64, 81, 30.0, 7


def make_clips(seed: int = 0) -> Motion:
    """Bodies that stand and sway: sines of up to 1.5 Hz in every joint."""
    rng = np.random.default_rng(seed)
    t = np.arange(FRAMES) / FPS
    frequency = rng.uniform(0.3, 1.5, (3, CLIPS, 1, 24, 3))
    phase = rng.uniform(0, 2 * np.pi, frequency.shape)
    waves = np.sin(2 * np.pi * frequency * t[:, None, None] + phase)
    w = np.sum(rng.normal(0, 0.1, frequency.shape) * waves, 0)
    w[..., 0, :] *= 0.3
    w[..., 0, 0] += np.pi / 2
    x = np.zeros((CLIPS, FRAMES, 3))
    x[..., 2] = 1.75 * 0.578
    return Motion(jnp.asarray(w, jnp.float32), jnp.asarray(x, jnp.float32))


def dynamics(motion: Motion):
    return inverse_dynamics(humanoid(), motion, FPS)


def mjx_dynamics(motion: Motion):
    with jax.ensure_compile_time_eval():  # its model is written as text: the skeleton must be known
        body = humanoid()
    return inverse_dynamics(body, motion, FPS, engine="mjx")


def physics_loss(motion: Motion) -> jax.Array:
    """Sum of squares of joint torques and of the unexplained force, in multiples of mass and weight."""
    body = humanoid()
    contact = contact_forces(body, inverse_dynamics(body, motion, FPS), 0.0, FPS)
    mass = body.total_mass
    return jnp.sum((contact.torque / mass) ** 2) + jnp.sum((contact.residual_force / (mass * GRAVITY)) ** 2)


def reward_loss(motion: Motion) -> jax.Array:
    return reward(motion, FPS, ground=0.0).total


class Peer:
    """C mj_inverse on a pool of threads, each with its own data and its own share of the states."""

    def __init__(self, clips: Motion):
        body = humanoid()

        @jax.jit
        @jax.vmap
        def coordinates(motion):
            return to_mujoco(body, to_state(*lowpass(motion.matrices(), motion.translation, FPS, 6.0), FPS))

        states = (np.asarray(x, np.float64).reshape(CLIPS * FRAMES, -1) for x in coordinates(clips))
        self.shares = list(zip(*(np.array_split(x, CORES) for x in states)))
        self.model = mujoco.MjModel.from_xml_string(mjcf(body))
        self.data = [mujoco.MjData(self.model) for _ in self.shares]
        self.pool = concurrent.futures.ThreadPoolExecutor(CORES)

    def _share(self, k: int) -> None:
        model, data = self.model, self.data[k]
        for qpos, qvel, qacc in zip(*self.shares[k]):
            data.qpos[:], data.qvel[:], data.qacc[:] = qpos, qvel, qacc
            mujoco.mj_inverse(model, data)

    def __call__(self) -> None:
        list(self.pool.map(self._share, range(len(self.shares))))

    def one_thread(self) -> None:
        for k in range(len(self.shares)):
            self._share(k)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="experiments/results/bench_body.json")
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)

    clips = make_clips()
    split = NamedSharding(make_mesh(), PartitionSpec("data"))
    spread = jax.device_put(clips, split)
    by_device = jax.tree.map(lambda a: a.reshape(CORES, CLIPS // CORES, *a.shape[1:]), clips)
    physics, score = (jax.vmap(jax.value_and_grad(f)) for f in (physics_loss, reward_loss))
    programs = {
        "dynamics": (jax.jit(jax.vmap(dynamics), in_shardings=split, out_shardings=split), spread),
        "dynamics_mjx": (jax.jit(jax.vmap(mjx_dynamics), in_shardings=split, out_shardings=split), spread),
        "physics": (jax.jit(physics, in_shardings=split, out_shardings=split), spread),
        "physics_one_device": (jax.jit(physics), clips),
        "physics_pmap": (jax.pmap(physics), by_device),
        "reward": (jax.jit(score, in_shardings=split, out_shardings=split), spread),
    }
    runs, figures, results = {}, {}, {}
    for name, (program, inputs) in programs.items():
        start = time.perf_counter()
        compiled = program.lower(inputs).compile()
        figures[f"{name}_compile_s"] = time.perf_counter() - start
        memory = compiled.memory_analysis()
        figures[f"{name}_temporary_mb"] = memory.temp_size_in_bytes / 1e6 if memory else float("nan")
        runs[name] = lambda compiled=compiled, inputs=inputs: jax.block_until_ready(compiled(inputs))
        results[name] = runs[name]()
    for name in ("physics_one_device", "physics_pmap"):  # however they are spread, the clips have the same gradients
        for a, b in zip(jax.tree.leaves(results["physics"][1]), jax.tree.leaves(results[name][1])):
            a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
            figures[f"{name}_difference"] = float(np.linalg.norm(a - b) / np.linalg.norm(a))
    peer = Peer(clips)
    runs |= {"mj_inverse": peer, "mj_inverse_one_thread": peer.one_thread}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(REPEATS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], (time.perf_counter() - start) / (CLIPS * FRAMES) * 1e6)
    figures |= {f"{name}_us_per_frame": value for name, value in best.items()}
    figures |= dict(
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        cores=CORES,
        load_average=os.getloadavg()[0],
        version_mujoco=mujoco.__version__,
    )

    unit, size = "us/frame", f"{CLIPS} clips x {FRAMES} frames"
    c = f"mujoco {mujoco.__version__} mj_inverse, {CORES} threads"
    rows = [
        bench_row(f"inverse dynamics, {size}", unit, best["dynamics"], best["mj_inverse"], peer_name=c),
        bench_row(
            f"inverse dynamics, {size}, the default engine",
            unit,
            best["dynamics"],
            best["dynamics_mjx"],
            peer_name="mjx engine",
            bar=("<=", 1),
        ),
        bench_row(f"dynamics, contact forces and gradient, {size}", unit, best["physics"], bar=("<=", 45)),
        bench_row(
            f"dynamics, contact forces and gradient, {size}, against dynamics alone",
            unit,
            best["physics"],
            best["mj_inverse"],
            peer_name=c,
        ),
        bench_row(f"whole reward and gradient, {size}", unit, best["reward"], bar=("<=", 90)),
        bench_row(f"compile dynamics, contact forces and gradient, {size}", "s", figures["physics_compile_s"]),
        bench_row(f"compile whole reward and gradient, {size}", "s", figures["reward_compile_s"]),
        bench_row(f"peak memory of the process with all of these, {size}", "MB", figures["peak_memory_mb"]),
    ]
    write_bench(options.out, rows, **figures)
    for row in rows:
        print(
            f"{row['what']}: {row['ours']:.1f} {row['unit']}", *([] if row["met"] is None else [row["bar"], row["met"]])
        )
    for name, value in figures.items():
        print(f"  {name} {value:.4g}" if isinstance(value, float) else f"  {name} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
