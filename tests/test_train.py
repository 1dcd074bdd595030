"""The step against the formula, the order of the data, and a loop that goes on where it was stopped."""

import json
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxphys.sharding import make_mesh
from jaxphys.train import Order, create_state, fit, make_step, update

TX = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(1e-2))


def params(key):
    return {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros(2)}


def loss(params, example, key, *frozen):
    """A random number is drawn for each example, so that whoever draws another one is found out."""
    x, y = example
    noise = jax.random.normal(key, (2,), x.dtype)
    out = jnp.tanh(x @ params["w"] + params["b"] + 0.1 * noise + sum(frozen))
    error = jnp.sum((out - y) ** 2)
    return error, {"noise": noise.sum(), "size": jnp.abs(out).mean()}


def batch(step, n=8):
    rng = np.random.default_rng(step)
    return rng.normal(size=(n, 3)).astype(np.float32), rng.normal(size=(n, 2)).astype(np.float32)


def new(**options):
    return create_state(params, TX, key=jax.random.key(0), **options)


def test_step_is_the_formula(float64):
    """Two steps by hand: keys of step and example, mean gradient, optimizer, averages."""
    state, frozen = new(ema=True), jnp.array([0.1, -0.2])
    step = make_step(loss, TX, ema_decay=0.5)
    theta, average = state.params, state.params
    moments = TX.init(theta)
    got = state
    mean = lambda p, x, y, keys: sum(loss(p, (x[i], y[i]), keys[i], frozen)[0] for i in range(8)) / 8
    mean_and_gradient = jax.jit(jax.value_and_grad(mean))
    for n in range(2):
        x, y = (a.astype(np.float64) for a in batch(n))
        keys = [jax.random.fold_in(jax.random.fold_in(new().key, n), i) for i in range(8)]
        value, gradient = mean_and_gradient(theta, x, y, keys)
        change, moments = jax.jit(TX.update)(gradient, moments, theta)
        theta = optax.apply_updates(theta, change)
        decay = min(0.5, (1 + n) / (10 + n))
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, theta)  # noqa: B023
        got, metrics = step(got, (x, y), frozen)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
        np.testing.assert_allclose(metrics["grad_norm"], optax.tree.norm(gradient), rtol=1e-12)
        noise = np.mean([jax.random.normal(k, (2,)).sum() for k in keys])
        np.testing.assert_allclose(metrics["noise"], noise, rtol=1e-12)
    assert int(got.step) == 2
    for a, b in ((got.params, theta), (got.ema, average)):
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-12, atol=1e-15), a, b)


@pytest.mark.parametrize("parts", [2, 8])
def test_parts_of_a_batch_sum_to_the_whole(float64, parts):
    whole, _ = make_step(loss, TX)(new(), batch(0))
    split, metrics = make_step(loss, TX, accumulate=parts)(new(), batch(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14), split.params, whole.params)
    # and less is in memory at a time
    step = lambda n: jax.jit(update(wide, optax.sgd(0.1), accumulate=n))
    wide = lambda w, x, key: jnp.sum(jnp.sin(x[:, None] * w) ** 2)
    state = create_state(jnp.ones(64), optax.sgd(0.1), key=jax.random.key(0))
    memory = lambda n: step(n).lower(state, jnp.ones((8, 4096))).compile().memory_analysis().temp_size_in_bytes
    assert memory(parts) < 1.5 * memory(1) / parts


def test_rounded_products_change_a_step_by_their_rounding():
    spread = make_mesh(data=2, tensor=4)
    exact, _ = make_step(loss, optax.sgd(0.1))(new_sgd(), batch(0))
    near, _ = make_step(loss, optax.sgd(0.1), spread, rounded=True)(new_sgd(mesh=spread), batch(0))
    error = float(jnp.abs(near.params["w"] - exact.params["w"]).max())
    assert 1e-6 < error < 0.02 * float(jnp.abs(exact.params["w"] - new_sgd().params["w"]).max())


def new_sgd(**options):
    return create_state(params, optax.sgd(0.1), key=jax.random.key(0), **options)


def test_low_precision_parameters_have_wide_averages():
    state = create_state({"w": jnp.ones(4, jnp.bfloat16)}, optax.sgd(1e-3), key=jax.random.key(0), ema=True)
    step = make_step(lambda p, x, key: jnp.sum(p["w"] * x), optax.sgd(1e-3), ema_decay=0.9, accumulate=2)
    for _ in range(3):
        state, _ = step(state, jnp.ones((4, 4)))
    assert state.params["w"].dtype == jnp.bfloat16 and state.ema["w"].dtype == jnp.float32
    assert 0.99 < float(state.ema["w"][0]) < 1.0


def test_order_is_shuffled_epochs_as_a_function_of_the_step():
    order = Order(examples=10, batch=4, seed=1)
    seen = np.concatenate([order.indices(step) for step in range(5)])  # two epochs
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert list(seen[:10]) != list(seen[10:]) and list(seen[:10]) != list(range(10))
    assert [*order.indices(3, 0, 2), *order.indices(3, 1, 2)] == order.indices(3)
    assert Order(10, 4, seed=2).indices(0) != order.indices(0)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def curve(workdir):
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows(workdir)]


