"""Training: one compiled step on any mesh, and a loop that survives being killed.

With a loss of one example, l(theta, example, key), a batch of B examples and an optimizer of optax,

    g = (1/B) sum_i grad l(theta, x_i, k_i),    theta <- theta + tx(g),    ema <- d ema + (1 - d) theta

where k_i depends on the seed, the step and i alone. So the same numbers come out (but for rounding) whether a batch is
worked on at once or in parts, on one device or many, by one process or several; and a run that was stopped goes on as
if it had not been, because the order of the data is a function of the step as well.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from jaxphys.checkpoint import Checkpoints
from jaxphys.metrics import Metrics
from jaxphys.precision import rounded_products
from jaxphys.pytree import pytree
from jaxphys.sharding import BATCH, BATCH_AXES, REPLICATED, Rules, batch_share, constrain, place, place_batch, shardings

Loss = Callable[..., Any]  # (params, example, key, *frozen) -> loss, or (loss, {name: number})


@pytree
class TrainState:
    """All that a step changes, and the key that it draws from."""

    step: jax.Array  # () int32, steps taken
    params: Any
    opt_state: Any
    ema: Any  # averaged parameters, at least float32; None: none are kept
    key: jax.Array  # typed; never changes: a step folds its number into it


def create_state(
    params: Any,
    tx: optax.GradientTransformation,
    *,
    key: jax.Array,
    ema: bool = False,
    mesh: Mesh | None = None,
    rules: Rules = REPLICATED,
) -> TrainState:
    """The state before the first step.

    Args:
        params: a tree of arrays, or a function key -> tree: then every device makes its own part, and the whole never
            exists in one place.
        tx: optimizer.
        key: typed; of the parameters and of all steps.
        ema: whether averaged parameters are kept.
        mesh: from `sharding.make_mesh`; None: the default device.
        rules: where parameters, moments and averages live.
    """
    key_params, key_steps = jax.random.split(key)

    def build(params):
        params = params(key_params) if callable(params) else params
        average = jax.tree.map(_widened, params) if ema else None
        return TrainState(jnp.int32(0), params, tx.init(params), average, key_steps)

    if not callable(params):
        params = jax.tree.map(jnp.array, params)  # a copy: the step gives its input's memory to its output
        state = build(params)
        return state if mesh is None else place(state, mesh, rules)
    out = None if mesh is None else shardings(jax.eval_shape(lambda: build(params)), mesh, rules)
    return jax.jit(lambda: build(params), out_shardings=out)()


def _widened(x):
    return jnp.array(x, jnp.promote_types(x.dtype, jnp.float32)) if jnp.issubdtype(x.dtype, jnp.floating) else x


def update(
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    ema_decay: float = 0.999,
    accumulate: int = 1,
    mesh: Mesh | None = None,
    rules: Rules = REPLICATED,
    axis_name: str | None = None,
    rounded: bool = False,
) -> Callable:
    """One step as a pure function (state, batch, *frozen) -> (state, metrics), not compiled yet.

    Args:
        loss: (params, example, key, *frozen) -> a number, or (a number, {name: number}).
        tx: optimizer of optax; clipping and schedules belong to it.
        ema_decay: d, in [0, 1); the first steps use less, min(d, (1 + n) / (10 + n)).
        accumulate: parts that a batch is worked on in; memory is that of one part, the sum is kept in float32.
        mesh, rules: with a mesh, gradients and the new state are held as the rules say.
        axis_name: under `jax.pmap`: over which axis the batch is spread.
        rounded: products of float32 matrices in bfloat16, for CPUs that have units for them (AMX): see `precision`.

    Returns:
        The function. `frozen` are trees that the loss takes and no one changes (the model under a LoRA). Metrics:
        "loss", "grad_norm" and the means of what the loss reports.

    Raises:
        ValueError: an option out of range, or a batch that cannot be divided as asked.
    """
    if not 0.0 <= ema_decay < 1.0 or accumulate < 1:
        raise ValueError(f"ema_decay must be in [0, 1) and accumulate at least 1, got {ema_decay} and {accumulate}")
    spread = BATCH_AXES if mesh is not None else None

    def mean_loss(params, examples, keys, frozen):
        def one(example, key):
            out = loss(params, example, key, *frozen)
            return out if isinstance(out, tuple) else (out, {})

        values, aux = jax.vmap(one, spmd_axis_name=spread)(examples, keys)
        return values.mean(), {"loss": values.mean(), **jax.tree.map(lambda a: a.mean(0), aux)}

    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    value_and_grad = rounded_products(value_and_grad) if rounded else value_and_grad

    def gradient(params, batch, key, frozen):
        n = jax.tree.leaves(batch)[0].shape[0]
        if n % accumulate:
            raise ValueError(f"accumulate={accumulate} does not divide the {n} examples of a batch")
        if mesh is not None and n // accumulate % batch_share(mesh)[1]:
            raise ValueError(
                f"{n // accumulate} examples at a time (batch {n}, accumulate={accumulate}) cannot be spread over "
                f"{batch_share(mesh)[1]} devices (data x fsdp)"
            )
        first = 0 if axis_name is None else n * jax.lax.axis_index(axis_name)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(n))
        if accumulate == 1:
            (_, metrics), grads = value_and_grad(params, batch, keys, frozen)
            return grads, metrics

        def part(total, examples):
            (_, metrics), grads = value_and_grad(params, *examples, frozen)
            return jax.tree.map(lambda t, x: t + x.astype(t.dtype) / accumulate, total, (grads, metrics)), None

        # Part m takes examples m, m + accumulate, ...: every device works on every part.
        split = lambda x: x.reshape(n // accumulate, accumulate, *x.shape[1:]).swapaxes(0, 1)
        parts = jax.tree.map(split, (batch, keys))
        shapes = jax.eval_shape(value_and_grad, params, *jax.tree.map(lambda x: x[0], parts), frozen)
        zero = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.promote_types(s.dtype, jnp.float32)), shapes)
        (grads, metrics), _ = jax.lax.scan(part, (zero[1], zero[0][1]), parts)
        return jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params), metrics

    def step(state: TrainState, batch: Any, *frozen: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        grads, metrics = gradient(state.params, batch, jax.random.fold_in(state.key, state.step), frozen)
        if axis_name is not None:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        if mesh is not None:
            grads = constrain(grads, mesh, rules)
        metrics["grad_norm"] = optax.tree.norm(jax.tree.map(_widened, grads))
        change, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, change)
        ema = state.ema
        if ema is not None:
            n = state.step.astype(jnp.result_type(float))
            d = jnp.minimum(ema_decay, (1.0 + n) / (10.0 + n))
            ema = jax.tree.map(lambda a, p: a + (1.0 - d).astype(a.dtype) * (p.astype(a.dtype) - a), ema, params)
        new = TrainState(state.step + 1, params, opt_state, ema, state.key)
        return (new if mesh is None else constrain(new, mesh, rules)), metrics

    return step


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled step: `state, metrics = step(state, batch, *frozen)`. The memory of the given state is reused."""

    compiled: Callable
    mesh: Mesh | None
    batch_rules: Rules

    def __call__(self, state: TrainState, batch: Any, *frozen: Any) -> tuple[TrainState, dict[str, jax.Array]]:
        return self._under_mesh(self.compiled, state, batch, frozen)

    def lower(self, state: TrainState, batch: Any, *frozen: Any) -> jax.stages.Lowered:
        """For `.compile().memory_analysis()` and `.cost_analysis()`, of one device."""
        return self._under_mesh(self.compiled.lower, state, batch, frozen)

    def _under_mesh(self, call, state, batch, frozen):
        if self.mesh is None:
            return call(state, batch, *frozen)
        with jax.set_mesh(self.mesh):
            return call(state, place_batch(batch, self.mesh, self.batch_rules), *frozen)


