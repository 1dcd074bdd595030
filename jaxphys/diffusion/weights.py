"""Weights from files and to files: safetensors, single or sharded by an index, and the `.pth` files of the authors.

A tensor is read when a leaf needs it, written once into the part of the leaf that each local device holds, and let go:
besides the parameters themselves, host memory holds one leaf and one tensor at a time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding, SingleDeviceSharding

from jaxphys.diffusion import dit, image, names, text, vae
from jaxphys.files import atomic_path
from jaxphys.torchfile import read_torch

_MODULES = {dit.WanConfig: dit, vae.VaeConfig: vae, text.TextConfig: text, image.ImageConfig: image}
_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "module.")  # that other programs put before every name

_SOURCES = {  # repository on the Hugging Face hub, and the folder in it
    "wan2.1-t2v-1.3b": [("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "transformer")],
    "wan2.1-t2v-14b": [("Wan-AI/Wan2.1-T2V-14B-Diffusers", "transformer")],
    "wan2.1-i2v-14b": [("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "transformer")],
    "wan2.2-t2v-a14b": [("Wan-AI/Wan2.2-T2V-A14B-Diffusers", "transformer"), ("", "transformer_2")],
    "wan2.2-i2v-a14b": [("Wan-AI/Wan2.2-I2V-A14B-Diffusers", "transformer"), ("", "transformer_2")],
    "wan2.2-ti2v-5b": [("Wan-AI/Wan2.2-TI2V-5B-Diffusers", "transformer")],
    "wan2.1-vae": [("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "vae")],
    "wan2.2-vae": [("Wan-AI/Wan2.2-TI2V-5B-Diffusers", "vae")],
    "umt5-xxl": [("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "text_encoder")],
    "clip-vit-h-14": [("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "image_encoder")],
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, not yet read."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def open_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """All tensors of a file, or of a folder with one file or an index, by name; nothing is read yet.

    Args:
        path: `.safetensors`, `.pth`, `.pt`, `*.index.json`, or a folder that holds one of these.

    Raises:
        FileNotFoundError: no such file, or one that an index names is missing.
        ValueError: a damaged file, a folder with several or none, another kind of file.
    """
    path = Path(path)
    if path.is_dir():
        path = _only(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.name.endswith(".index.json"):
        return _open_index(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if path.suffix in (".pth", ".pt"):
        return _open_torch(path)
    raise ValueError(f"{path}: weights are read from .safetensors, .pth, .pt and .index.json")


def _only(folder: Path) -> Path:
    for pattern in ("*.index.json", "*.safetensors", "*.pth", "*.pt"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{folder} holds {[f.name for f in found]}; give one of them")
    folders = sorted(f.name for f in folder.iterdir() if f.is_dir())
    hint = f"; it has the folders {folders}: give one of them" if folders else ""
    raise ValueError(f"{folder} holds no weights (.safetensors, .pth, .pt, .index.json){hint}")


def _open_index(path: Path) -> dict[str, Tensor]:
    try:
        where = json.loads(path.read_text())["weight_map"]
        parts = {file: path.parent / file for file in sorted(set(where.values()))}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not an index of weights, which has a weight_map ({error})") from error
    absent = [file for file, part in parts.items() if not part.is_file()]
    if absent:
        raise FileNotFoundError(f"{path} names files that are not there: {absent}; the download is not complete")
    tensors = {file: open_tensors(part) for file, part in parts.items()}
    lost = [name for name, file in where.items() if name not in tensors[file]]
    if lost:
        raise ValueError(f"{path}: {len(lost)} tensors are not in the files that it names, for example {lost[:4]}")
    return {name: tensors[file][name] for name, file in where.items()}


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="np")
        return {
            name: Tensor(tuple(file.get_slice(name).get_shape()), lambda name=name: file.get_tensor(name))
            for name in file.keys()
        }
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or cut off ({error}); copy or download it again") from error


def _open_torch(path: Path) -> dict[str, Tensor]:
    content = read_torch(path)
    for key in ("state_dict", "model", "params", "params_ema"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, np.ndarray) for v in content.values()):
        raise ValueError(f"{path}: holds no plain dictionary of tensors; save a state_dict alone")
    return {name: Tensor(value.shape, lambda value=value: value) for name, value in content.items()}


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The text that a safetensors file carries beside its tensors; empty for other files."""
    from safetensors import safe_open

    if Path(path).suffix != ".safetensors":
        return {}
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})


