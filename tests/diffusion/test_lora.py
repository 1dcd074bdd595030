"""Adapters: what they change, their gradients, and files in three dialects."""

import dataclasses
import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxphys.diffusion import lora, lora_files, names
from jaxphys.diffusion.dit import WanConfig, keymap
from jaxphys.diffusion.protocol import Condition

CONFIG = WanConfig(dim=12, ffn_dim=16, heads=1, layers=3, in_channels=2, out_channels=2, text_dim=4, freq_dim=4)
Q = "blocks/self_attn/q/kernel"


def random(tree, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), dtype), tree)


def start(dtype=jnp.float32):
    """(parameters, adapter of every kind, function of the parameters)"""
    params = random(jax.eval_shape(CONFIG.init, jax.random.key(0)), dtype=dtype)
    adapter = random(jax.eval_shape(lambda: lora.init(params, 2, jax.random.key(0))), 1, dtype)
    adapter["head/kernel"] = random({"down": jnp.ones((12, 2)), "up": jnp.ones((2, 8))}, 2, dtype)
    adapter["patch_embedding/kernel"] = random({"down": jnp.ones((1, 2, 2, 2, 3)), "up": jnp.ones((3, 12))}, 3, dtype)
    adapter["blocks/norm3/scale"] = random({"delta": jnp.ones((3, 12))}, 4, dtype)
    adapter["blocks/self_attn/q/bias"] = random({"delta": jnp.ones((3, 12))}, 5, dtype)
    adapter["blocks/modulation"] = random({"delta": jnp.ones((3, 6, 12))}, 6, dtype)
    x, text = random((jnp.ones((2, 4, 4, 2)), jnp.ones((3, 4))), 7, dtype)
    return params, adapter, jax.jit(lambda p: CONFIG.velocity(p, x, jnp.array(0.4, dtype), Condition(text)))


def test_a_fresh_adapter_changes_nothing_and_has_the_named_targets():
    params, _, velocity = start()
    fresh = lora.init(params, 4, jax.random.key(0))
    np.testing.assert_array_equal(velocity(lora.attach(params, fresh)), velocity(params))
    modules = {f"blocks/{a}/{n}/kernel" for a in ("self_attn", "cross_attn") for n in "qkvo"}
    assert set(fresh) == modules | {"blocks/ffn/first/kernel", "blocks/ffn/second/kernel"}
    assert abs(float(fresh[Q]["down"].std()) - 12**-0.5) < 0.05
    only = lora.init(params, 1, jax.random.key(0), targets=r"head/kernel|blocks/cross_attn/[kv]/kernel")
    assert set(only) == {"head/kernel", "blocks/cross_attn/k/kernel", "blocks/cross_attn/v/kernel"}


def test_merged_equals_attached_equals_the_sum_by_hand():
    params, adapter, velocity = start()
    merged = lora.merge(params, adapter, 0.7)
    expected = params["blocks"]["self_attn"]["q"]["kernel"] + 0.7 * np.einsum(
        "lir,lro->lio", adapter[Q]["down"], adapter[Q]["up"]
    )
    np.testing.assert_allclose(merged["blocks"]["self_attn"]["q"]["kernel"], expected, atol=1e-6)
    np.testing.assert_allclose(velocity(lora.attach(params, adapter, 0.7)), velocity(merged), atol=1e-5)
    twice = lora.attach(lora.attach(params, adapter, 0.3), adapter, 0.4)
    np.testing.assert_allclose(velocity(twice), velocity(merged), atol=1e-5)
    assert np.abs(velocity(merged) - velocity(params)).max() > 0.05


def test_gradient_to_the_adapter_equals_finite_differences(float64):
    params, adapter, velocity = start(jnp.float64)
    direction = random(adapter, 9, jnp.float64)

    @jax.jit
    @jax.value_and_grad
    def along(h):  # the value and its slope in one program; the slope is that of reverse mode to every array
        return jnp.sin(velocity(lora.attach(params, jax.tree.map(lambda a, d: a + h * d, adapter, direction)))).sum()

    at, exact = lambda h: along(h)[0], along(0.0)[1]
    assert min(abs((at(h) - at(-h)) / (2 * h) - exact) for h in (1e-4, 1e-5, 1e-6)) < 1e-6 * abs(exact)


