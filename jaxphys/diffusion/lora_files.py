"""Files of adapters in the three dialects of names that are in use, for Wan transformers.

peft      transformer.blocks.0.attn1.to_q.lora_A.weight, .lora_B.weight (diffusers; base_model.model. before it: peft)
original  diffusion_model.blocks.0.self_attn.q.lora_A.weight (or lora_down), .alpha, .diff, .diff_b, .diff_m
kohya     lora_unet_blocks_0_self_attn_q.lora_down.weight, .lora_up.weight, .alpha

The change is alpha / r up down, with alpha = r where none is given. `.diff` is a change of a weight, `.diff_b` of a
bias, `.diff_m` of a table of modulation.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.diffusion import dit, lora, names, weights

DIALECTS = ("peft", "original", "kohya")
_PREFIX = re.compile(r"^(base_model\.model\.|transformer\.|model\.diffusion_model\.|diffusion_model\.)*")
_KINDS = {  # end of a name: what it is
    r"\.lora_(A|down)(\.default)?\.weight": "down",
    r"\.lora_(B|up)(\.default)?\.weight": "up",
    r"\.lora_(B|up)(\.default)?\.bias": "bias",
    r"\.alpha": "alpha",
    r"\.diff": "weight",
    r"\.diff_b": "bias",
    r"\.diff_m": "modulation",
}


def _tables(config) -> tuple[dict[str, tuple[names.Leaf, int]], dict[str, str]]:
    """(leaf and layer of every tensor in both dialects of weights, its module by the name that kohya gives it)"""
    leaves, flat = {}, {}
    for dialect in names.DIALECTS:
        for leaf in dit.keymap(config, dialect).leaves:
            for layer, name in enumerate(leaf.names):
                leaves[name] = (leaf, layer)
                module = name.removesuffix(".weight").removesuffix(".bias").removesuffix(".modulation")
                flat[module.replace(".", "_")] = module
    return leaves, flat


def read(config: dit.WanConfig, path: str | os.PathLike) -> dict[str, dict[str, jax.Array]]:
    """The adapter in a file, in any of the dialects; see `lora`. In float32.

    Args:
        config: of the model that it was trained for.
        path: `.safetensors`, `.pt` or `.pth`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a tensor that the model has no place for, half a pair, a shape that does not fit, by name.
    """
    return from_tensors(config, weights.open_tensors(path), weights.read_metadata(path))


def from_tensors(
    config: dit.WanConfig, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> dict[str, dict[str, jax.Array]]:
    """The adapter in named tensors; see `read`. `metadata` may hold the alpha that diffusers saves."""
    leaves, flat = _tables(config)
    modules: dict[str, dict[str, Any]] = {}
    unknown = []
    for name, tensor in tensors.items():
        kind, module = _parse(name, flat)
        target = module + {"bias": ".bias", "modulation": ".modulation"}.get(kind or "", ".weight")
        if kind is None or target not in leaves:
            unknown.append(name)
        else:
            modules.setdefault(module, {})[kind] = np.asarray(weights.value(tensor))
    if unknown:
        raise ValueError(
            f"LoRA: the model has no place for {len(unknown)} tensors: {', '.join(unknown[:8])}"
            f"{', ...' if len(unknown) > 8 else ''} (of another model, or a kind other than LoRA?)"
        )
    alpha = json.loads((metadata or {}).get("lora_adapter_metadata", "{}")).get("transformer.lora_alpha")
    parts: dict[str, dict[str, dict[int, np.ndarray]]] = {}  # path -> down, up, delta -> layer
    for module, found in modules.items():
        if "alpha" in found and len(found) == 1:
            continue
        if ("down" in found) != ("up" in found):
            raise ValueError(f"LoRA: {module} has {sorted(found)}: the other half of the pair is missing")
        if "down" in found:
            leaf, layer = leaves[f"{module}.weight"]
            down, up = _factors(module, leaf, found["down"], found["up"], alpha=found.get("alpha", alpha))
            entry = parts.setdefault("/".join(leaf.path), {})
            entry.setdefault("down", {})[layer], entry.setdefault("up", {})[layer] = down, up
        for kind in ("weight", "bias", "modulation"):
            if kind in found:
                leaf, layer = leaves[f"{module}.{kind}"]
                delta = names.converted(leaf, found[kind].astype(np.float32))
                parts.setdefault("/".join(leaf.path), {}).setdefault("delta", {})[layer] = delta
    return _checked(config, {path: _stacked(config, path, entry) for path, entry in parts.items()})


def _parse(name, flat):
    """(kind, module) of a tensor; kind None: not an adapter's."""
    for pattern, kind in _KINDS.items():
        match = re.search(pattern + "$", name)
        if match:
            module = name[: match.start()]
            if module.startswith("lora_unet_"):
                return kind, flat.get(module.removeprefix("lora_unet_"), module)
            return kind, _PREFIX.sub("", module)
    return None, name


