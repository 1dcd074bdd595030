"""The benchmark's scene in Taichi on all cores, forward."""

# mypy: ignore-errors
import os

import numpy as np
import taichi as ti

from experiments.bench.taichi_transfer import gather, neo_hookean, scatter


class TaichiEngine:
    """The scene behind the interface of a worker."""

    def __init__(self, law, x, v, dt, cells, steps, material):
        ti.init(arch=ti.cpu, default_fp=ti.f32, cpu_max_num_threads=len(os.sched_getaffinity(0)), log_level=ti.ERROR)
        E, nu, density = material
        n, dx, inv = len(x), 1.0 / cells, float(cells)
        mu, lam = E / (2 * (1 + nu)), E * nu / ((1 + nu) * (1 - 2 * nu))
        volume = dx**3 / 8
        mass = density * volume
        corotated = law == "fc"
        X, V = ti.Vector.field(3, ti.f32, n), ti.Vector.field(3, ti.f32, n)
        C, F = ti.Matrix.field(3, 3, ti.f32, n), ti.Matrix.field(3, 3, ti.f32, n)
        g, m = ti.Vector.field(3, ti.f32, (cells,) * 3), ti.field(ti.f32, (cells,) * 3)

        @ti.kernel
        def clear():
            for I in ti.grouped(m):
                m[I] = 0.0
                g[I] = ti.Vector.zero(ti.f32, 3)

        @ti.kernel
        def particles_to_grid():
            for p in X:
                G = (ti.Matrix.identity(ti.f32, 3) + dt * C[p]) @ F[p]
                F[p] = G
                tau = ti.Matrix.zero(ti.f32, 3, 3)
                if ti.static(corotated):
                    J = G.determinant()
                    U, s, W = ti.svd(G)
                    tau = 2 * mu * (G - U @ W.transpose()) @ G.transpose()
                    tau += ti.Matrix.identity(ti.f32, 3) * (lam * J * (J - 1))
                else:
                    tau = neo_hookean(G, mu, lam)
                scatter(g, m, X[p], V[p], (-dt * volume * 4 * inv * inv) * tau + mass * C[p], mass, inv)

        @ti.kernel
        def update_grid():
            for I in ti.grouped(m):
                if m[I] > 0:
                    g[I] = g[I] / m[I]
                    g[I][1] -= dt * 9.8
                    for d in ti.static(range(3)):
                        if I[d] <= 3 and g[I][d] < 0:
                            g[I][d] = 0
                        if I[d] >= cells - 4 and g[I][d] > 0:
                            g[I][d] = 0

        @ti.kernel
        def grid_to_particles():
            for p in X:
                V[p], C[p] = gather(g, X[p], inv)
                X[p] += dt * V[p]

        self.kernels = (clear, particles_to_grid, update_grid, grid_to_particles)
        self.fields, self.start, self.steps, self.n = (X, V, C, F), (x, v), steps, n

    def forward(self):
        X, V, C, F = self.fields
        X.from_numpy(self.start[0])
        V.from_numpy(self.start[1])
        C.fill(0)
        F.from_numpy(np.tile(np.eye(3, dtype=np.float32), (self.n, 1, 1)))
        for _ in range(self.steps):
            for kernel in self.kernels:
                kernel()
        ti.sync()
        return X.to_numpy().mean(0).tolist()