def test_attaching_makes_no_second_copy_of_the_weights():
    wide = dataclasses.replace(CONFIG, dim=96, ffn_dim=384, layers=16)
    params = jax.eval_shape(wide.init, jax.random.key(0))
    adapter = jax.eval_shape(lambda: lora.init(params, 2, jax.random.key(0)))
    x, cond = jnp.ones((1, 4, 4, 2)), Condition(jnp.ones((3, 4)))

    def memory(join):
        grad = jax.grad(lambda a, p: wide.velocity(join(p, a), x, jnp.array(0.4), cond).sum())
        return jax.jit(grad).lower(adapter, params).compile().memory_analysis().temp_size_in_bytes

    weights = sum(a.size * 4 for a in jax.tree.leaves(params["blocks"]))
    assert memory(lora.attach) < 0.3 * weights < 1.0 * weights < memory(lora.merge)


@pytest.mark.parametrize("dialect", lora_files.DIALECTS)
def test_written_and_read(dialect, tmp_path):
    """Everything in the original's names; kohya has the same kinds; peft has factors, and biases beside them."""
    _, adapter, _ = start()
    if dialect == "peft":
        adapter = {p: e for p, e in adapter.items() if p not in ("blocks/norm3/scale", "blocks/modulation")}
    lora_files.write(CONFIG, adapter, tmp_path / "adapter.safetensors", dialect=dialect)
    again = lora_files.read(CONFIG, tmp_path / "adapter.safetensors")
    assert {p: set(e) for p, e in again.items()} == {p: set(e) for p, e in adapter.items()}
    for path, entry in adapter.items():
        for name, value in entry.items():
            np.testing.assert_allclose(again[path][name], value, atol=1e-6)


def test_names_of_each_dialect():
    _, adapter, _ = start()
    small = {p: adapter[p] for p in (Q, "blocks/ffn/first/kernel")}
    tensors = {d: lora_files.to_tensors(CONFIG, small, d) for d in lora_files.DIALECTS}
    assert tensors["peft"]["transformer.blocks.2.attn1.to_q.lora_A.weight"].shape == (2, 12)
    assert tensors["peft"]["transformer.blocks.2.ffn.net.0.proj.lora_B.weight"].shape == (16, 2)
    assert tensors["original"]["diffusion_model.blocks.0.self_attn.q.lora_A.weight"].shape == (2, 12)
    assert tensors["kohya"]["lora_unet_blocks_0_self_attn_q.lora_down.weight"].shape == (2, 12)
    assert tensors["kohya"]["lora_unet_blocks_0_ffn_0.alpha"] == 2.0
    whole = lora_files.to_tensors(CONFIG, adapter, "original")
    for name in ("blocks.1.diff_m", "blocks.1.norm3.diff", "blocks.1.self_attn.q.diff_b", "head.head.lora_B.weight"):
        assert f"diffusion_model.{name}" in whole
    assert whole["diffusion_model.patch_embedding.lora_A.weight"].shape == (3, 2, 1, 2, 2)


def test_alpha_other_ranks_and_absent_layers(tmp_path):
    """alpha / r multiplies the change; layers that a file leaves out stay as they are; ranks may differ."""
    rng = np.random.default_rng(3)
    down, up = rng.normal(size=(4, 12)).astype(np.float32), rng.normal(size=(12, 4)).astype(np.float32)
    tensors = {
        "lora_unet_blocks_1_self_attn_q.lora_down.weight": down,
        "lora_unet_blocks_1_self_attn_q.lora_up.weight": up,
        "lora_unet_blocks_1_self_attn_q.alpha": np.float32(1.0).reshape(()),
        "lora_unet_blocks_2_self_attn_q.lora_down.weight": down[:2],
        "lora_unet_blocks_2_self_attn_q.lora_up.weight": up[:, :2],
    }
    change = lora.change(lora_files.from_tensors(CONFIG, tensors)[Q])
    np.testing.assert_allclose(change[0], np.zeros((12, 12)))
    np.testing.assert_allclose(change[1], 0.25 * (up @ down).T, atol=1e-5)
    np.testing.assert_allclose(change[2], (up[:, :2] @ down[:2]).T, atol=1e-5)
    peft = {"transformer.blocks.1.attn1.to_q.lora_A.weight": down, "transformer.blocks.1.attn1.to_q.lora_B.weight": up}
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 2, "transformer.r": 4})}
    save_file(peft, tmp_path / "a.safetensors", metadata=metadata)
    read = lora_files.read(CONFIG, tmp_path / "a.safetensors")
    np.testing.assert_allclose(lora.change(read[Q])[1], 0.5 * (up @ down).T, atol=1e-5)
    peft = {f"base_model.model.{n.removeprefix('transformer.')}": v for n, v in peft.items()}
    np.testing.assert_allclose(lora.change(lora_files.from_tensors(CONFIG, peft)[Q])[1], (up @ down).T, atol=1e-5)


