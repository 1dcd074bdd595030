"""Simulator against Warp on its CPU and Taichi on all cores: wall time of the same scene in one run.

    .venv-bench/bin/python -m experiments.bench.mpm --out experiments/results/bench_mpm.json

A cube of random particles (8 per cell, quadratic B-splines, APIC, one explicit step after another) in free flight.
Every engine is a worker process that is asked for one timed repeat in turn, so a busy machine disturbs all alike; the
figure is the least of the repeats. All have the same huge pages. The mean position (forward) and the gradient (Warp's
tape) are compared, so all do the same work. On a GPU only ours is measured, with the nanoseconds of one float32
scatter-add, whose regression in CUDA jaxlib 0.10.2 to 0.11.0 ends the run. About eight minutes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

from experiments.report import bench_row, write_bench

PEERS = ("warp", "taichi")
E, NU, DENSITY = 1000.0, 0.2, 1.0
FORWARD = ((100_000, 64, 10), (500_000, 128, 4))
GRADIENT = (20_000, 64, 100)
REPEATS = 6
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def scene(n: int, cells: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions and velocities in the unit cube, and the step [s]."""
    rng = np.random.default_rng(0)
    side = (n / 8) ** (1 / 3) / cells
    x = rng.random((n, 3)) * side + 0.45 - side / 2
    return x.astype(np.float32), (rng.standard_normal((n, 3)) * 0.1).astype(np.float32), 1e-4 * 64 / cells


class Ours:
    """Our simulator behind the interface of a worker."""

    def __init__(self, law: str, n: int, cells: int, steps: int):
        import jax
        import jax.numpy as jnp

        from jaxphys import mpm

        x, v, dt = scene(n, cells)
        dx = 1 / cells
        make = {"nh": mpm.materials.NeoHookean, "fc": mpm.materials.FixedCorotated}[law]
        grid = mpm.Grid((3 * dx,) * 3, ((cells - 4) * dx,) * 3, dx)
        setting = mpm.Scene((0.0, -9.8, 0.0), (mpm.Walls(grid.lo, grid.hi),))
        config = mpm.Config(grid, fps=1 / (dt * steps), frames=1, substeps=steps)
        body = mpm.Particles.create(jnp.asarray(x), dx**3 / 8)
        self.v, self.log_E, self.jax = jnp.asarray(v), jnp.zeros(n), jax
        self.start = jnp.asarray(x)

        def end(log_E, v):
            rubber = make(density=DENSITY, E=E * jnp.exp(log_E), nu=NU)
            particles = mpm.Particles(body.x, v, body.volume, body.material, body.F, body.C)
            return mpm.simulate(rubber, particles, setting, config, save=("x",)).x[0]

        def loss(log_E, v):
            d = end(log_E, v) - self.start - jnp.array([0.01, 0.0, -0.01])
            return 100 * jnp.mean(jnp.sum(d * d, 1) * (1 + self.start[:, 0]))

        self.run = jax.jit(lambda v: end(0.0, v))
        self.grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))

    def forward(self):
        return np.asarray(self.run(self.v)).mean(0).tolist()

    def gradient(self):
        value, (dE, dv) = self.jax.block_until_ready(self.grad(self.log_E, self.v))
        return [float(value), float(dE.sum()), *np.asarray(dv).sum(0).tolist()]


def make_engine(name: str, law: str, n: int, cells: int, steps: int):
    if name == "ours":
        return Ours(law, n, cells, steps)
    if name == "warp":
        from experiments.bench.peer_warp import WarpEngine

        return WarpEngine(law, *scene(n, cells), cells, steps, (E, NU, DENSITY))
    from experiments.bench.peer_taichi import TaichiEngine

    return TaichiEngine(law, *scene(n, cells), cells, steps, (E, NU, DENSITY))


def work(name: str, task: str, law: str, n: int, cells: int, steps: int) -> None:
    """A worker: compiles, then answers every line on stdin with one timed repeat."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an engine prints goes to stderr
    run = getattr(make_engine(name, law, n, cells, steps), task)
    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    while True:
        print(json.dumps({"first": first}), file=answers, flush=True)
        if not sys.stdin.readline():
            return
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "result": result, "peak_MB": peak}), file=answers, flush=True)


def compare(engines: list[str], task: str, law: str, n: int, cells: int, steps: int) -> dict[str, dict]:
    """Least seconds of alternating repeats, the first call's seconds, peak memory and the result, by engine."""
    arguments = [task, law, str(n), str(cells), str(steps)]
    command = [sys.executable, "-m", "experiments.bench.mpm", "--worker"]
    # Without huge pages a gradient of ours takes 53,000 page faults, with them 500.
    options: dict = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | HUGE_PAGES)
    workers = {name: subprocess.Popen([*command, name, *arguments], **options) for name in engines}
    try:
        out = {name: json.loads(p.stdout.readline()) | {"seconds": np.inf} for name, p in workers.items()}
        for _ in range(REPEATS):
            for name, p in workers.items():
                p.stdin.write("go\n")
                p.stdin.flush()
                answer = json.loads(p.stdout.readline())
                p.stdout.readline()
                out[name] |= {"result": answer["result"], "peak_MB": answer["peak_MB"]}
                out[name]["seconds"] = min(out[name]["seconds"], answer["seconds"])
    finally:
        for p in workers.values():
            p.stdin.close()
            p.wait()
    for name in engines[1:]:
        np.testing.assert_allclose(out[name]["result"], out[engines[0]]["result"], rtol=2e-3, atol=1e-4)
    return out


