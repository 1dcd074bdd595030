"""The transformer beyond parity: what it may see, what it returns, gradients, precision, memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion.dit import PRESETS, WanConfig
from jaxphys.diffusion.modules import REMAT
from jaxphys.diffusion.protocol import Condition, Denoiser

CONFIG = WanConfig(dim=24, ffn_dim=32, heads=2, layers=2, in_channels=2, out_channels=2, text_dim=6, freq_dim=8)
SHAPE = (4, 4, 4, 2)
TIME = jnp.array(0.6)


def draw(seed, shape, dtype=jnp.float32):
    return jax.device_put(np.random.default_rng(seed).normal(size=shape).astype(dtype))


@functools.partial(jax.jit, static_argnums=(0, 5))
def velocity(config, params, x, t, cond, taps=()):
    return config.velocity(params, x, t, cond, taps=taps)


def start(config=CONFIG, dtype=jnp.float32):
    """(parameters, noisy clip, condition)"""
    params = jax.jit(config.init)(jax.random.key(1))
    return (
        params,
        draw(0, (*SHAPE[:3], config.out_channels), dtype),
        Condition(text=draw(1, (5, config.text_dim), dtype)),
    )


def test_it_is_a_denoiser_and_every_preset_has_its_published_count():
    assert isinstance(CONFIG, Denoiser) and hash(CONFIG) == hash(dataclasses.replace(CONFIG))
    counts = {name: sum(x.size for x in jax.tree.leaves(jax.eval_shape(c.init, jax.random.key(0)))) / 1e6
              for name, c in PRESETS.items()}  # fmt: skip
    assert {name: round(count, 1) for name, count in counts.items()} == {
        "wan2.1-t2v-1.3b": 1419.0,
        "wan2.1-t2v-14b": 14288.5,
        "wan2.1-i2v-14b": 16394.9,
        "wan2.2-t2v-a14b": 14288.5,
        "wan2.2-i2v-a14b": 14288.9,
        "wan2.2-ti2v-5b": 4999.8,
    }


def test_taps_are_the_tokens_after_a_block_and_change_nothing():
    params, x, cond = start()
    plain = velocity(CONFIG, params, x, TIME, cond)
    tapped, features = velocity(CONFIG, params, x, TIME, cond, ("block_0", "block_1"))
    np.testing.assert_array_equal(tapped, plain)
    assert {n: f.shape for n, f in features.items()} == {"block_0": (4, 2, 2, 24), "block_1": (4, 2, 2, 24)}
    shallow = dataclasses.replace(CONFIG, layers=1)
    one = params | {"blocks": jax.tree.map(lambda a: a[:1], params["blocks"])}
    _, only = velocity(shallow, one, x, TIME, cond, ("block_0",))
    np.testing.assert_allclose(features["block_0"], only["block_0"], atol=1e-6)
    assert np.abs(features["block_1"] - features["block_0"]).max() > 0.01


def test_known_frames_are_seen_clean_at_time_zero_and_do_not_move():
    params, x, cond = start()
    known, mask = draw(3, SHAPE), jnp.array([1.0, 0.0, 0.0, 0.0])
    held = velocity(CONFIG, params, x, TIME, dataclasses.replace(cond, known=known, mask=mask))
    by_hand = velocity(CONFIG, params, x.at[0].set(known[0]), jnp.array([0.0, 0.6, 0.6, 0.6]), cond)
    np.testing.assert_array_equal(held[0], np.zeros(SHAPE[1:]))
    np.testing.assert_allclose(held[1:], by_hand[1:], atol=1e-6)


def test_block_causal_frames_do_not_depend_on_later_blocks():
    params, x, cond = start()
    causal = dataclasses.replace(CONFIG, causal_frames=2)
    for config, expected in ((causal, np.kron([[1, 0], [1, 1]], np.ones((2, 2)))), (CONFIG, np.ones((4, 4)))):
        base = velocity(config, params, x, TIME, cond)
        moved = [velocity(config, params, x.at[i].add(0.1), TIME, cond) for i in range(4)]
        reach = np.stack([np.abs(y - base).max((1, 2, 3)) > 0 for y in moved], 1)  # [of this frame, from that frame]
        np.testing.assert_array_equal(reach, expected)


def test_padding_of_the_text_is_seen():
    """Wan attends to the padding too: zero vectors are not the same as no vectors."""
    params, x, cond = start()
    padded = dataclasses.replace(CONFIG, text_tokens=9)
    by_hand = dataclasses.replace(cond, text=jnp.pad(cond.text, ((0, 4), (0, 0))))
    np.testing.assert_allclose(
        velocity(padded, params, x, TIME, cond), velocity(CONFIG, params, x, TIME, by_hand), atol=1e-6
    )
    assert np.abs(velocity(CONFIG, params, x, TIME, cond) - velocity(CONFIG, params, x, TIME, by_hand)).max() > 1e-4


def test_prediction_of_the_clip_becomes_a_velocity():
    """x_t - v t is the network's output, at any time above the least one; below it the velocity stays bounded."""
    params, x, cond = start()
    sample = dataclasses.replace(CONFIG, prediction="sample")
    for t in (0.3, 0.9):
        clean = velocity(CONFIG, params, x, jnp.array(t), cond)  # the same network, its output taken as it is
        np.testing.assert_allclose(x - t * velocity(sample, params, x, jnp.array(t), cond), clean, atol=1e-5)
    clean = velocity(CONFIG, params, x, jnp.array(0.0), cond)
    np.testing.assert_allclose(velocity(sample, params, x, jnp.array(0.0), cond), (x - clean) / 0.05, rtol=1e-4)