def test_names_agree_with_the_converters_of_diffusers():
    """Live, with the parity extra: what we write in two dialects becomes what we write in the third."""
    if importlib.util.find_spec("diffusers") is None:
        pytest.skip("the parity extra is not installed")
    import torch
    from diffusers.loaders import lora_conversion_utils as theirs

    params, _, _ = start()
    adapter = random(lora.init(params, 2, jax.random.key(0)), 1)
    tensors = {d: {n: torch.from_numpy(np.array(v)) for n, v in lora_files.to_tensors(CONFIG, adapter, d).items()}
               for d in lora_files.DIALECTS}  # fmt: skip
    for converted in (
        theirs._convert_non_diffusers_wan_lora_to_diffusers(tensors["original"]),
        theirs._convert_musubi_wan_lora_to_diffusers(tensors["kohya"]),
    ):
        assert set(converted) == set(tensors["peft"])
        assert all(torch.allclose(converted[n], v) for n, v in tensors["peft"].items())


def test_bad_adapters_are_named(tmp_path):
    params, adapter, _ = start()
    with pytest.raises(ValueError, match="rank must be at least 1"):
        lora.init(params, 0, jax.random.key(0))
    with pytest.raises(ValueError, match="no leaf matches 'nothing'"):
        lora.init(params, 1, jax.random.key(0), targets="nothing")
    with pytest.raises(ValueError, match="are no matrices"):
        lora.init(params, 1, jax.random.key(0), targets=r"blocks/norm3/scale")
    with pytest.raises(ValueError, match="the parameters have no blocks/other/kernel"):
        lora.merge(params, {"blocks/other/kernel": adapter[Q]})
    with pytest.raises(ValueError, match=r"head/kernel has the shape \(12, 8\), and its change \(3, 12, 12\)"):
        lora.merge(params, {"head/kernel": adapter[Q]})
    half = {"transformer.blocks.1.attn1.to_q.lora_A.weight": np.zeros((2, 12))}
    with pytest.raises(ValueError, match=r"blocks\.1\.attn1\.to_q has \['down'\]: the other half"):
        lora_files.from_tensors(CONFIG, half)
    both = half | {"transformer.blocks.1.attn1.to_q.lora_B.weight": np.zeros((12, 3))}
    with pytest.raises(ValueError, match=r"the factors of blocks\.1\.attn1\.to_q"):
        lora_files.from_tensors(CONFIG, both)
    wrong = {n: np.zeros(s) for n, s in zip(both, ((2, 13), (12, 2)))}
    with pytest.raises(ValueError, match=r"self_attn/q/kernel has the shape \(3, 12, 12\)"):
        lora_files.from_tensors(CONFIG, wrong)
    for name in ("transformer.blocks.9.attn1.to_q.lora_A.weight", "diffusion_model.blocks.0.self_attn.q.dora_scale"):
        with pytest.raises(ValueError, match=rf"no place for 1 tensors: {name}"):
            lora_files.from_tensors(CONFIG, {name: np.zeros((2, 12))})
    with pytest.raises(ValueError, match="the dialect 'peft' has no name for a whole change of blocks/norm3/scale"):
        lora_files.to_tensors(CONFIG, adapter, "peft")
    with pytest.raises(ValueError, match="dialect must be one of"):
        lora_files.to_tensors(CONFIG, adapter, "comfy")
    with pytest.raises(ValueError, match=r"written as \.safetensors"):
        lora_files.write(CONFIG, adapter, tmp_path / "a.pt")
    assert {leaf.layout for leaf in keymap(CONFIG, "original").leaves} <= set(names.CONVERT_BACK)
