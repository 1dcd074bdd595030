"""Candidates of held-out elastic scenes simulated by Taichi, for the domain gap of `experiments/eval_motionphysics.py`.

    .venv-bench/bin/python -m experiments.bench.peer_clips --workdir runs/motionphysics_eval --scenes 12

Moving least squares MPM (Hu et al., 2018) written for this: APIC, quadratic B-splines, neo-Hookean, Coulomb friction on
the nodes on or under the ground and on or beyond the walls; the bodies, substeps and renderer are those of the clips.
Writes fields/NAME.taichi.npz and NAME.taichi.videos.npz, which the evaluation then reads as one more gap; scenes that
are there, and poked ones, are passed over. Derivatives of the videos are differences between candidates.
"""

# mypy: ignore-errors
import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import taichi as ti

from experiments.bench.taichi_transfer import gather, neo_hookean, scatter
from experiments.motion_fields import Field, Videos, coordinates, maps_from, store, turned
from experiments.motion_scenes import PEER, draw
from jaxphys.language.captions import OUTCOMES
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import measure

FRICTION, GRAVITY, PAD = 0.4, 9.81, 4


class Taichi:
    """One body over a ground within walls; sizes are those of a world."""

    def __init__(self, world):
        ti.init(arch=ti.cpu, default_fp=ti.f32, cpu_max_num_threads=1, log_level=ti.ERROR)
        n, dx, w = world.particles, world.dx, world.half_width
        inv = 1.0 / dx
        cells = round(2 * w * inv) + 2 * PAD, round(2 * w * inv) + 2 * PAD, round(2 * world.height * inv) + 2 * PAD
        last = cells[0] - 1 - PAD
        X, V = ti.Vector.field(3, ti.f32, n), ti.Vector.field(3, ti.f32, n)
        C, F = ti.Matrix.field(3, 3, ti.f32, n), ti.Matrix.field(3, 3, ti.f32, n)
        g, m = ti.Vector.field(3, ti.f32, cells), ti.field(ti.f32, cells)

        @ti.kernel
        def step(dt: float, mu: float, lam: float, volume: float, mass: float):
            for i in ti.grouped(m):
                m[i] = 0.0
                g[i] = ti.Vector.zero(ti.f32, 3)
            for p in X:
                G = (ti.Matrix.identity(ti.f32, 3) + dt * C[p]) @ F[p]
                F[p] = G
                A = (-dt * volume * 4 * inv * inv) * neo_hookean(G, mu, lam) + mass * C[p]
                scatter(g, m, X[p], V[p], A, mass, inv)
            for i in ti.grouped(m):
                if m[i] > 0:
                    v = g[i] / m[i]
                    v[2] -= dt * GRAVITY
                    for d in ti.static(range(3)):
                        into = 0.0
                        if i[d] <= PAD:
                            into = ti.max(-v[d], 0.0)
                        if d < 2 and i[d] >= last:
                            into = ti.max(v[d], 0.0)
                        if into > 0.0:
                            v[d] = 0.0
                            speed = v.norm()
                            v *= ti.max(0.0, 1.0 - FRICTION * into / ti.max(speed, 1e-9))
                    g[i] = v
            for p in X:
                V[p], C[p] = gather(g, X[p], inv)
                X[p] += dt * V[p]

        self.step, self.fields, self.world = step, (X, V, C, F), world
        self.origin = np.array([w + PAD * dx, w + PAD * dx, PAD * dx])

    def motion(self, scene, law, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (T, N, 3) and deformation gradients (T, N, 3, 3), the first frame included."""
        (X, V, C, F), world = self.fields, self.world
        E, nu, volume = float(law.E), float(law.nu), float(scene.volume)
        mu, lam = E / (2 * (1 + nu)), E * nu / ((1 + nu) * (1 - 2 * nu))
        X.from_numpy(np.float32(scene.x + self.origin))
        V.from_numpy(np.float32(scene.v))
        C.fill(0)
        F.from_numpy(np.tile(np.eye(3, dtype=np.float32), (len(scene.x), 1, 1)))
        x, deformed = [np.asarray(scene.x)], [F.to_numpy()]
        for _ in range(world.frames - 1):
            for _ in range(steps):
                self.step(1.0 / (world.fps * steps), mu, lam, volume, volume * float(law.density))
            x.append(np.float32(X.to_numpy() - self.origin))
            deformed.append(F.to_numpy())
        return np.stack(x), np.stack(deformed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/motionphysics_eval")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--candidates", type=int, default=17, help="as in the evaluation's config")
    options = parser.parse_args()
    folder, world = Path(options.workdir) / "fields", clips.World()
    folder.mkdir(parents=True, exist_ok=True)
    engine = Taichi(world)
    times = jnp.arange(world.frames) / world.fps

    @jax.jit
    def maps_of(scene, x, F):
        drawn = maps_from(turned(scene.view), scene, world, "neo_hookean", (x, F, times))
        return jnp.round(jnp.clip(drawn, 0.0, 1.0) * 255.0).astype(jnp.uint8), measure(x, world.fps)

    for number in range(options.scenes):
        held = draw(number, "training", "elastic", world)
        path = folder / f"{held.name}.{PEER}.npz"
        if held.action == "poked" or path.exists():
            continue
        grid, began = coordinates(held, options.candidates), time.monotonic()
        maps, outcomes, codes = [], [], []
        for u in [*grid, held.truth]:
            x, F = engine.motion(held.scene, held.law(u), held.substeps(world, np.array([u])))
            drawn, found = jax.device_get(maps_of(held.scene, jnp.asarray(x), jnp.asarray(F)))
            maps.append(drawn)
            outcomes.append([float(getattr(found, name)) for name in OUTCOMES])
            codes.append(0 if np.isfinite(x).all() else 9)
        spent = time.monotonic() - began
        slopes = np.gradient(np.stack(maps[:-1], 1).astype(np.float32) / 255.0, grid, axis=1).astype(np.float16)
        store(folder / f"{held.name}.{PEER}.videos.npz", Videos(np.stack(maps, 1), slopes, spent))
        store(path, Field(grid, np.asarray(outcomes), np.asarray(codes), spent))
        print(f"{path}: {spent:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