def test_gradient_equals_finite_differences(float64):
    """To parameters, clip, time and text at once, along a random direction, at the best of several steps."""
    config = dataclasses.replace(CONFIG, param_dtype="float64")
    params, x, cond = start(config, jnp.float64)
    point = (jax.tree.map(lambda a: a.astype(jnp.float64), params), x, TIME.astype(jnp.float64), cond)
    leaves, structure = jax.tree.flatten(point)
    direction = jax.tree.unflatten(structure, [draw(10 + i, a.shape, jnp.float64) for i, a in enumerate(leaves)])

    @jax.jit
    @jax.value_and_grad
    def along(h, point):  # the value and its slope in one program; the slope is that of reverse mode to every array
        return jnp.sin(config.velocity(*jax.tree.map(lambda a, d: a + h * d, point, direction))).sum()

    at, exact = lambda h: along(h, point)[0], along(0.0, point)[1]
    errors = [abs((at(h) - at(-h)) / (2 * h) - exact) for h in (1e-4, 1e-5, 1e-6)]
    assert min(errors) < 1e-6 * abs(exact)


def test_remat_policies_agree_and_save_memory():
    config = dataclasses.replace(CONFIG, layers=8)
    params, _, cond = start(config)
    x = draw(0, (4, 16, 16, 2))
    results, memory = {}, {}
    for policy in REMAT:
        network = dataclasses.replace(config, remat=policy)
        run = jax.jit(jax.grad(lambda p, network=network: jnp.sin(network.velocity(p, x, TIME, cond)).sum()))
        compiled = run.lower(params).compile()
        results[policy], memory[policy] = compiled(params), compiled.memory_analysis().temp_size_in_bytes
    for policy in REMAT[1:]:
        for a, b in zip(jax.tree.leaves(results[policy]), jax.tree.leaves(results["none"])):
            np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, float(jnp.abs(b).max())))
    assert memory["full"] < 0.5 * memory["none"]
    assert memory["full"] < memory["attention"] < memory["none"]


def test_low_precision_keeps_time_and_modulation_in_float32():
    low = dataclasses.replace(CONFIG, param_dtype="bfloat16")
    params, x, cond = start(low)
    types = {jax.tree_util.keystr(p, simple=True, separator="/"): a.dtype for p, a in jax.tree.leaves_with_path(params)}
    assert types["blocks/self_attn/q/kernel"] == types["patch_embedding/kernel"] == jnp.bfloat16
    for path in ("blocks/modulation", "time_projection/kernel", "head/kernel", "blocks/norm3/scale"):
        assert types[path] == jnp.float32, path
    exact = velocity(CONFIG, jax.tree.map(lambda a: a.astype(jnp.float32), params), x, TIME, cond)
    out = velocity(low, params, x, TIME, cond)
    assert out.dtype == x.dtype
    np.testing.assert_allclose(out, exact, atol=0.05 * float(jnp.abs(exact).max()))


def test_vmap_equals_a_loop():
    params, x, cond = start()
    clips, times = jnp.stack([x, -0.5 * x]), jnp.array([0.2, 0.9])
    batch = jax.vmap(lambda x, t: velocity(CONFIG, params, x, t, cond))(clips, times)
    np.testing.assert_allclose(batch[1], velocity(CONFIG, params, clips[1], times[1], cond), atol=1e-6)


def test_a_patch_over_frames_takes_the_latest_of_their_times():
    config = dataclasses.replace(CONFIG, patch=(2, 2, 2))
    params, x, cond = start(config)
    a = velocity(config, params, x, jnp.array([0.1, 0.4, 0.7, 0.2]), cond)
    np.testing.assert_allclose(a, velocity(config, params, x, jnp.array([0.4, 0.4, 0.7, 0.7]), cond), atol=1e-6)


def test_bad_input_says_what_is_wrong():
    params, x, cond = start()
    run = lambda x=x, t=TIME, cond=cond, config=CONFIG, **o: config.velocity(params, x, t, cond, **o)
    with pytest.raises(ValueError, match=r"the model takes \(T, H, W, 2\) and 0 channels"):
        run(x[..., :1])
    with pytest.raises(ValueError, match="must be multiples of"):
        run(x[:, :3])
    with pytest.raises(ValueError, match="one per frame"):
        run(t=jnp.zeros(3))
    with pytest.raises(ValueError, match="any number of vectors of 6"):
        run(cond=Condition(text=jnp.zeros((3, 5))))
    with pytest.raises(ValueError, match="at most 4 vectors"):
        run(config=dataclasses.replace(CONFIG, text_tokens=4))
    with pytest.raises(ValueError, match="image branch"):
        run(cond=dataclasses.replace(cond, clip=jnp.zeros((3, 5))))
    with pytest.raises(ValueError, match="block_0 to block_1"):
        run(taps=("block_2",))
    with pytest.raises(ValueError, match="known and mask belong together"):
        run(cond=dataclasses.replace(cond, known=x))
    with pytest.raises(ValueError, match="no multiple of causal_frames=3"):
        run(config=dataclasses.replace(CONFIG, causal_frames=3))
    for change, message in (
        (dict(heads=5), "must be heads=5"),
        (dict(prediction="noise"), "'velocity' or 'sample'"),
        (dict(remat="some"), "remat must be one of"),
        (dict(attention="flash"), "attention must be one of"),
        (dict(freq_dim=7), "freq_dim must be even"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(CONFIG, **change)