def load(config: Any, path: str | os.PathLike, *, sharding: Any = None) -> dict:
    """The parameters of a model, under the names of diffusers or of the authors, whichever the file uses.

    Args:
        config: of a transformer, autoencoder, text or image encoder. Leaves take its dtypes.
        path: see `open_tensors`.
        sharding: where the leaves live: one `jax.sharding.Sharding` for all, or a tree of them as
            `jaxphys.sharding.shardings(abstract, mesh, rules)` makes; default: the default device.

    Raises:
        FileNotFoundError: no such file; with the command that downloads it, for a published model.
        ValueError: a missing, extra or misshapen tensor, by name; or see `open_tensors`.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no such file or folder: {path}{_advice(config)}")
    return from_tensors(config, open_tensors(path), sharding=sharding)


def _advice(config) -> str:
    module = _MODULES[type(config)]
    found = [name for name, preset in module.PRESETS.items() if preset == config]
    lines = []
    for name in found:
        repository = ""
        for place, folder in _SOURCES[name]:
            repository = place or repository
            lines.append(f'hf download {repository} --include "{folder}/*" --local-dir models/{name}')
    return "".join(f"\n  {line}" for line in ["; download it, for example by", *lines]) if lines else ""


def from_tensors(config: Any, tensors: Mapping[str, Any], *, sharding: Any = None) -> dict:
    """The parameters from named tensors, in either dialect; see `load`.

    Args:
        config: as for `load`.
        tensors: arrays, or what `open_tensors` returns.
        sharding: as for `load`.

    Raises:
        ValueError: a missing, extra or misshapen tensor, by name.
    """
    tensors = _without_prefix(tensors)
    keymap = _MODULES[type(config)].keymap
    maps = [keymap(config, dialect) for dialect in names.DIALECTS]
    known = lambda found: sum(name in tensors for leaf in found.leaves for name in leaf.names)
    abstract = jax.eval_shape(config.init, jax.random.key(0))
    found = max(maps, key=known)
    where = names.check(found, abstract, {name: tuple(t.shape) for name, t in tensors.items()})
    if sharding is None:
        sharding = SingleDeviceSharding(jax.devices()[0])
    tree: dict = {}
    for leaf in found.leaves:
        at, shard, target = tree, sharding, abstract
        for step in leaf.path:
            target = target[step]
            shard = shard if isinstance(shard, Sharding) else shard[step]
        for step in leaf.path[:-1]:
            at = at.setdefault(step, {})
        at[leaf.path[-1]] = _placed(leaf, lambda name: value(tensors[where[name]]), target, shard)
    return tree


def value(tensor: Any) -> np.ndarray:
    """The values of a tensor, read now if it is in a file."""
    return tensor.read() if isinstance(tensor, Tensor) else np.asarray(tensor)


def _without_prefix(tensors):
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _placed(leaf: names.Leaf, read: Callable, target: jax.ShapeDtypeStruct, sharding: Sharding) -> jax.Array:
    """One leaf on its devices: each tensor is read once, and copied into the parts that hold a piece of it."""
    parts: dict = {}  # by index, since devices may hold the same
    indices = sharding.addressable_devices_indices_map(target.shape)
    key = lambda index: tuple(s.indices(n)[:2] for s, n in zip(index, target.shape))
    for index in indices.values():
        shape = tuple(stop - start for start, stop in key(index))
        parts.setdefault(key(index), np.empty(shape, target.dtype))
    for layer, name in enumerate(leaf.names):
        held = [(k, part) for k, part in parts.items() if not leaf.stacked or k[0][0] <= layer < k[0][1]]
        if not held:
            continue
        tensor = names.converted(leaf, read(name))
        for bounds, part in held:
            if leaf.stacked:
                part[layer - bounds[0][0]] = tensor[tuple(slice(*b) for b in bounds[1:])]
            else:
                part[...] = tensor[tuple(slice(*b) for b in bounds)]
    arrays = [jax.device_put(parts[key(index)], device) for device, index in indices.items()]
    jax.block_until_ready(arrays)  # a copy under way keeps the leaf, while the next one is read
    return jax.make_array_from_single_device_arrays(target.shape, sharding, arrays)


def save(config: Any, params: Any, path: str | os.PathLike, *, dialect: str = "diffusers") -> None:
    """Writes one safetensors file, which diffusers, transformers or the programs of the authors read.

    Args:
        config: of the model.
        params: its parameters.
        path: ends in `.safetensors`.
        dialect: whose names: "diffusers" or "original".

    Raises:
        ValueError: another suffix, or a folder that does not exist.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got {path}")
    tensors = names.to_tensors(_MODULES[type(config)].keymap(config, dialect), params)
    write_safetensors(tensors, path)


def write_safetensors(
    tensors: Mapping[str, np.ndarray], path: str | os.PathLike, metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file, whole or not at all."""
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        # The library writes the memory behind an array as it lies, so a transposed view must be laid out first.
        whole = {name: np.asarray(value, order="C") for name, value in tensors.items()}
        save_file(whole, temporary, metadata={"format": "pt", **(metadata or {})})