def scatter_ns() -> float:
    """Nanoseconds of one float32 scatter-add into a small table; raises on the CUDA regression."""
    import jax
    import jax.numpy as jnp

    index = jnp.asarray(np.random.default_rng(0).integers(0, 4096, 4_000_000))

    def seconds(dtype):
        add = jax.jit(lambda a: jnp.zeros(4096, dtype).at[index].add(a))
        a = jnp.ones(index.shape, dtype)
        jax.block_until_ready(add(a))
        start = time.perf_counter()
        jax.block_until_ready(add(a))
        return time.perf_counter() - start

    real, whole = seconds(jnp.float32), seconds(jnp.int32)
    if real > 20 * whole:
        raise SystemExit(
            f"float32 scatter-add takes {real / whole:.0f} times an int32 one: this jaxlib has the CUDA "
            f"regression of 0.10.2 to "
            "0.11.0; install another version, or set XLA_FLAGS=-nvptx-allow-ftz-atomics"
        )
    return real / index.size * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="experiments/results/bench_mpm.json")
    parser.add_argument("--worker", nargs=6)
    given = parser.parse_args()
    if given.worker:
        name, task, law, *sizes = given.worker
        return work(name, task, law, *(int(s) for s in sizes))
    import jax

    gpu = jax.default_backend() != "cpu"
    peers = [] if gpu else [p for p in PEERS if importlib.util.find_spec(p)]
    version = {p: importlib.metadata.version({"warp": "warp-lang"}.get(p, p)) for p in peers}
    rows, values = [], {"load_average_before": os.getloadavg()[0], "float32_scatter_ns": scatter_ns()}
    bars = {("nh", 64, "warp"): 1.0, ("nh", 64, "taichi"): 1.0, ("fc", 64, "warp"): 0.6, ("fc", 64, "taichi"): 0.8}
    bars[("nh", 128, "taichi")] = 1.2
    for n, cells, steps in FORWARD:
        for law in ("nh", "fc"):
            got = compare(["ours", *peers], "forward", law, n, cells, steps)
            ns = {name: g["seconds"] / n / steps * 1e9 for name, g in got.items()}
            what = f"forward {law}, {n // 1000}k particles, {cells}^3"
            for peer in peers or [""]:
                bar = bars.get((law, cells, peer))
                bar = ("<=", 2.0) if gpu and law == "nh" else bar and ("<=", bar)
                label = f"{peer} {version[peer]}" if peer else ""
                rows.append(bench_row(what, "ns/particle-step", ns["ours"], ns.get(peer), peer_name=label, bar=bar))
            if cells == 64:
                compile_seconds = got["ours"]["first"] - got["ours"]["seconds"]
                rows.append(bench_row(f"compile {what}", "s", compile_seconds, bar=("<=", 3.0)))
            print(what, {k: round(v, 1) for k, v in ns.items()}, flush=True)
    n, cells, steps = GRADIENT
    for law in ("nh", "fc"):
        tape = [p for p in peers if p == "warp"]
        got = compare(["ours", *tape], "gradient", law, n, cells, steps)
        forward = compare(["ours"], "forward", law, n, cells, steps)["ours"]["seconds"]
        what = f"value and gradient {law}, {n // 1000}k particles, {cells}^3, {steps} steps"
        ns = {name: g["seconds"] / n / steps * 1e9 for name, g in got.items()}
        label = f"warp {version['warp']} tape" if tape else ""
        rows.append(
            bench_row(
                what, "ns/particle-step", ns["ours"], ns.get("warp"), peer_name=label, bar=("<=", 0.6) if tape else None
            )
        )
        peak = got["warp"]["peak_MB"] if tape else None
        rows.append(
            bench_row(
                f"peak memory of {what}",
                "MB",
                got["ours"]["peak_MB"],
                peak,
                peer_name=label,
                bar=("<=", 0.5) if tape else None,
            )
        )
        rows.append(bench_row(f"{what}, over forward", "1", got["ours"]["seconds"] / forward, bar=("<=", 5.0)))
        compile_seconds = got["ours"]["first"] - got["ours"]["seconds"]
        rows.append(bench_row(f"compile {what}", "s", compile_seconds, bar=("<=", 10.0)))
        print(what, {k: round(v, 1) for k, v in ns.items()}, flush=True)
    for row in rows:
        print(
            f"{row['what']:70s} {row['ours']:9.2f} {row['unit']:17s} {row['ratio'] or 0:6.2f} "
            f"{row['bar']:8s} {row['met']}"
        )
    write_bench(given.out, rows, **values)


if __name__ == "__main__":
    main()
