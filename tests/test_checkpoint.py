"""Checkpoints: bit for bit, onto another mesh, and nothing of another model."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxphys.checkpoint import Checkpoints
from jaxphys.sharding import make_mesh, shardings
from jaxphys.train import create_state

RULES = ((r"kernel", ("fsdp", "tensor")),)
PARAMS = {
    "kernel": jax.random.normal(jax.random.key(0), (8, 8)),
    "half": jax.random.normal(jax.random.key(1), (5,), jnp.bfloat16),
    "layers": [jnp.arange(3), jnp.float32(0.1)],
}


def state(mesh=None, seed=7):
    return create_state(PARAMS, optax.adam(1e-3), key=jax.random.key(seed), ema=True, mesh=mesh, rules=RULES)


def bits(x):
    x = jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return np.asarray(x).tobytes()


def test_bit_exact_onto_another_mesh(tmp_path):
    four = make_mesh(fsdp=4, devices=jax.devices()[:4])
    eight = make_mesh(fsdp=2, tensor=4, devices=jax.devices()[:8])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(four), {"seed": 7})
        for mesh in (eight, four, None):
            like = jax.eval_shape(state)
            if mesh is not None:
                where = shardings(like, mesh, RULES)
                like = jax.tree.map(lambda s, w: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=w), like, where)
            step, got, about = checkpoints.restore(like)
            assert (step, about) == (3, {"seed": 7})
            assert jax.tree.structure(got) == jax.tree.structure(state())
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(state())):
                assert a.dtype == b.dtype and bits(a) == bits(b)
            if mesh is not None:
                assert got.params["kernel"].sharding == shardings(state(), mesh, RULES).params["kernel"]
        assert bits(jax.random.normal(got.key, (4,))) == bits(jax.random.normal(state().key, (4,)))


def test_saving_does_not_wait_and_is_not_disturbed_by_the_next_step(tmp_path):
    """The memory of a saved state is given away to the next step at once."""
    advance = jax.jit(lambda tree: jax.tree.map(lambda a: a + 1.0, tree), donate_argnums=0)
    tree = {f"w{i}": jnp.zeros(200_000) for i in range(8)}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in range(1, 6):
            tree = advance(tree)
            checkpoints.save(step, tree)
            for _ in range(3):
                tree = advance(tree)
        assert checkpoints.restore(tree)[0] == 5 and checkpoints.steps == [4, 5]
        for step in (4, 5):
            got = checkpoints.restore(tree, step)[1]
            assert all(float(a.min()) == float(a.max()) == 4 * step - 3 for a in got.values())


def test_what_is_half_written_does_not_count(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(2)})
    (tmp_path / "2.orbax-checkpoint-tmp-0").mkdir()
    (tmp_path / "2.orbax-checkpoint-tmp-0" / "arrays").write_text("cut off")
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 1
        assert checkpoints.restore({"w": jnp.zeros(2)})[1]["w"].tolist() == [1.0, 1.0]
        checkpoints.save(2, {"w": jnp.ones(2)})
        checkpoints.wait()
        assert checkpoints.latest == 2


@pytest.mark.parametrize(
    "like, message",
    [
        ({"w": jnp.ones(2), "b": jnp.ones(1)}, "not in the file: b"),
        ({}, "only in the file: w"),
        ({"w": jnp.ones(3)}, r"of another shape: w \(2,\) float32, wanted \(3,\)"),
        ({"w": jnp.ones(2, jnp.int32)}, "float32, wanted .* int32"),
    ],
)
def test_another_model_is_refused_by_name(tmp_path, like, message):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"w": jnp.ones(2)})
        with pytest.raises(ValueError, match=message):
            checkpoints.restore(like)


def test_nonsense_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Checkpoints(tmp_path, keep=0)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(FileNotFoundError, match="no checkpoint in"):
            checkpoints.restore({"w": jnp.ones(2)})
        checkpoints.save(1, {"w": jnp.ones(2)})
        with pytest.raises(ValueError, match="step 1 is not after"):
            checkpoints.save(1, {"w": jnp.ones(2)})
        with pytest.raises(FileNotFoundError, match="of step 9"):
            checkpoints.restore({"w": jnp.ones(2)}, 9)
