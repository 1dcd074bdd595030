"""The transformer against diffusers on the same weights, in one run and one process.

    taskset -c 0 .venv-bench/bin/python -m experiments.bench.diffusion --out experiments/results/bench_diffusion.json

On a CPU: one core, one thread, float32, a small model; the figure is processor time, the least of the repeats taken in
turn, so that other programs on the machine hardly matter. On a GPU: bfloat16, four blocks of the 1.3B model at 480p and
81 frames (32,760 tokens), elapsed time. Our reverse mode keeps the products with weights (remat "dots"), that of torch
keeps everything. Both sides' outputs and gradients are compared first. About two minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import os
import sys
import time

PEERS = ("torch", "diffusers")
REPEATS = 7
SAMPLER_STEPS = (5, 20)
MET = {None: "-", True: "yes", False: "NO"}


def one_thread() -> None:
    """Before JAX or torch is imported."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # two libraries share a GPU


class Ours:
    """jaxphys.diffusion.dit."""

    def __init__(self, on_cpu: bool):
        import jax
        import jax.numpy as jnp
        import numpy as np

        from jaxphys.diffusion.dit import PRESETS, WanConfig
        from jaxphys.diffusion.protocol import Condition

        self.jax, self.on_cpu = jax, on_cpu
        if on_cpu:
            self.config = WanConfig(dim=256, ffn_dim=1024, heads=4, layers=8, text_dim=64, remat="dots")
            shape, tokens = (2, 5, 16, 16, 16), 32
        else:
            self.config = dataclasses.replace(PRESETS["wan2.1-t2v-1.3b"], layers=4, remat="dots")
            shape, tokens = (1, 21, 60, 104, 16), 512
        dtype = self.config.param_dtype
        self.params = jax.jit(self.config.init)(jax.random.key(0))
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=shape).astype(np.float32)
        self.text = rng.normal(size=(shape[0], tokens, self.config.text_dim)).astype(np.float32)
        self.t = np.linspace(0.9, 0.1, shape[0]).astype(np.float32)
        inputs = (jnp.asarray(self.x, dtype), jnp.asarray(self.t), jnp.asarray(self.text, dtype))

        def forward(params, x, t, text, config=self.config):
            return jax.vmap(lambda x, t, c: config.velocity(params, x, t, Condition(c)))(x, t, text)

        def loss(params, *inputs, config=self.config):
            return jnp.mean(forward(params, *inputs, config=config).astype(jnp.float32) ** 2)

        self.figures, self.run = {}, {}
        for name, f in (("forward", forward), ("both", jax.grad(loss))):
            start = time.perf_counter()
            compiled = jax.jit(f).lower(self.params, *inputs).compile()
            self.figures[f"{name}_compile_s"] = time.perf_counter() - start
            self.figures[f"{name}_temp_mb"] = compiled.memory_analysis().temp_size_in_bytes / 1e6
            self.run[name] = lambda compiled=compiled: compiled(self.params, *inputs)
        for remat in ("none", "full"):
            config = dataclasses.replace(self.config, remat=remat)
            grad = jax.grad(lambda *a, config=config: loss(*a, config=config))
            memory = jax.jit(grad).lower(self.params, *inputs).compile().memory_analysis()
            self.figures[f"both_remat_{remat}_temp_mb"] = memory.temp_size_in_bytes / 1e6

    def measure(self, name: str) -> float:
        clock = time.process_time if self.on_cpu else time.perf_counter
        start = clock()
        self.jax.block_until_ready(self.run[name]())
        return clock() - start

    def sampler_memory(self) -> dict[str, float]:
        """Bytes that the gradient of a reward through every step needs, and what one more step adds."""
        jax = self.jax
        import jax.numpy as jnp

        from jaxphys.diffusion.protocol import Condition
        from jaxphys.diffusion.sample import sample
        from jaxphys.diffusion.schedules import Schedule

        config = dataclasses.replace(self.config, remat="full")
        noise, cond = jnp.asarray(self.x[0]), Condition(jnp.asarray(self.text[0], config.param_dtype))

        def memory(steps):
            reward = lambda p: jnp.tanh(
                sample(p, noise, cond, config, Schedule.create(steps, "euler", shift=5.0))
            ).sum()
            compiled = jax.jit(jax.grad(reward)).lower(self.params).compile()
            return compiled.memory_analysis().temp_size_in_bytes

        few, many = (memory(n) for n in SAMPLER_STEPS)
        return {
            f"sampler_gradient_{SAMPLER_STEPS[1]}_steps_temp_mb": many / 1e6,
            "sampler_gradient_per_step_latents": (many - few) / (SAMPLER_STEPS[1] - SAMPLER_STEPS[0]) / noise.nbytes,
        }


