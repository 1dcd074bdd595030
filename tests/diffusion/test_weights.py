"""Weights: names of every published size, files of every kind, straight onto a mesh, and errors that name tensors."""

import dataclasses
import json
import re
import runpy
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxphys.diffusion import dit, image, layout, names, text, vae, weights
from jaxphys.sharding import make_mesh, shardings

GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = json.loads((GOLDEN / "keys.json").read_text())
SMALL = dit.WanConfig(dim=12, ffn_dim=8, heads=1, layers=2, in_channels=4, out_channels=4, text_dim=4, freq_dim=4)
MODELS = [
    SMALL,
    dataclasses.replace(SMALL, in_channels=8, image_dim=6, param_dtype="bfloat16"),
    vae.VaeConfig(2, base=4, mean=(0.0,) * 2, std=(1.0,) * 2, multipliers=(1, 2), temporal=(True,), blocks=1),
    vae.VaeConfig(2, 4, (0.0,) * 2, (1.0,) * 2, multipliers=(2, 2), temporal=(True,), shortcuts=True, patch=2),
    text.TextConfig(vocabulary=10, dim=8, heads=2, head_dim=4, ffn_dim=16, layers=2),
    image.ImageConfig(dim=8, ffn_dim=16, heads=2, layers=2, size=4, patch=2),
]


def start(config, seed=0):
    """Parameters without a random generator of JAX, which compiles slowly."""
    rng = np.random.default_rng(seed)
    abstract = jax.eval_shape(config.init, jax.random.key(0))
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), abstract)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def unfolded(names):
    """Equal layers are one line in the list: "blocks.{40}.name"."""
    for name, shape in names.items():
        count = re.search(r"\{(\d+)\}", name)
        for i in range(int(count[1]) if count else 1):
            yield name.replace(count[0], str(i)) if count else name, tuple(shape)


@pytest.mark.parametrize("name", list(KEYS))
def test_every_tensor_of_a_published_model_has_its_place(name):
    module = next(m for m in (dit, vae, text, image) if name in m.PRESETS)
    config = module.PRESETS[name]
    abstract = jax.eval_shape(config.init, jax.random.key(0))
    for dialect in names.DIALECTS:
        found = dict(unfolded(KEYS[name][dialect]))
        keymap = module.keymap(config, dialect)
        where = names.check(keymap, abstract, found)  # raises on any that is missing, extra or misshapen
        used, apart = set(where.values()), {other for other, _ in keymap.aliases}
        left = [n for n in found if n not in used | apart]
        assert all(name == "clip-vit-h-14" and any(re.fullmatch(p, n) for p in keymap.ignored) for n in left)
    count = sum(int(np.prod(a.shape)) for a in jax.tree.leaves(abstract))
    if name != "clip-vit-h-14":  # of which the last layer and the text encoder are left out
        assert count == sum(int(np.prod(shape)) for _, shape in unfolded(KEYS[name]["original"]))


@pytest.mark.parametrize("dialect", names.DIALECTS)
@pytest.mark.parametrize("index", range(len(MODELS)))
def test_saved_and_loaded(index, dialect, tmp_path):
    config = MODELS[index]
    params = start(config)
    weights.save(config, params, tmp_path / "model.safetensors", dialect=dialect)
    equal(weights.load(config, tmp_path / "model.safetensors"), params)
    equal(weights.load(config, tmp_path), params)  # the folder


def test_file_that_torch_wrote():
    """bfloat16 in the file, float32 in the model."""
    tensor = runpy.run_path(str(GOLDEN / "seeded.py"))["tensor"]
    params = weights.load(SMALL, GOLDEN / "transformer.pth")
    expected = tensor("blocks.1.attn1.to_q.weight", (12, 12)).T.astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(params["blocks"]["self_attn"]["q"]["kernel"][1], expected.astype(np.float32))
    assert params["blocks"]["self_attn"]["q"]["kernel"].dtype == jnp.float32