def make_step(
    loss: Loss,
    tx: optax.GradientTransformation,
    mesh: Mesh | None = None,
    *,
    rules: Rules = REPLICATED,
    batch_rules: Rules = BATCH,
    ema_decay: float = 0.999,
    accumulate: int = 1,
    rounded: bool = False,
) -> Step:
    """Compiles `update` for one device or a mesh; see there for the arguments.

    Args:
        loss, tx, ema_decay, accumulate, rounded: as for `update`.
        mesh: from `sharding.make_mesh`; None: the default device.
        rules: where parameters, gradients, moments and averages live.
        batch_rules: where batches live.

    >>> loss = lambda w, x, key: (w * x - 1.0) ** 2
    >>> tx = optax.sgd(0.1)
    >>> state, step = create_state(jnp.array(0.0), tx, key=jax.random.key(0)), make_step(loss, tx)
    >>> state, metrics = step(state, jnp.ones(4))
    >>> round(float(state.params), 6), float(metrics["loss"])
    (0.2, 1.0)
    """
    options = dict(ema_decay=ema_decay, accumulate=accumulate, rounded=rounded)
    function = update(loss, tx, mesh=mesh, rules=rules, **options)
    return Step(jax.jit(function, donate_argnums=0), mesh, batch_rules)


@dataclasses.dataclass(frozen=True)
class Order:
    """Which examples make up the batch of a step: shuffled epochs, end to end, as a function of the step alone.

    >>> order = Order(examples=4, batch=2, seed=0)
    >>> sorted([*order.indices(0), *order.indices(1)])
    [0, 1, 2, 3]
    """

    examples: int
    batch: int
    seed: int = 0

    def __post_init__(self):
        if self.examples < 1 or self.batch < 1:
            raise ValueError(f"Order: examples and batch must be at least 1, got {self.examples} and {self.batch}")

    def indices(self, step: int, part: int = 0, parts: int = 1) -> list[int]:
        """Indices of the examples of a step, or of one of `parts` equal parts of them (one per process)."""
        if self.batch % parts:
            raise ValueError(f"Order: a batch of {self.batch} has no {parts} equal parts")
        size = self.batch // parts
        places = step * self.batch + part * size + np.arange(size)
        return [int(_epoch(self.examples, self.seed, int(p) // self.examples)[p % self.examples]) for p in places]


@functools.lru_cache(maxsize=4)
def _epoch(examples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(examples)


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """An event that SIGTERM sets. (Of several processes none stops alone: `Checkpoints.preempted` asks the cluster.)"""
    event = threading.Event()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def fit(
    step: Step,
    state: TrainState,
    batch_of: Callable[[int], Any],
    steps: int,
    *,
    workdir: str | Path,
    frozen: tuple = (),
    about: dict | None = None,
    checkpoint_every: int = 1000,
    keep: int = 3,
    log_every: int = 50,
    flops: float | None = None,
    peak_flops: float | None = None,
) -> TrainState:
    """Trains to `steps` steps in all, from the newest checkpoint in the workdir where there is one.

    Stopped at any moment, even by kill -9, the same call goes on from the last checkpoint with the same batches and
    random numbers. On SIGTERM, or a notice of the cluster, the state is saved first.

    Args:
        step: from `make_step`.
        state: from `create_state`; a checkpoint is restored into its shardings, so the mesh may be another than before.
        batch_of: step (from 0) -> batch, this process's part; a function of the step alone (see `Order`).
        steps: to be taken in all.
        workdir: gets checkpoints/, metrics.jsonl and tensorboard/.
        frozen: trees that the loss takes as well.
        about: what makes this run this run (seed, batch, ...): a checkpoint of another one is refused.
        checkpoint_every: steps.
        keep: checkpoints that are kept.
        log_every: steps between two looks at the metrics; every step's are written.
        flops: of one step, for "flops_per_second"; see `diffusion.flops`.
        peak_flops: of all devices together, for "mfu", the fraction of them that is used.

    Returns:
        The state after `steps`, or an earlier one where the run was asked to stop.

    Raises:
        ValueError: the workdir holds another run.
        RuntimeError: the loss is not finite; the checkpoints before it are kept.
    """
    workdir, run = Path(workdir), json.loads(json.dumps(about or {}))
    workdir.mkdir(parents=True, exist_ok=True)
    with Checkpoints(workdir / "checkpoints", keep) as checkpoints, _termination() as terminated:
        if checkpoints.latest is not None:
            old = checkpoints.about()
            differing = sorted(k for k in {*old, *run} if old.get(k) != run.get(k))
            if differing:
                raise ValueError(f"{workdir} holds another run (differs in {differing}): choose another workdir")
            _, state, _ = checkpoints.restore(state)
        start = int(state.step)
        log = Metrics(workdir, start)
        pending: list[tuple[int, dict[str, jax.Array]]] = []
        clock: float | None = None  # from the second look on: the first steps are those that compile

        def flush():
            nonlocal clock
            if not pending:
                return
            values = [(n, {k: float(v) for k, v in m.items()}) for n, m in pending]
            now = time.perf_counter()
            speed = {} if clock is None else {"seconds_per_step": (now - clock) / len(pending)}
            if speed and flops is not None:
                speed["flops_per_second"] = flops / speed["seconds_per_step"]
                if peak_flops is not None:
                    speed["mfu"] = speed["flops_per_second"] / peak_flops
            log.write([{"step": n} | m | speed for n, m in values])
            bar.set_postfix(loss=f"{values[-1][1]['loss']:.4g}", refresh=False)
            pending.clear()
            clock = now
            for n, m in values:
                if not math.isfinite(m["loss"]) or not math.isfinite(m["grad_norm"]):
                    raise RuntimeError(
                        f"step {n}: loss {m['loss']}, gradient norm {m['grad_norm']}; the newest checkpoint is of step "
                        f"{checkpoints.latest}: go on from it with a smaller learning rate or with clipped gradients"
                    )

        bar = tqdm(
            range(start, steps), initial=start, total=steps, desc="train", unit="step", disable=jax.process_index() > 0
        )
        try:
            for n in bar:
                state, metrics = step(state, batch_of(n), *frozen)
                pending.append((n + 1, metrics))
                stop = terminated.is_set() or checkpoints.preempted(n)
                due = (n + 1) % checkpoint_every == 0 or n + 1 == steps or stop
                if due or (n + 1) % log_every == 0:
                    flush()
                if due:
                    checkpoints.save(n + 1, state, run)
                if stop:
                    break
        finally:
            bar.close()
            log.close()
    return state