class Diffusers:
    """WanTransformer3DModel, eager, with our weights."""

    def __init__(self, ours: Ours):
        import numpy as np
        import torch
        from diffusers import WanTransformer3DModel

        from jaxphys.diffusion import names
        from jaxphys.diffusion.dit import keymap

        torch.set_num_threads(1)
        self.torch, self.on_cpu, config = torch, ours.on_cpu, ours.config
        self.device, dtype = ("cpu", torch.float32) if self.on_cpu else ("cuda", torch.bfloat16)
        self.model = WanTransformer3DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.head_dim,
            ffn_dim=config.ffn_dim,
            num_layers=config.layers,
            text_dim=config.text_dim,
        )
        tensors = names.to_tensors(keymap(config, "diffusers"), ours.params)
        self.model.load_state_dict({n: torch.from_numpy(np.array(v, np.float32)) for n, v in tensors.items()})
        self.model = self.model.to(self.device, dtype)
        self.inputs = (
            torch.from_numpy(ours.x.transpose(0, 4, 1, 2, 3).copy()).to(self.device, dtype),
            torch.from_numpy(1000.0 * ours.t).to(self.device),
            torch.from_numpy(ours.text).to(self.device, dtype),
        )

    def forward(self):
        with self.torch.no_grad():
            return self.model(*self.inputs, return_dict=False)[0]

    def both(self):
        self.model.zero_grad()
        (self.model(*self.inputs, return_dict=False)[0].float() ** 2).mean().backward()

    def measure(self, name: str) -> float:
        clock = time.process_time if self.on_cpu else time.perf_counter
        wait = (lambda: None) if self.on_cpu else self.torch.cuda.synchronize
        wait()
        start = clock()
        getattr(self, name)()
        wait()
        return clock() - start

    def peak_mb(self, name: str) -> float:
        """On a GPU."""
        self.torch.cuda.reset_peak_memory_stats()
        held = self.torch.cuda.memory_allocated()
        self.measure(name)
        return (self.torch.cuda.max_memory_allocated() - held) / 1e6


def compare(ours: Ours, theirs: Diffusers) -> dict[str, float]:
    """How far the two sides' outputs and the gradients of their MLPs are apart."""
    import numpy as np

    a = np.asarray(ours.run["forward"](), np.float32).transpose(0, 4, 1, 2, 3)
    b = theirs.forward().float().cpu().numpy()
    theirs.both()
    g = np.asarray(ours.run["both"]()["blocks"]["ffn"]["first"]["kernel"], np.float32)
    h = np.stack([block.ffn.net[0].proj.weight.grad.float().cpu().numpy().T for block in theirs.model.blocks])
    found = {
        "difference_output": float(np.abs(a - b).max() / np.abs(b).max()),
        "difference_gradient": float(np.linalg.norm(g - h) / np.linalg.norm(h)),
    }
    if max(found.values()) > (1e-4 if ours.on_cpu else 0.05):
        raise RuntimeError(f"the two sides do not compute the same: {found}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="experiments/results/bench_diffusion.json")
    options = parser.parse_args()
    one_thread()
    import jax

    from experiments.report import bench_row, write_bench

    on_cpu = jax.default_backend() == "cpu"
    ours = Ours(on_cpu)
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if not missing and not on_cpu:
        import torch

        missing = [] if torch.cuda.is_available() else ["torch with CUDA"]
    sides = {"ours": ours} if missing else {"ours": ours, "peer": Diffusers(ours)}
    figures = {f"ours_{k}": v for k, v in (ours.figures | ours.sampler_memory()).items()}
    if not missing:
        figures |= compare(ours, sides["peer"]) | {f"version_{n}": importlib.metadata.version(n) for n in PEERS}
    rows = []
    size = "8 blocks of 256, 320 tokens, batch 2" if on_cpu else "4 blocks of 1536, 32,760 tokens"
    for name, words, bound in (("forward", "forward", 0.6), ("both", "forward + backward", 1.0)):
        best = dict.fromkeys(sides, float("inf"))
        for side in [*sides] * REPEATS:
            best[side] = min(best[side], sides[side].measure(name))
        if not missing and not on_cpu:
            figures[f"peer_{name}_peak_mb"] = sides["peer"].peak_mb(name)
        peer = None if missing else 1e3 * best["peer"]
        bar = ("<=", bound) if on_cpu else None
        rows.append(bench_row(f"{words}, {size}", "ms", 1e3 * best["ours"], peer, peer_name="diffusers eager", bar=bar))
    write_bench(options.out, rows, **figures)
    for row in rows:
        peer = "-" if row["peer"] is None else f"{row['peer']:.1f}, ratio {row['ratio']:.2f}"
        print(f"{row['what']:>60} {row['ours']:>9.2f} {row['unit']:2} peer {peer:>22} bar met {MET[row['met']]}")
    for name, value in figures.items():
        print(f"{name:>60} {value:.4g}" if isinstance(value, float) else f"{name:>60} {value}")
    if missing:
        print(f"diffusers: NOT MEASURED, missing packages: {', '.join(missing)}; install the extra 'parity'")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