def test_file_sharded_by_an_index(tmp_path):
    params = start(SMALL)
    tensors = {n: np.ascontiguousarray(v) for n, v in names.to_tensors(dit.keymap(SMALL, "diffusers"), params).items()}
    where = {name: f"part-{i % 3}.safetensors" for i, name in enumerate(tensors)}
    for part in sorted(set(where.values())):
        save_file({n: v for n, v in tensors.items() if where[n] == part}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    equal(weights.load(SMALL, tmp_path), params)
    index.write_text(json.dumps({"weight_map": where | {"more.weight": "part-0.safetensors"}}))
    with pytest.raises(ValueError, match=r"1 tensors are not in the files.*more\.weight"):
        weights.load(SMALL, tmp_path)
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"part-1\.safetensors.*not complete"):
        weights.load(SMALL, tmp_path)
    index.write_text("[]")
    with pytest.raises(ValueError, match="not an index of weights"):
        weights.load(SMALL, index)


def test_prefixes_of_other_programs_are_taken_off():
    params = start(SMALL)
    tensors = names.to_tensors(dit.keymap(SMALL, "original"), params)
    equal(weights.from_tensors(SMALL, {f"model.diffusion_model.{n}": v for n, v in tensors.items()}), params)


def test_straight_onto_a_mesh(tmp_path):
    config = dataclasses.replace(SMALL, dim=16, ffn_dim=32, heads=2)
    params = start(config)
    weights.save(config, params, tmp_path / "model.safetensors")
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    places = shardings(jax.eval_shape(config.init, jax.random.key(0)), mesh, layout.PARAMETERS)
    loaded = weights.load(config, tmp_path, sharding=places)
    equal(loaded, params)
    for leaf, place in zip(jax.tree.leaves(loaded), jax.tree.leaves(places)):
        assert leaf.sharding == place
    kernel = loaded["blocks"]["ffn"]["first"]["kernel"]
    assert {s.data.shape for s in kernel.addressable_shards} == {(2, 8, 16)}  # a quarter on each device


def test_host_memory_holds_one_leaf_beside_the_parameters(tmp_path, monkeypatch):
    """Every array that NumPy allocates is counted, and what else Python does meanwhile; what JAX keeps is not."""
    config = dataclasses.replace(SMALL, dim=160, ffn_dim=640, heads=2, layers=12)  # leaves are large beside the rest
    weights.save(config, start(config), tmp_path / "model.safetensors")
    sizes = [a.size * 4 for a in jax.tree.leaves(jax.eval_shape(config.init, jax.random.key(0)))]
    monkeypatch.setattr(jax, "device_put", lambda x, device: jnp.array(x, copy=True, device=device))
    weights.load(config, tmp_path)  # what is compiled and cached at first does not count
    tracemalloc.start()
    weights.load(config, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(sizes) <= peak < 1.5 * max(sizes) < 0.5 * sum(sizes)


def test_wrong_tensors_are_named():
    tensors = names.to_tensors(dit.keymap(SMALL, "diffusers"), start(SMALL))
    few = {n: v for n, v in tensors.items() if n != "blocks.1.attn2.to_k.bias"}
    with pytest.raises(ValueError, match=r"1 missing: blocks\.1\.attn2\.to_k\.bias"):
        weights.from_tensors(SMALL, few)
    with pytest.raises(ValueError, match=r"1 not of this model: blocks\.0\.more"):
        weights.from_tensors(SMALL, tensors | {"blocks.0.more": np.zeros(1)})
    with pytest.raises(ValueError, match=r"proj_out\.bias: \(3,\), the model has \(16,\)"):
        weights.from_tensors(SMALL, tensors | {"proj_out.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"missing: .*, \.\.\."):
        weights.from_tensors(SMALL, {"something.else": np.zeros(1)})


def test_bad_files_are_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r'hf download Wan-AI/Wan2\.1-T2V-1\.3B-Diffusers --include "transformer/'
    ):
        weights.load(dit.PRESETS["wan2.1-t2v-1.3b"], tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*absent$"):
        weights.load(SMALL, tmp_path / "absent")
    with pytest.raises(ValueError, match="holds no weights"):
        weights.load(SMALL, tmp_path)
    (tmp_path / "transformer").mkdir()
    with pytest.raises(ValueError, match=r"it has the folders \['transformer'\]"):
        weights.load(SMALL, tmp_path)
    path = tmp_path / "cut.safetensors"
    weights.save(SMALL, start(SMALL), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.safetensors: damaged or cut off"):
        weights.load(SMALL, path)
    (tmp_path / "other.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="give one of them"):
        weights.load(SMALL, tmp_path)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"read from \.safetensors"):
        weights.load(SMALL, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match=r"written as \.safetensors"):
        weights.save(SMALL, start(SMALL), tmp_path / "model.bin")
