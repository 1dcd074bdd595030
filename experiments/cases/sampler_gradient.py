"""The gradient of a reward through every step of a sampler: exact, and one clip of memory per evaluation.

A tiny Wan transformer with guidance, float64: the gradient with respect to parameters, text, negative text, noise and
guidance weight along a random direction, against central differences at the best of several steps. Then, in float32 at
256 tokens, width 96 and four layers, XLA's temporary memory of the compiled gradient at 10 and 40 steps, per mode, and
what the same chain would hold without recomputation. About three minutes on one core.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.diffusion.dit import WanConfig
from jaxphys.diffusion.protocol import Condition
from jaxphys.diffusion.sample import sample
from jaxphys.diffusion.schedules import Schedule

TINY = WanConfig(
    dim=12, ffn_dim=16, heads=2, layers=2, in_channels=2, out_channels=2, text_dim=4, freq_dim=8, param_dtype="float64"
)
MODEL = WanConfig(dim=96, ffn_dim=384, heads=4, layers=4, in_channels=8, out_channels=8, text_dim=16, freq_dim=64)
SHAPE = (4, 16, 16, 8)


def reward(clip):
    weight = jnp.cos(jnp.arange(clip.size, dtype=clip.dtype)).reshape(clip.shape)
    return jnp.mean(jnp.tanh(clip) ** 2 * weight)


def exactness(solver: str, steps: int) -> float:
    """The least relative error over the swept difference steps; needs float64."""
    schedule = Schedule.create(steps, solver, shift=3.0)
    keys = jax.random.split(jax.random.key(0), 4)
    point = dict(
        params=jax.tree.map(lambda a: a.astype(jnp.float64), TINY.init(keys[0])),
        noise=jax.random.normal(keys[1], (2, 4, 4, 2)),
        text=jax.random.normal(keys[2], (3, 4)),
        negative=jax.random.normal(keys[3], (3, 4)),
        weight=jnp.array(1.7),
    )

    def value(p):
        cond = Condition(text=p["text"])
        return reward(
            sample(p["params"], p["noise"], cond, TINY, schedule, negative=p["negative"], guidance=p["weight"])
        )

    leaves, tree = jax.tree.flatten(point)
    random = [jax.random.normal(jax.random.key(9 + i), a.shape) for i, a in enumerate(leaves)]
    direction = jax.tree.unflatten(tree, [r * (jnp.std(a) + 0.1) for r, a in zip(random, leaves)])
    run, gradient = jax.jit(value), jax.jit(jax.grad(value))(point)
    exact = float(sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction))))
    move = lambda h: float(run(jax.tree.map(lambda p, d: p + h * d, point, direction)))
    return min(abs((move(h) - move(-h)) / (2 * h) / exact - 1.0) for h in (1e-3, 1e-4, 1e-5, 1e-6))


def memory(steps: int, grad: str = "full", solver: str = "euler", remat: str = "full") -> tuple[int, int]:
    """(evaluations, bytes of temporary memory of the compiled gradient with respect to parameters and noise)."""
    model, schedule = dataclasses.replace(MODEL, remat=remat), Schedule.create(steps, solver)

    def value(params, noise, text):
        options = dict(negative=text[1], guidance=2.0, grad=grad, last=min(4, steps))
        return reward(sample(params, noise, Condition(text=text[0]), model, schedule, **options))

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    arrays = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (SHAPE, (2, 8, 16))]
    compiled = jax.jit(jax.grad(value, argnums=(0, 1))).lower(shapes, *arrays).compile()
    return schedule.evaluations, compiled.memory_analysis().temp_size_in_bytes


def growth(few: int, many: int, **options) -> float:
    """Clips of memory per further evaluation."""
    (a, small), (b, large) = memory(few, **options), memory(many, **options)
    return (large - small) / (b - a) / (4 * float(np.prod(SHAPE)))


def kept_without_recomputation() -> int:
    """Bytes that one evaluation with its condition and its negative keeps where nothing is computed again."""
    model = dataclasses.replace(MODEL, remat="none")

    def value(params, noise, text):
        run = lambda c: model.velocity(params, noise, jnp.float32(0.5), Condition(text=c))
        return jnp.sum(jax.vmap(run)(text) ** 2)

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    arrays = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (SHAPE, (2, 8, 16))]
    return jax.jit(jax.grad(value)).lower(shapes, *arrays).compile().memory_analysis().temp_size_in_bytes


def run() -> dict:
    figures: dict[str, float] = {}
    with jax.enable_x64(True):
        for solver in ("euler", "heun", "unipc"):
            figures[f"{solver}_relative_error"] = exactness(solver, 8)
    for solver in ("euler", "heun", "unipc"):
        figures[f"{solver}_clips_per_evaluation"] = growth(10, 40, solver=solver)
    megabytes = lambda grad: memory(40, grad)[1] / 1e6
    for grad in ("full", "last_k", "detach_input"):
        figures[f"euler_40_steps_{grad}_MB"] = megabytes(grad)
    figures["one_step_MB"] = memory(1)[1] / 1e6
    figures["euler_40_steps_without_recomputation_about_MB"] = 40 * kept_without_recomputation() / 1e6
    return figures | {
        "worst_relative_error": max(v for k, v in figures.items() if k.endswith("relative_error")),
        "most_clips_per_evaluation": max(v for k, v in figures.items() if k.endswith("clips_per_evaluation")),
    }


CHECKS = {"worst_relative_error": ("<=", 1e-6), "most_clips_per_evaluation": ("<=", 1.02)}
