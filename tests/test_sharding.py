"""Rules: which axes a leaf gets, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from jaxphys.sharding import (
    BATCH,
    batch_share,
    constrain_axes,
    make_mesh,
    place,
    place_batch,
    shardings,
    spec,
    start_processes,
)
from jaxphys.train import create_state

RULES = ((r"q/kernel", (None, "fsdp", "tensor")), (r"q/bias", ("tensor",)), (r"both", (("data", "fsdp"), "seq")))


@pytest.fixture
def mesh():
    return make_mesh(data=2, fsdp=2, tensor=2, devices=jax.devices()[:8])


def test_first_rule_that_matches_the_end_of_the_path(mesh):
    assert spec("blocks/q/kernel", (2, 4, 4), mesh, RULES) == P(None, "fsdp", "tensor")
    assert spec("blocks/q/kernel", (2, 4, 4), mesh, ((r"kernel", ()), *RULES)) == P()
    assert spec("blocks/q/kernel_2", (2, 4, 4), mesh, RULES) == P()


def test_axes_that_do_not_divide_are_left_out(mesh):
    assert spec("q/kernel", (2, 3, 4), mesh, RULES) == P(None, None, "tensor")
    assert spec("q/bias", (3,), mesh, RULES) == P()
    assert spec("both", (6, 5), mesh, RULES) == P("data")  # 6 = 2 x 3: not over both; seq is of size 1
    assert spec("step", (), mesh, BATCH) == P()


def test_moments_and_averages_lie_where_their_parameters_lie(mesh):
    params = {"q": {"kernel": jnp.arange(32.0).reshape(2, 4, 4), "bias": jnp.ones(4)}, "other": jnp.ones(3)}
    state = create_state(params, optax.adam(1.0), key=jax.random.key(0), ema=True, mesh=mesh, rules=RULES)
    adam = state.opt_state[0]
    for tree in (state.params, state.ema, adam.mu, adam.nu):
        assert tree["q"]["kernel"].sharding.spec == P(None, "fsdp", "tensor")
        assert tree["q"]["kernel"].addressable_shards[0].data.shape == (2, 2, 2)
        assert tree["other"].sharding.spec == P()
    np.testing.assert_array_equal(state.params["q"]["kernel"], params["q"]["kernel"])
    # made in place from a function, the values are those made anywhere
    init = lambda key: {"q": {"kernel": jax.random.normal(key, (2, 4, 4))}}
    here, there = (
        create_state(init, optax.adam(1.0), key=jax.random.key(0), mesh=m, rules=RULES).params["q"]["kernel"]
        for m in (None, mesh)
    )
    np.testing.assert_array_equal(here, there)
    assert there.addressable_shards[0].data.shape == (2, 2, 2)


def test_batches_are_spread_over_data_and_fsdp(mesh):
    clip = np.arange(24.0).reshape(8, 3)
    placed = place_batch({"clip": clip}, mesh)["clip"]
    assert placed.sharding.spec == P(("data", "fsdp")) and placed.addressable_shards[0].data.shape == (2, 3)
    np.testing.assert_array_equal(placed, clip)
    assert batch_share(mesh) == (4, 4)
    keys = place({"key": jax.random.split(jax.random.key(0), 4)}, mesh, ((r"key", ("data",)),))
    assert keys["key"].sharding.is_equivalent_to(shardings(keys, mesh, ((r"key", ("data",)),))["key"], 1)


def test_a_network_may_run_inside_shard_map():
    """What it asks of axes is for the compiler; there is none where a device has its part already."""
    x = jnp.arange(8.0).reshape(4, 2)
    part = lambda x: 2.0 * constrain_axes(x, "seq", None)
    doubled = jax.shard_map(part, mesh=make_mesh(devices=jax.devices()[:1]), in_specs=P("data"), out_specs=P("data"))
    np.testing.assert_array_equal(jax.jit(doubled)(x), 2.0 * x)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda mesh: place_batch(np.ones((6, 2)), mesh), "a multiple of 4"),
        (lambda mesh: place_batch({"a": np.ones((4, 2)), "b": np.ones((8, 2))}, mesh), "one leading axis"),
        (lambda mesh: place_batch(np.float32(1.0), mesh), "one leading axis"),
        (lambda mesh: spec("q/bias", (), mesh, RULES), "has 1 axes, but q/bias has the shape"),
        (lambda mesh: spec("x", (4,), mesh, (("x", ("rows",)),)), "names 'rows'"),
        (lambda mesh: start_processes("localhost:1", 2), "or none of them"),
    ],
)
def test_nonsense_is_refused(mesh, call, message):
    with pytest.raises(ValueError, match=message):
        call(mesh)
