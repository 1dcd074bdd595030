"""Renderer against the torch reference of gsplat 1.5, on one CPU core, in one run.

    taskset -c 0 .venv-bench/bin/python -m experiments.bench.splats --out experiments/results/bench_splats.json

Two worker processes, each pinned to the same core with one thread, are asked in turn for one forward pass and for one
forward and backward pass (loss = sum of squared pixels; gradients of means, covariances, opacities and colours); the
figure is the least of the repeats. Both draw the same Gaussians from the same camera, and the pictures and gradients
are compared.

gsplat's torch reference cannot run without CUDA as it stands: listing which Gaussian meets which pixel is a CUDA
kernel, and the blending calls nerfacc, which is CUDA only. Both are replaced here by vectorised torch. The time of the
listing is reported and NOT counted against gsplat, although our own time contains our listing; the stand-in for nerfacc
is counted, and its forward time is reported too.

On a GPU or TPU only our renderer is measured: the torch reference on a CPU would be no comparison. About four minutes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import types

import numpy as np

from experiments.report import bench_row, write_bench

CASES = ((5_000, 128), (5_000, 512), (50_000, 512))
REPEATS = 5
MET = {None: "-", True: "yes", False: "NO"}
FOV_DEGREES, DISTANCE, ANGLE = 50.0, 3.2, 0.4
PEER_TILE = 16


def make_scene(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An object of unit size: 70 % of the Gaussians on a bumpy surface, the others inside; sizes near the spacing."""
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(n, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    on_surface = int(0.7 * n)
    radius = np.where(np.arange(n) < on_surface, 1.0, rng.uniform(0, 1, n) ** (1 / 3))
    mean = d * (radius * (1 + 0.15 * np.sin(4 * d[:, 0]) * np.cos(5 * d[:, 1])))[:, None]
    scale = math.sqrt(4 * math.pi / on_surface) * np.exp(rng.normal(-0.2, 0.35, (n, 3)))
    axes, _ = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    scene = dict(
        mean=mean,
        cov=(axes * (scale**2)[:, None]) @ axes.transpose(0, 2, 1),
        opacity=1 / (1 + np.exp(-rng.normal(1.5, 1.5, n))),
        color=np.clip(0.5 + 0.5 * np.sin(3 * mean + np.array([0, 1, 2])), 0, 1),
    )
    return {name: value.astype(np.float32) for name, value in scene.items()}


def camera_matrices(size: int) -> tuple[np.ndarray, np.ndarray, float]:
    """World-to-camera rotation and translation, and the focal length [pixel]."""
    c, s = math.cos(ANGLE), math.sin(ANGLE)
    R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    return R, np.array([0, 0, DISTANCE], np.float32), 0.5 * size / math.tan(math.radians(FOV_DEGREES) / 2)


class Ours:
    """jaxphys.splats, with a white background."""

    def __init__(self):
        import jax

        self.versions = {}
        self.backend = jax.default_backend()

    def prepare(self, n: int, size: int) -> dict:
        import jax
        import jax.numpy as jnp

        from jaxphys import splats
        from jaxphys.camera import Camera

        s = make_scene(n)
        self.scene = splats.Kernels(
            *(jnp.asarray(s[k]) for k in ("mean", "cov", "opacity")), splats.rgb_to_sh(jnp.asarray(s["color"]))
        )
        R, t, focal = camera_matrices(size)
        camera = Camera.from_pose(-R.T @ t, R.T, fx=focal, fy=focal, width=size, height=size)
        capacity = splats.plan_capacity(self.scene, camera, margin=1.0)

        def picture(scene):
            return splats.render(scene, camera, capacity=capacity)

        def loss(scene):
            rendering = picture(scene)
            return jnp.sum(rendering.image**2), rendering.image

        info = {}
        self.run = {}
        for name, f in (("forward", lambda s: picture(s).image), ("both", jax.value_and_grad(loss, has_aux=True))):
            start = time.perf_counter()
            compiled = jax.jit(f).lower(self.scene).compile()
            info[f"{name}_compile_s"] = time.perf_counter() - start
            memory = compiled.memory_analysis()
            info[f"{name}_temp_mb"] = memory.temp_size_in_bytes / 1e6 if memory else float("nan")
            self.run[name] = compiled
        info["pairs"] = int(picture(self.scene).info.n_needed)
        return info

    def measure(self, name: str) -> dict:
        import jax

        start = time.perf_counter()
        jax.block_until_ready(self.run[name](self.scene))
        return {"s": time.perf_counter() - start}

    def result(self, path: str) -> None:
        (_, image), g = self.run["both"](self.scene)
        np.savez(path, image=image, mean=g.mean, cov=g.cov, opacity=g.opacity)


class Gsplat:
    """gsplat.cuda._torch_impl, imported; the parts that exist in CUDA only are replaced by the functions below."""

    def __init__(self):
        import torch

        torch.set_num_threads(1)
        stand_in = types.ModuleType("nerfacc")
        stand_in.render_weight_from_alpha = self._weights
        stand_in.accumulate_along_rays = self._accumulate
        sys.modules["nerfacc"] = stand_in
        from gsplat.cuda import _torch_impl

        self.impl = _torch_impl
        self.versions = {"torch": torch.__version__, "gsplat": importlib.metadata.version("gsplat")}
        self.stand_in_s = 0.0

    def _weights(self, alphas, ray_indices, n_rays):
        """alpha_i prod_{j<i} (1 - alpha_j) along each ray; pairs are sorted by ray. One sum runs over all: float64."""
        import torch

        start = time.perf_counter()
        logs = torch.log1p(-alphas.double())
        before = torch.cumsum(logs, 0) - logs
        first = torch.ones_like(ray_indices, dtype=torch.bool)
        first[1:] = ray_indices[1:] != ray_indices[:-1]
        base = torch.zeros(n_rays, dtype=torch.double).index_put((ray_indices[first],), before[first])
        transmittance = torch.exp(before - base[ray_indices]).to(alphas.dtype)
        self.stand_in_s += time.perf_counter() - start
        return alphas * transmittance, transmittance

    def _accumulate(self, weights, values, ray_indices, n_rays):
        import torch

        start = time.perf_counter()
        source = weights[:, None] if values is None else weights[:, None] * values
        total = torch.zeros(n_rays, source.shape[1], dtype=source.dtype).index_add(0, ray_indices, source)
        self.stand_in_s += time.perf_counter() - start
        return total

    def prepare(self, n: int, size: int) -> dict:
        import torch

        s = make_scene(n)
        self.leaves = [torch.tensor(s[k], requires_grad=True) for k in ("mean", "cov", "opacity", "color")]
        R, t, focal = camera_matrices(size)
        self.view, self.size = torch.eye(4), size
        self.view[:3, :3], self.view[:3, 3] = torch.tensor(R), torch.tensor(t)
        self.K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
        return {}

    def _pairs(self, mean, conic, radii, depth, opacity):
        """Every (Gaussian, pixel) that blending uses, by pixel and depth: what gsplat does in CUDA."""
        import torch

        across = -(-self.size // PEER_TILE)
        lo = torch.floor((mean - radii) / PEER_TILE).int().clamp(0, across)
        hi = torch.ceil((mean + radii) / PEER_TILE).int().clamp(0, across)
        count = (hi - lo).prod(-1) * (radii > 0).all(-1)
        order = torch.argsort(depth)
        lo, hi, count = lo[order], hi[order], count[order]
        owner = torch.repeat_interleave(torch.arange(len(count)), count)
        k = torch.arange(len(owner)) - (torch.cumsum(count, 0) - count)[owner]
        columns = (hi - lo)[owner, 0]
        tile, by_tile = torch.sort((lo[owner, 1] + k // columns) * across + lo[owner, 0] + k % columns, stable=True)
        ids, starts = order[owner[by_tile]], torch.searchsorted(tile, torch.arange(across * across + 1)).tolist()
        y, x = (a.flatten() for a in torch.meshgrid(torch.arange(PEER_TILE), torch.arange(PEER_TILE), indexing="ij"))
        gaussians, pixels = [], []
        for t, (a, b) in enumerate(itertools.pairwise(starts)):
            if a == b:
                continue
            g, px, py = ids[a:b], t % across * PEER_TILE + x, t // across * PEER_TILE + y
            dx, dy, c = px + 0.5 - mean[g, 0:1], py + 0.5 - mean[g, 1:2], conic[g]
            sigma = 0.5 * (c[:, 0:1] * dx * dx + c[:, 2:3] * dy * dy) + c[:, 1:2] * dx * dy
            alpha = torch.clamp_max(opacity[g, None] * torch.exp(-sigma), 0.999)
            alpha = torch.where((sigma >= 0) & (alpha >= 1 / 255), alpha, 0.0)
            used = (alpha > 0) & (torch.cumprod(1 - alpha, 0) > 1e-4)
            pixel, which = torch.nonzero(used.T.contiguous(), as_tuple=True)
            gaussians.append(g[which])
            pixels.append((py * self.size + px)[pixel])
        pixel, by_pixel = torch.sort(torch.cat(pixels), stable=True)
        return torch.cat(gaussians)[by_pixel], pixel

    def measure(self, name: str) -> dict:
        import torch

        mean, cov, opacity, color = self.leaves
        for leaf in self.leaves:
            leaf.grad = None
        size, self.stand_in_s = self.size, 0.0
        start = time.perf_counter()
        radii, mean2d, depth, conic, _ = self.impl._fully_fused_projection(
            mean, cov, self.view[None], self.K[None], size, size
        )
        spent = time.perf_counter() - start
        start = time.perf_counter()
        with torch.no_grad():
            gaussian, pixel = self._pairs(mean2d[0], conic[0], radii[0], depth[0], opacity)
        listing = time.perf_counter() - start
        start = time.perf_counter()
        color, alpha = self.impl.accumulate(
            mean2d, conic, opacity[None], color[None], gaussian, pixel, torch.zeros_like(pixel), size, size
        )
        self.image = color + (1 - alpha)
        if name == "both":
            (self.image**2).sum().backward()
        return {"s": spent + time.perf_counter() - start, "listing_s": listing, "stand_in_s": self.stand_in_s}

    def result(self, path: str) -> None:
        self.measure("both")
        mean, cov, opacity, _ = (leaf.grad.numpy() for leaf in self.leaves)
        np.savez(path, image=self.image[0].detach().numpy(), mean=mean, cov=cov, opacity=opacity)


def serve(kind: str) -> None:
    """A worker: one JSON request per line in, one JSON answer per line out."""
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not mix with the answers
    side = {"ours": Ours, "gsplat": Gsplat}[kind]()
    print(json.dumps({k: getattr(side, k, None) for k in ("versions", "backend")}), file=out, flush=True)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(getattr(side, method)(*arguments)), file=out, flush=True)


class Worker:
    """A pinned process that answers one request at a time."""

    def __init__(self, kind: str, core: int | None):
        environment = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        if core is not None:
            flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
            environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {flags}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.bench.splats", "--worker", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        self.about = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a worker ended without an answer; its message is above")
        return json.loads(line)

    def __call__(self, method: str, *arguments):
        self.process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(ours: str, gsplat: str) -> dict[str, float]:
    """How far the two results are apart. Single pixels may differ where alpha or transmittance is at a threshold."""
    a, b = np.load(ours), np.load(gsplat)
    difference = np.abs(a["image"] - b["image"])
    report = {"image_p999": float(np.quantile(difference, 0.999)), "image_max": float(difference.max())}
    for name in ("mean", "cov", "opacity"):
        report[f"gradient_{name}"] = float(np.linalg.norm(a[name] - b[name]) / np.linalg.norm(b[name]))
    if report["image_p999"] > 1e-5 or max(v for k, v in report.items() if k.startswith("gradient")) > 1e-2:
        raise RuntimeError(f"the two renderers do not draw the same picture: {report}")
    return report


def measure(sides: dict[str, Worker], n: int, size: int) -> tuple[dict, dict[str, dict]]:
    """One scene: what preparing it took, and the least time of each side and pass, taken in turn."""
    prepared = {f"{name}_{k}": v for name, side in sides.items() for k, v in side("prepare", n, size).items()}
    best: dict[str, dict] = {}
    for mode in ("forward", "both"):
        for name, side in [*sides.items()] * REPEATS:
            answer, key = side("measure", mode), f"{name}_{mode}"
            if key not in best or answer["s"] < best[key]["s"]:
                best[key] = answer
    return prepared, best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="experiments/results/bench_splats.json")
    parser.add_argument("--worker", choices=("ours", "gsplat"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker)
        return 0

    missing = [name for name in ("torch", "gsplat") if importlib.util.find_spec(name) is None]
    core = min(os.sched_getaffinity(0))
    sides = {"ours": Worker("ours", core)}
    on_cpu = sides["ours"].about["backend"] == "cpu"
    if not on_cpu:
        # the host thread that feeds an accelerator must not be squeezed onto one core
        sides["ours"].close()
        sides["ours"] = Worker("ours", None)
    elif not missing:
        sides["gsplat"] = Worker("gsplat", core)
    peer_name = "gsplat 1.5 torch reference" if on_cpu else ""

    rows, figures = [], {}
    for side in sides.values():
        figures |= {f"version_{k}": v for k, v in side.about["versions"].items()}
    with tempfile.TemporaryDirectory() as folder:
        for n, size in CASES:
            prepared, best = measure(sides, n, size)
            key, label = f"splats_{n // 1000}k_{size}", f"render {n // 1000}k Gaussians, {size}x{size}"
            figures |= {f"{key}_{k}": v for k, v in prepared.items()}
            for mode, words in (("forward", "forward"), ("both", "forward + backward")):
                ours, peer = best[f"ours_{mode}"]["s"], best.get(f"gsplat_{mode}", {}).get("s")
                bar = ("<=", 0.2) if (n, size, mode) == (50_000, 512, "both") and on_cpu else None
                peer_ms = None if peer is None else 1e3 * peer
                rows.append(bench_row(f"{label}, {words}", "ms", 1e3 * ours, peer_ms, peer_name=peer_name, bar=bar))
                for part in ("listing_s", "stand_in_s") if peer else ():
                    figures[f"{key}_gsplat_{mode}_{part.removesuffix('_s')}_ms"] = 1e3 * best[f"gsplat_{mode}"][part]
            if "gsplat" in sides:
                for name, side in sides.items():
                    side("result", f"{folder}/{name}.npz")
                differences = compare(f"{folder}/ours.npz", f"{folder}/gsplat.npz")
                figures |= {f"{key}_difference_{what}": value for what, value in differences.items()}
    for side in sides.values():
        side.close()
    write_bench(options.out, rows, **figures)

    print(f"{'':>44} {'ours':>10} {'gsplat':>10} {'gsplat/ours':>12} {'bar met':>8}")
    for row in rows:
        peer, ratio = ("-", "-") if row["peer"] is None else (f"{row['peer']:.1f}", f"{1 / row['ratio']:.1f}")
        print(f"{row['what']:>44} {row['ours']:>7.1f} ms {peer:>7} ms {ratio:>12} {MET[row['met']]:>8}")
    for name, value in figures.items():
        print(f"{name:>44} {value:.4g}" if isinstance(value, float) else f"{name:>44} {value}")
    if not on_cpu:
        print("gsplat: not measured, its torch reference on a CPU is no comparison for this device")
    elif missing:
        print(f"gsplat: NOT MEASURED, missing packages: {', '.join(missing)}; install the extra 'bench'")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
