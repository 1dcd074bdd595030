"""Samplers: parity with diffusers, order of convergence, and the gradient through every step."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.cases import sampler_gradient
from jaxphys.diffusion.protocol import Condition, hold
from jaxphys.diffusion.sample import Experts, sample, sample_adaptive, sample_chunks
from jaxphys.diffusion.schedules import Schedule

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "schedulers.npz")
SHAPE = (2, 2, 3, 2)
TEXT = Condition(text=jnp.array([[0.5, -0.3, 0.2], [0.1, 0.4, 0.0]]))


@dataclasses.dataclass(frozen=True)
class Tiny:
    """Channels, time, text and the frame before, through one hidden layer."""

    width: int = 8

    def init(self, key):
        a, b, c = jax.random.split(key, 3)
        return {
            "in": jax.random.normal(a, (8, self.width)),
            "bias": jax.random.normal(b, (self.width,)),
            "out": jax.random.normal(c, (self.width, 2)),
        }

    def velocity(self, params, x, t, cond, *, taps=()):
        x, t, free = hold(x, jnp.asarray(t), cond)
        t = jnp.broadcast_to(t, x.shape[:1])[:, None, None, None]
        text = jnp.broadcast_to(cond.text.mean(0), (*x.shape[:3], 3))
        before = jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]])
        inputs = jnp.concatenate([x, before, jnp.broadcast_to(t, (*x.shape[:3], 1)), text], -1)
        v = jnp.tanh(inputs @ params["in"] + params["bias"]) @ params["out"]
        return (v if free is None else v * free).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Formula:
    """A velocity given as a function of (params, x, t, text)."""

    function: Callable

    def velocity(self, params, x, t, cond, *, taps=()):
        x, t, free = hold(x, jnp.asarray(t), cond)
        v = self.function(params, x, t[:, None, None, None] if t.ndim else t, cond.text)
        return v if free is None else v * free


TOY = Formula(lambda p, x, t, text: jnp.sin(3.0 * x) + t * x + 0.3)


@pytest.mark.parametrize("name", ["unipc_8_5", "unipc_3_3", "unipc_1_3", "euler_8_5", "heun_5_3"])
def test_parity_with_diffusers(name):
    solver, steps, shift = name.split("_")
    schedule = Schedule.create(int(steps), solver, shift=float(shift), variant="released")
    table = schedule.table()
    np.testing.assert_allclose(table.time, GOLDEN[f"{name}_times"], atol=1e-7)
    assert schedule.evaluations == len(table.time)
    sigmas = GOLDEN[f"{name}_sigmas"]
    np.testing.assert_allclose(schedule.sigmas[:-1], np.unique(sigmas)[:0:-1], atol=2e-7)
    clip = sample({}, jnp.asarray(GOLDEN["noise"]), TEXT, TOY, schedule)
    np.testing.assert_allclose(clip, GOLDEN[f"{name}_path"][-1], atol=1e-5)


def test_order_of_convergence(float64):
    """Against the exact flow of dx/dt = (1 + t) x / 2 + cos t, by error ratios when the steps are halved."""
    network = Formula(lambda p, x, t, text: 0.5 * (1.0 + t) * x + jnp.cos(t))
    noise = jax.random.normal(jax.random.key(0), SHAPE)
    exact = sample_adaptive({}, noise, TEXT, network, rtol=1e-11, atol=1e-11, max_steps=4096).x
    for solver, order in (("euler", 1), ("heun", 2), ("unipc", 2)):
        run = lambda n: sample({}, noise, TEXT, network, Schedule.create(n, solver, shift=1.0))  # noqa: B023
        errors = [float(jnp.abs(run(n) - exact).max()) for n in (40, 80)]
        # UniPC starts and ends with a step of first order, which in this time costs it part of an order.
        assert np.log2(errors[0] / errors[1]) > order - 0.25, (solver, errors)


def test_a_straight_flow_is_exact_in_one_step(float64):
    """v = eps - x_0 constant: every solver lands on x_0, from one step on."""
    noise, x0 = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    network = Formula(lambda p, x, t, text: (x - x0) / jnp.maximum(t, 1e-6))
    for solver in ("euler", "heun", "unipc", "renoise"):
        for steps in (1, 4):
            clip = sample({}, noise, TEXT, network, Schedule.create(steps, solver), key=jax.random.key(1))
            np.testing.assert_allclose(clip, x0, atol=1e-5, err_msg=f"{solver} {steps}")


def test_renoising_keeps_the_marginal(float64):
    """Data N(0, 1): x_t ~ N(0, (1-t)^2 + t^2); the optimal x_0 is linear, and each re-noised x_t has its variance."""
    network = Formula(lambda p, x, t, text: x * (2.0 * t - 1.0) / ((1.0 - t) ** 2 + t**2))
    noise = jax.random.normal(jax.random.key(0), (2, 50, 50, 2))
    schedule = Schedule.at((1.0, 0.5))
    with_key = lambda k: sample({}, noise, TEXT, network, schedule, key=jax.random.key(k))
    # x_0 = x - v: E[x_0 | eps] = 0 at t = 1, so x_{1/2} = eps' / 2 and x_0 = x_{1/2}: standard deviation 1/2.
    assert abs(float(with_key(1).std()) - 0.5) < 0.02
    assert abs(float((with_key(1) * with_key(2)).mean())) < 0.02


def reward(clip):
    return jnp.mean(jnp.tanh(clip) ** 2 * jnp.arange(1.0, clip.size + 1).reshape(clip.shape)) / clip.size


@pytest.mark.parametrize("solver", ["euler", "heun", "unipc", "renoise"])
def test_gradient_through_all_steps_is_the_finite_difference(float64, solver):
    """Parameters of both experts, text, negative text, noise and guidance weight at once, along a random direction."""
    network, schedule = Tiny(), Schedule.create(6, solver, shift=3.0)
    a, b, c = jax.random.split(jax.random.key(0), 3)
    point = dict(
        params=Experts(network.init(a), network.init(b), boundary=0.7),
        noise=jax.random.normal(c, SHAPE),
        text=jnp.asarray(TEXT.text, jnp.float64),
        negative=jnp.ones((2, 3)),
        weight=jnp.array(1.7),
    )

    def f(p):
        cond = Condition(text=p["text"])
        clip = sample(
            p["params"], p["noise"], cond, network, schedule, negative=p["negative"], guidance=(p["weight"], 2.0),
            key=jax.random.key(9),
        )  # fmt: skip
        return reward(clip)

    run = jax.jit(jax.value_and_grad(f))
    gradient = run(point)[1]
    leaves, tree = jax.tree.flatten(point)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    direction = jax.tree.unflatten(tree, [jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves)])
    exact = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction)))
    move = jax.jit(lambda h: jax.tree.map(lambda p, d: p + h * d, point, direction))
    errors = [abs(float((run(move(h))[0] - run(move(-h))[0]) / (2 * h) - exact)) for h in (1e-3, 1e-4, 1e-5)]
    assert min(errors) <= 1e-7 * abs(float(exact)), (errors, float(exact))
    for leaf in jax.tree.leaves(gradient):
        # A re-noised run forgets the noise it started from only as far as its first x_0 does; all else matters.
        assert float(jnp.abs(leaf).max()) > 0.0


def test_shorter_gradients_are_what_they_say(float64):
    """last_k equals the gradient of the last steps from a constant; detach_input cuts dv/dx; none is zero."""
    network, schedule = Tiny(), Schedule.create(5, "euler", shift=3.0)
    params = network.init(jax.random.key(0))
    noise = jax.random.normal(jax.random.key(1), SHAPE)
    s = schedule.sigmas

    def loop(params, noise, detach=(), start=0):
        x = noise
        for i in range(5):
            if i < start:
                x = jax.lax.stop_gradient(x + (s[i + 1] - s[i]) * network.velocity(params, x, s[i], TEXT))
            else:
                y = jax.lax.stop_gradient(x) if detach else x
                x = x + (s[i + 1] - s[i]) * network.velocity(params, y, s[i], TEXT)
        return reward(x)

    def gradient(f):
        return jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(params, noise)

    def ours(**options):
        return gradient(lambda p, n: reward(sample(p, n, TEXT, network, schedule, **options)))

    for options, expected in (
        (dict(), loop),
        (dict(grad="last_k", last=2), lambda p, n: loop(p, n, start=3)),
        (dict(grad="detach_input"), lambda p, n: loop(p, n, detach=True)),
        (dict(grad="none"), lambda p, n: loop(jax.lax.stop_gradient(p), jax.lax.stop_gradient(n))),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), ours(**options), gradient(expected)
        )


@pytest.mark.parametrize("solver", ["euler", "heun", "unipc"])
def test_memory_grows_by_one_clip_per_evaluation(solver):
    network = Tiny(width=64)
    shape = (4, 16, 16, 2)
    params = network.init(jax.random.key(0))

    def temporary(steps):
        schedule = Schedule.create(steps, solver)
        f = jax.grad(lambda p, n: reward(sample(p, n, TEXT, network, schedule, negative=TEXT.text * 0, guidance=2.0)))
        compiled = jax.jit(f).lower(params, jax.ShapeDtypeStruct(shape, jnp.float32)).compile()
        return schedule.evaluations, compiled.memory_analysis().temp_size_in_bytes

    (few, small), (many, large) = temporary(8), temporary(24)
    clip = 4 * np.prod(shape)
    hidden = 64 / 2 * clip
    assert large - small <= 1.02 * clip * (many - few)
    # and it is this sampler that is measured: without recomputation every evaluation keeps its hidden layer
    assert large < (many - few) * hidden


def test_memory_of_a_transformer_grows_by_one_clip_per_evaluation():
    """With guidance; experiments/cases/sampler_gradient.py takes more of everything."""
    assert sampler_gradient.growth(4, 12) <= 1.02


def test_known_frames_come_back_exactly_and_steer_the_rest():
    network = Tiny()
    params = network.init(jax.random.key(0))
    noise = jax.random.normal(jax.random.key(1), SHAPE)
    known = jnp.ones(SHAPE)
    for solver in ("euler", "heun", "unipc", "renoise"):
        run = lambda k: sample(
            params, noise, dataclasses.replace(TEXT, known=k, mask=jnp.array([1.0, 0.0])), network,
            Schedule.create(4, solver), negative=TEXT.text * 0, guidance=2.0, key=jax.random.key(2),  # noqa: B023
        )  # fmt: skip
        clip = run(known)
        np.testing.assert_array_equal(clip[0], known[0])
        assert float(jnp.abs(run(2 * known)[1] - clip[1]).max()) > 1e-3
    with pytest.raises(RuntimeError, match="raise max_steps"):
        sample_adaptive(params, noise, TEXT, network, rtol=1e-9, atol=1e-9, max_steps=3)


def test_chunks_equal_a_causal_clip_and_slide(float64):
    """Chunk by chunk by hand: every chunk is a clip whose earlier frames are known."""
    network, schedule = Tiny(), Schedule.create(3, "unipc")
    params = network.init(jax.random.key(0))
    noise = jax.random.normal(jax.random.key(1), (6, 1, 2, 2))
    first = jnp.full((1, 1, 2, 2), 0.3)
    options = dict(chunk=2, negative=TEXT.text * 0, guidance=1.5)

    def by_hand(window):
        done = first
        for k in range(3):
            context = done[-(window - 2) :]
            known = jnp.concatenate([context, jnp.zeros((2, 1, 2, 2))])
            held = dataclasses.replace(TEXT, known=known, mask=(jnp.arange(len(known)) < len(context)) * 1.0)
            clip = jnp.concatenate([context, noise[2 * k : 2 * k + 2]])
            made = sample(params, clip, held, network, schedule, negative=TEXT.text * 0, guidance=1.5)
            done = jnp.concatenate([done, made[-2:]])
        return done

    run = jax.jit(sample_chunks, static_argnums=(3, 4), static_argnames=("chunk", "window"))
    for window in (7, 4):
        got = run(params, noise, TEXT, network, schedule, window=window, first=first, **options)
        np.testing.assert_allclose(got, by_hand(window), atol=1e-12)
    gradient = jax.grad(lambda n: jnp.sum(run(params, n, TEXT, network, schedule, window=4, **options)[-1] ** 2))(noise)
    assert float(jnp.abs(gradient[0]).max()) > 0.0  # the last frame knows of the first chunk


def test_adaptive_flow_with_experts_and_its_gradient(float64):
    """Equal to many small steps, in value and in gradient; the status comes back from inside a trace."""
    network = Tiny()
    a, b, c = jax.random.split(jax.random.key(0), 3)
    # The boundary is midway between two nodes: that step takes half of each expert, which keeps its second order.
    params = Experts(network.init(a), network.init(b), boundary=0.75 + 1 / 800)
    noise = jax.random.normal(c, SHAPE)
    schedule = Schedule.create(400, "heun", shift=1.0)
    fine = lambda p: reward(sample(p, noise, TEXT, network, schedule))
    flow = lambda p: sample_adaptive(p, noise, TEXT, network, rtol=1e-8, atol=1e-8)
    value, gradient = jax.jit(jax.value_and_grad(fine))(params)
    got, own = jax.jit(jax.value_and_grad(lambda p: reward(flow(p).x)))(params)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    for x, y in zip(jax.tree.leaves(own), jax.tree.leaves(gradient)):
        assert np.linalg.norm(x - y) <= 1e-3 * np.linalg.norm(y)
    assert bool(jax.jit(flow)(params).check().converged)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(guidance=2.0), "needs a negative condition"),
        (dict(guidance=(2.0, 3.0), negative=TEXT), "for Experts"),
        (dict(grad="half"), "grad must be one of"),
        (dict(grad="last_k", last=5), "last must be from 1 to the 4"),
        (dict(schedule=Schedule.create(4, "renoise")), "give a key"),
    ],
)
def test_nonsense_is_refused(options, message):
    schedule = options.pop("schedule", Schedule.create(4))
    with pytest.raises(ValueError, match=message):
        sample({}, jnp.ones(SHAPE), TEXT, TOY, schedule, **options)


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: Schedule.create(0), "steps must be at least 1"),
        (lambda: Schedule.create(4, "ddim"), "solver must be one of"),
        (lambda: Schedule.create(4, variant="paper"), "variant must be"),
        (lambda: Schedule.at((0.5, 1.0)), "must fall"),
        (lambda: sample_chunks({}, jnp.ones(SHAPE), TEXT, TOY, Schedule.create(2), chunk=3, window=4), "no multiple"),
        (lambda: sample_chunks({}, jnp.ones(SHAPE), TEXT, TOY, Schedule.create(2), chunk=2, window=3), "window=3"),
    ],
)
def test_bad_schedules_and_windows_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