OPTIONS = dict(checkpoint_every=4, log_every=3, about={"seed": 0})


def test_loop_writes_what_it_says_and_goes_on(tmp_path):
    step = make_step(loss, TX, ema_decay=0.9)
    whole = fit(step, new(ema=True), batch, 11, workdir=tmp_path / "a", flops=1e6, peak_flops=1e12, **OPTIONS)
    assert [n for n, *_ in curve(tmp_path / "a")] == list(range(1, 12))
    last = rows(tmp_path / "a")[-1]
    np.testing.assert_allclose(last["mfu"], 1e6 / last["seconds_per_step"] / 1e12, rtol=1e-9)
    (events,) = (tmp_path / "a" / "tensorboard").iterdir()
    assert b"grad_norm" in events.read_bytes() and b"mfu" in events.read_bytes()

    # stopped after step 6 by an error in the data; what was logged beyond the checkpoint of step 4 is done again
    def cut(n):
        if n == 6:
            raise OSError("the disk is gone")
        return batch(n)

    with pytest.raises(OSError, match="disk"):
        fit(step, new(ema=True), cut, 11, workdir=tmp_path / "b", **OPTIONS)
    assert [n for n, *_ in curve(tmp_path / "b")] == list(range(1, 7))
    with open(tmp_path / "b" / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')  # a line that a kill cut off
    again = fit(step, new(ema=True), batch, 11, workdir=tmp_path / "b", **OPTIONS)
    assert curve(tmp_path / "b") == curve(tmp_path / "a")
    jax.tree.map(np.testing.assert_array_equal, (again.params, again.ema), (whole.params, whole.ema))
    with pytest.raises(ValueError, match=r"differs in \['seed'\]"):
        fit(step, new(ema=True), batch, 12, workdir=tmp_path / "b", **(OPTIONS | {"about": {"seed": 1}}))


def test_goes_on_under_another_mesh(tmp_path):
    rules = ((r"w", (None, "tensor")),)
    devices = jax.devices()
    meshes = {
        "one": make_mesh(devices=devices[:1]),
        "eight": make_mesh(data=2, fsdp=2, tensor=2, devices=devices[:8]),
        "four": make_mesh(fsdp=4, devices=devices[:4]),
    }

    def train(name, steps, workdir):
        mesh = meshes[name]
        step = make_step(loss, TX, mesh, rules=rules, accumulate=2)
        return fit(step, new(ema=True, mesh=mesh, rules=rules), batch, steps, workdir=tmp_path / workdir, **OPTIONS)

    whole = train("one", 8, "a")
    assert train("eight", 4, "b").params["w"].sharding.spec == PartitionSpec(None, "tensor")
    parts = train("four", 8, "b")
    np.testing.assert_allclose(curve(tmp_path / "b"), curve(tmp_path / "a"), rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), parts.params, whole.params)


def test_asked_to_stop_it_saves_first(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    step = make_step(loss, TX)

    def asking(n):
        if n == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(n)

    options = OPTIONS | {"checkpoint_every": 100}
    state = fit(step, new(), asking, 11, workdir=tmp_path, **options)
    assert int(state.step) == 6 and signal.getsignal(signal.SIGTERM) is before
    taken = []
    state = fit(step, new(), lambda n: taken.append(n) or batch(n), 11, workdir=tmp_path, **options)
    assert taken == list(range(6, 11)) and int(state.step) == 11
    # a thread may not set handlers, and trains all the same
    thread = threading.Thread(target=lambda: taken.append(fit(step, new(), batch, 1, workdir=tmp_path / "t")))
    thread.start()
    thread.join()
    assert int(taken[-1].step) == 1


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(tmp_path):
    spoilt = lambda n: tuple(a * (np.nan if n == 5 else 1.0) for a in batch(n))
    with pytest.raises(RuntimeError, match=r"step 6: loss nan.* newest checkpoint is of step 4"):
        fit(make_step(loss, TX), new(), spoilt, 11, workdir=tmp_path, **OPTIONS)
    assert rows(tmp_path)[-1]["loss"] == "nan"


def on_eight(**options):
    mesh = make_mesh(data=8, devices=jax.devices()[:8])
    return make_step(loss, TX, mesh, **options)(new(mesh=mesh), batch(0))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: update(loss, TX, ema_decay=1.0), r"in \[0, 1\)"),
        (lambda: update(loss, TX, accumulate=0), "at least 1"),
        (lambda: make_step(loss, TX, accumulate=3)(new(), batch(0)), "accumulate=3 does not divide the 8"),
        (lambda: on_eight(accumulate=2), "4 examples at a time .* over 8 devices"),
        (lambda: Order(0, 1), "at least 1"),
        (lambda: Order(4, 4).indices(0, 0, 3), "no 3 equal parts"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