def _factors(module, leaf, down, up, alpha):
    """down (..., in, r) and up (r, out), with alpha / r in up."""
    rank = down.shape[0]
    if up.ndim != down.ndim or up.shape[1] != rank:
        raise ValueError(f"LoRA: the factors of {module} have the shapes {down.shape} and {up.shape}")
    factor = 1.0 if alpha is None else np.asarray(alpha).item() / rank
    down, up = (names.converted(replace(leaf, part=(0, 1)), x.astype(np.float32)) for x in (down, up))
    return down, factor * up.reshape(up.shape[-2:])


def _stacked(config, path, entry):
    """Layers of one leaf together; those that a file leaves out are 0, and a lower rank is filled up with zeros."""
    rank = max((x.shape[-1] for x in entry.get("down", {}).values()), default=0)
    result = {}
    for name, layers in entry.items():
        some = next(iter(layers.values()))
        shape = {"down": (*some.shape[:-1], rank), "up": (rank, some.shape[-1])}.get(name, some.shape)
        whole = np.zeros((config.layers, *shape) if path.startswith("blocks/") else shape, np.float32)
        for layer, x in layers.items():
            at = whole[layer] if path.startswith("blocks/") else whole
            if any(n > m for n, m in zip(x.shape, at.shape)):
                raise ValueError(f"LoRA: the layers of {path} differ in shape: {x.shape} and {shape}")
            at[tuple(slice(n) for n in x.shape)] = x
        result[name] = jnp.asarray(whole)
    return result


def _checked(config, adapter):
    """The adapter, if its changes have the shapes of the leaves."""
    abstract = jax.eval_shape(config.init, jax.random.key(0))
    jax.eval_shape(lora.merge, abstract, adapter)
    return adapter


def to_tensors(config: dit.WanConfig, adapter: lora.Adapter, dialect: str) -> dict[str, np.ndarray]:
    """Named tensors of an adapter.

    Raises:
        ValueError: an unknown dialect, a leaf that the model has not, or a change that the dialect has no name for.
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {DIALECTS}, got {dialect!r}")
    leaves = {"/".join(x.path): x for x in dit.keymap(config, "diffusers" if dialect == "peft" else "original").leaves}
    tensors = {}
    for path, entry in adapter.items():
        if path not in leaves:
            raise ValueError(f"LoRA: the model has no {path}")
        leaf = leaves[path]
        for layer, name in enumerate(leaf.names):
            module, _, kind = name.rpartition(".")
            pick = lambda x: np.asarray(x[layer] if leaf.stacked else x)  # noqa: B023
            before = {
                "peft": f"transformer.{module}",
                "original": f"diffusion_model.{module}",
                "kohya": f"lora_unet_{module.replace('.', '_')}",
            }[dialect]
            if "down" in entry:
                down, up = names.CONVERT_BACK[leaf.layout](pick(entry["down"])), pick(entry["up"])
                up = up.T.reshape(up.shape[1], up.shape[0], *(1,) * (down.ndim - 2))
                a, b = ("lora_down", "lora_up") if dialect == "kohya" else ("lora_A", "lora_B")
                tensors[f"{before}.{a}.weight"], tensors[f"{before}.{b}.weight"] = down, up
                if dialect == "kohya":
                    tensors[f"{before}.alpha"] = np.float32(down.shape[0]).reshape(())
            if "delta" in entry:
                end = {"weight": ".diff", "bias": ".diff_b", "modulation": ".diff_m"}.get(kind)
                if dialect == "peft":
                    paired = "down" in adapter.get(path.removesuffix("/bias") + "/kernel", {})
                    end = ".lora_B.bias" if kind == "bias" and paired else None
                if end is None:
                    raise ValueError(
                        f"LoRA: the dialect {dialect!r} has no name for a whole change of {path}; write 'original'"
                    )
                tensors[before + end] = names.CONVERT_BACK[leaf.layout](pick(entry["delta"]))
    return tensors


def write(config: dit.WanConfig, adapter: lora.Adapter, path: str | os.PathLike, *, dialect: str = "peft") -> None:
    """Writes an adapter as safetensors.

    Args:
        config: of the model.
        adapter: see `lora`.
        path: ends in `.safetensors`.
        dialect: one of `DIALECTS`.

    Raises:
        ValueError: another suffix; or see `to_tensors`.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"adapters are written as .safetensors, got {path}")
    weights.write_safetensors(to_tensors(config, adapter, dialect), path)
