"""From noise to a clip, differentiably: d(clip) / d(parameters, conditions, noise) through every step.

The update of a step is linear with constant coefficients (`schedules.py`), so all that its reverse mode needs is the
input of the network: one clip per evaluation is stored, the network itself is computed once more in the backward pass,
and the gradient of a whole sampling run needs the memory of one training step plus one clip per evaluation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.checks import is_concrete
from jaxphys.diffusion.protocol import Condition, Denoiser, impose
from jaxphys.diffusion.schedules import Schedule
from jaxphys.pytree import pytree, static

GRADIENTS = ("full", "last_k", "detach_input", "none")


@pytree
class Experts:
    """Parameters of two denoisers of one architecture: `high` where t >= boundary, `low` below (Wan 2.2).

    Each step runs one of them. The boundary is 0.875 for text to video and 0.9 for image to video.
    """

    high: Any
    low: Any
    boundary: float = static(default=0.875)


def sample(
    params: Any,
    noise: jax.Array,
    cond: Condition,
    denoiser: Denoiser,
    schedule: Schedule,
    *,
    negative: Condition | jax.Array | None = None,
    guidance: Any = 1.0,
    grad: str = "full",
    last: int = 1,
    key: jax.Array | None = None,
) -> jax.Array:
    """Integrates dx/dt = v(x, t) from noise at t = 1 to a clip at t = 0.

    With classifier-free guidance (Ho and Salimans 2022) v = v_n + guidance (v_c - v_n), v_n at the negative condition.

    Args:
        params: of the denoiser, or `Experts`.
        noise: (T, H, W, C), standard normal; unbatched, use `vmap`.
        cond: conditions; frames that it holds (`cond.known`, `cond.mask`) come back exactly.
        denoiser: see `protocol.Denoiser`.
        schedule: solver and steps.
        negative: condition, or text embeddings (L, D) that replace those of `cond`; None: no guidance.
        guidance: weight; with `Experts` also a pair (high, low).
        grad: what a derivative of the result sees.
            "full": everything: parameters, conditions and noise, through all steps.
            "last_k": the last `last` evaluations only; what comes before is a constant (DRaFT-K, Clark et al. 2023).
            "detach_input": every evaluation, but not how the clip that it was given came about (AlignProp, Prabhudesai
                et al. 2023, as reduced by Wu et al., Deep Reward Supervisions, 2024).
            "none": nothing.
        last: evaluations that "last_k" differentiates.
        key: for `renoise` schedules.

    Returns:
        The clip (T, H, W, C), in the dtype of `noise`. The state of the sampler is at least float32.

    Raises:
        ValueError: an option out of range, or one that has no effect here.
    """
    guided = _guided(denoiser, negative is not None)

    def field(params, inputs, x, t, weight):
        return guided(params, *inputs, x, t, weight)

    wide = jnp.promote_types(noise.dtype, jnp.float32)
    inputs, x = (cond, negative), impose(noise.astype(wide), cond)
    _check_guidance(params, negative, guidance)
    clip = _integrate(field, params, inputs, x, schedule, guidance, grad, last, key)
    return impose(clip, cond).astype(noise.dtype)


def sample_chunks(
    params: Any,
    noise: jax.Array,
    cond: Condition,
    denoiser: Denoiser,
    schedule: Schedule,
    *,
    chunk: int,
    window: int,
    first: jax.Array | None = None,
    negative: Condition | jax.Array | None = None,
    guidance: Any = 1.0,
    grad: str = "full",
    last: int = 1,
    key: jax.Array | None = None,
) -> jax.Array:
    """A long clip, `chunk` frames at a time, each given the clean frames before it that the window holds.

    The denoiser always sees `window` frames with a time each: 0 for what is done, t for the chunk, 1 for what is still
    noise (diffusion forcing, Chen et al. 2024; chunk-wise as in CausVid and Self Forcing, 2025). When the window is
    full it slides. It suits any denoiser trained with one time per frame; under a block-causal mask the later frames
    are not seen at all. One scan over the chunks, compiled once; nothing is cached between evaluations.

    Args:
        params, denoiser, schedule, negative, guidance, grad, last, key: as for `sample`. Gradients pass from a chunk
            to the chunks before it.
        noise: (T, H, W, C), T a multiple of `chunk`.
        cond: conditions for every window; without `known`, `mask` and `concat`.
        chunk: frames that are made together.
        window: frames that the denoiser sees.
        first: (F, H, W, C) clean frames to continue, F <= window - chunk; None: none.

    Returns:
        (F + T, H, W, C) with `first` in front.

    Raises:
        ValueError: sizes that do not fit each other.
    """
    T, F = noise.shape[0], 0 if first is None else first.shape[0]
    if chunk < 1 or T % chunk:
        raise ValueError(f"sample_chunks: {T} frames of noise are no multiple of chunk={chunk}")
    if not F + chunk <= window <= F + T:
        raise ValueError(
            f"sample_chunks: window={window} must hold the {F} first frames and one chunk of {chunk}, "
            f"and be no longer than the clip of {F + T} frames"
        )
    conditions = (cond, negative) if isinstance(negative, Condition) else (cond,)
    if any(field is not None for c in conditions for field in (c.known, c.mask, c.concat)):
        raise ValueError("sample_chunks: give clean frames as `first`; known, mask and concat belong to one window")
    _check_guidance(params, negative, guidance)
    narrow, wide = noise.dtype, jnp.promote_types(noise.dtype, jnp.float32)
    noise = noise.astype(wide)
    whole = noise if first is None else jnp.concatenate([first.astype(wide), noise])
    guided = _guided(denoiser, negative is not None)
    frame = jnp.arange(window)

    def field(params, inputs, x, t, weight):
        conditions, canvas, start = inputs
        canvas = jax.lax.dynamic_update_slice_in_dim(canvas, x, start, 0)
        times = jnp.where(frame < start, 0.0, jnp.where(frame < start + chunk, t, 1.0)).astype(x.dtype)
        v = guided(params, *conditions, canvas, times, weight)
        return jax.lax.dynamic_slice_in_dim(v, start, chunk)

    def step(carry, inputs):
        canvas, start = carry
        index, fresh = inputs
        slide = jnp.maximum(start + chunk - window, 0)
        canvas, start = jnp.roll(canvas, -slide, 0), start - slide
        chunk_key = None if key is None else jax.random.fold_in(key, index)
        context = ((cond, negative), canvas, start)
        done = _integrate(field, params, context, fresh, schedule, guidance, grad, last, chunk_key)
        return (jax.lax.dynamic_update_slice_in_dim(canvas, done, start, 0), start + chunk), done

    fresh = noise.reshape(T // chunk, chunk, *noise.shape[1:])
    _, chunks = jax.lax.scan(step, (whole[:window], jnp.int32(F)), (jnp.arange(T // chunk), fresh))
    return jnp.concatenate([whole[:F], chunks.reshape(noise.shape)]).astype(narrow)


@pytree
class Adaptive:
    """A clip from `sample_adaptive` and whether it kept its tolerance."""

    x: jax.Array  # (T, H, W, C)
    steps: jax.Array  # taken, rejected ones included
    converged: jax.Array  # bool

    def check(self) -> Adaptive:
        """Raises RuntimeError where the tolerance was not kept; returns itself."""
        if not bool(np.all(np.asarray(self.converged))):
            raise RuntimeError(
                f"sample_adaptive: the tolerance was not kept within {np.max(np.asarray(self.steps))} steps; "
                "raise max_steps, or loosen rtol and atol"
            )
        return self


def sample_adaptive(
    params: Any,
    noise: jax.Array,
    cond: Condition,
    denoiser: Denoiser,
    *,
    negative: Condition | jax.Array | None = None,
    guidance: Any = 1.0,
    rtol: float = 1e-3,
    atol: float = 1e-3,
    max_steps: int = 256,
    solver: diffrax.AbstractSolver | None = None,
) -> Adaptive:
    """The probability flow with error control: steps are as long as the tolerance allows.

    Differentiable in reverse mode in bounded memory (recursive checkpoints of diffrax).

    Args:
        params, noise, cond, denoiser, negative, guidance: as for `sample`.
        rtol, atol: tolerance on the clip.
        max_steps: of each expert.
        solver: default `diffrax.Tsit5()`.

    Returns:
        The clip, the steps and the status. Called eagerly it raises where the tolerance was not kept; inside a trace
        `result.check()` does so later.

    Raises:
        RuntimeError: see above.
    """
    _check_guidance(params, negative, guidance)
    guided = _guided(denoiser, negative is not None)
    wide = jnp.promote_types(noise.dtype, jnp.float32)
    x = impose(noise.astype(wide), cond)
    steps, converged = jnp.int32(0), jnp.bool_(True)
    for part, start, stop, weight in _legs(params, guidance):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, x, args: guided(*args[:3], x, t.astype(wide), args[3]).astype(wide)),
            diffrax.Tsit5() if solver is None else solver,
            t0=jnp.asarray(start, wide),
            t1=jnp.asarray(stop, wide),
            dt0=None,
            y0=x,
            args=(part, cond, negative, jnp.asarray(weight, wide)),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=max_steps,
            throw=False,
        )
        x = solution.ys[0]
        steps = steps + solution.stats["num_steps"].astype(jnp.int32)
        converged = converged & (solution.result == diffrax.RESULTS.successful)
    result = Adaptive(impose(x, cond).astype(noise.dtype), steps, converged)
    return result.check() if is_concrete(result) else result


def _legs(params, guidance):
    """(parameters, start, stop, guidance weight) of each stretch of the path that one network covers."""
    if not isinstance(params, Experts):
        return [(params, 1.0, 0.0, guidance)]
    high, low = guidance if isinstance(guidance, tuple) else (guidance, guidance)
    return [(params.high, 1.0, params.boundary, high), (params.low, params.boundary, 0.0, low)]


def _check_guidance(params, negative, guidance):
    if isinstance(guidance, tuple) and (not isinstance(params, Experts) or len(guidance) != 2):
        raise ValueError(f"sample: a tuple of guidance weights is (high, low) for Experts, got {guidance}")
    weights = guidance if isinstance(guidance, tuple) else (guidance,)
    if negative is None and any(not is_concrete(w) or np.any(np.asarray(w) != 1.0) for w in weights):
        raise ValueError(f"sample: guidance={guidance} needs a negative condition (an empty prompt will do)")


def _guided(denoiser: Denoiser, guide: bool) -> Callable:
    """(params, cond, negative, x, t, weight) -> velocity; both conditions go through one compiled network in turn."""

    def velocity(params, cond, negative, x, t, weight):
        if not guide:
            return denoiser.velocity(params, x, t, cond)
        if isinstance(negative, Condition):
            pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), cond, negative)
            run = lambda c: denoiser.velocity(params, x, t, c)
        else:
            pair = jnp.stack([cond.text, negative.astype(cond.text.dtype)])
            run = lambda text: denoiser.velocity(params, x, t, dataclasses.replace(cond, text=text))
        with_condition, without = jax.lax.map(run, pair)
        return without + weight * (with_condition - without)

    return velocity


def _integrate(field, params, inputs, x, schedule, guidance, grad, last, key):
    """Runs `field(params, inputs, x, t, weight)` over a schedule, split where the expert or the gradient changes."""
    if grad not in GRADIENTS:
        raise ValueError(f"sample: grad must be one of {GRADIENTS}, got {grad!r}")
    table = schedule.table()
    M, K = table.velocity.shape
    if grad == "last_k" and not 1 <= last <= M:
        raise ValueError(f"sample: last must be from 1 to the {M} evaluations of the schedule, got {last}")
    if table.noise.any() and key is None:
        raise ValueError(f"sample: a {schedule.solver!r} schedule draws fresh noise; give a key")
    live_from = {"full": 0, "detach_input": 0, "last_k": M - last, "none": M}[grad]
    state = (x, *(jnp.zeros_like(x) for _ in range(K - 1)))
    for part, start, stop, weight in _legs(params, guidance):
        own = (table.time >= stop) & ((table.time < start) | (start == 1.0))
        for live in (False, True):
            steps = np.flatnonzero(own & ((np.arange(M) >= live_from) == live))
            if len(steps) == 0:
                continue
            arguments = (part, inputs, weight, state)
            if not live:
                arguments = jax.lax.stop_gradient(arguments)
            state = _scan(field, *arguments, table, steps, key, detach=grad == "detach_input")
            if not live:
                state = jax.lax.stop_gradient(state)
    return state[0]


def _scan(field, params, inputs, weight, state, table, steps, key, *, detach):
    """The evaluations `steps` of a table."""
    dtype, K = state[0].dtype, len(state)
    used = (table.state != 0.0).any(0)
    noisy = table.noise.any()
    # The network alone is recomputed: around it everything is linear with constant coefficients and stores nothing.
    velocity = jax.checkpoint(lambda p, i, w, x, t: field(p, i, x, t, w).astype(dtype), prevent_cse=False)

    def step(state, constants):
        t, A, b, c, index = constants
        x = jax.lax.stop_gradient(state[0]) if detach else state[0]
        v = velocity(params, inputs, weight, x, t)
        new = [sum((A[j, k] * state[k] for k in range(K) if used[j, k]), b[j] * v) for j in range(K)]
        if noisy:
            eps = jax.random.normal(jax.random.fold_in(key, index), x.shape, dtype)
            new = [z + c[j] * eps for j, z in enumerate(new)]
        return tuple(new), None

    constants = [jnp.asarray(a[steps], dtype) for a in table]
    return jax.lax.scan(step, state, (*constants, jnp.asarray(steps)))[0]
