"""Which tensor of a checkpoint file is which leaf of a tree of parameters.

A model's `keymap(config, dialect)` lists it for one dialect of names; `weights` reads and writes by it. A stack of
layers is one leaf here and one tensor per layer in a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

DIALECTS = ("diffusers", "original")
"""Whose names a file uses: those of diffusers and transformers, or those of the repositories of the authors."""

# layout: (tensor of a file -> array of the tree, and back); files keep output channels first
_LAYOUTS: dict[str, tuple[Callable, Callable]] = {
    "same": (lambda a: a, lambda a: a),
    "linear": (lambda a: a.T, lambda a: a.T),  # (out, in)
    "conv": (  # (out, in, *window) and (*window, in, out)
        lambda a: a.transpose(*range(2, a.ndim), 1, 0),
        lambda a: a.transpose(a.ndim - 1, a.ndim - 2, *range(a.ndim - 2)),
    ),
    "row": (lambda a: a.reshape(a.shape[1:]), lambda a: a.reshape(1, *a.shape)),
    "token": (lambda a: a.reshape(-1), lambda a: a.reshape(1, 1, -1)),
    "gamma2": (lambda a: a.reshape(a.shape[0]), lambda a: a.reshape(-1, 1, 1)),  # for images
    "gamma3": (lambda a: a.reshape(a.shape[0]), lambda a: a.reshape(-1, 1, 1, 1)),  # for videos
    "plane": (lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None]),  # a 1x1 convolution of images
}
CONVERT_BACK = {name: back for name, (_, back) in _LAYOUTS.items()}
"""By layout: the array of the tree, or of one layer of it, to the tensor of a file."""


@dataclass(frozen=True)
class Leaf:
    """One leaf of the tree and where its values are in a file."""

    path: tuple[str, ...]
    names: tuple[str, ...]  # the tensor; for a stacked leaf one per layer
    layout: str = "same"
    stacked: bool = False
    part: tuple[int, int] = (0, 1)  # (i, n): the i-th of n equal parts of the tensor along its first axis


@dataclass(frozen=True)
class KeyMap:
    """All leaves of a model in one dialect of names."""

    leaves: tuple[Leaf, ...]
    aliases: tuple[tuple[str, str], ...] = ()  # (other name, name): a file may hold either, or both
    ignored: tuple[str, ...] = ()  # patterns of tensors that belong to something else in the same file


def expand(rows: Iterable[tuple], layers: int = 0) -> list[Leaf]:
    """Leaves from rows (path, name, kind): `*` in a path marks a stack, `{}` in the name its layer.

    Kinds: linear, conv, plane (kernel and bias), product, window (linear, conv without bias), norm (scale and bias),
    scale (weight only); any layout for a bare tensor. A kind may be followed by "i/n": the i-th of n parts of a fused
    tensor.

    >>> expand([("blocks/*/q", "blocks.{}.to_q", "linear")], 2)[1].names
    ('blocks.0.to_q.bias', 'blocks.1.to_q.bias')
    """
    leaves = []
    for path, name, kind in rows:
        kind, _, part = kind.partition(" ")
        part = tuple(int(n) for n in part.split("/")) if part else (0, 1)
        stacked = "*" in path
        path = tuple(p for p in path.split("/") if p != "*")
        names = [name.format(i) for i in range(layers)] if stacked else [name]
        match kind:
            case "linear" | "conv" | "plane":
                entries = [("kernel", ".weight", kind), ("bias", ".bias", "same")]
            case "product":
                entries = [("kernel", ".weight", "linear")]
            case "window":
                entries = [("kernel", ".weight", "conv")]
            case "norm":
                entries = [("scale", ".weight", "same"), ("bias", ".bias", "same")]
            case "scale":
                entries = [("", ".weight", "same")]
            case _:
                entries = [("", "", kind)]
        for leaf, suffix, layout in entries:
            full = path + ((leaf,) if leaf else ())
            leaves.append(Leaf(full, tuple(n + suffix for n in names), layout, stacked, part))
    return leaves


def converted(leaf: Leaf, tensor: np.ndarray) -> np.ndarray:
    """A tensor of a file as this leaf holds it, or as one layer of the leaf holds it."""
    index, count = leaf.part
    return _LAYOUTS[leaf.layout][0](np.split(tensor, count)[index] if count > 1 else tensor)


def shapes(keymap: KeyMap, abstract: Any) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that a file of this dialect holds.

    Args:
        keymap: from a model's `keymap`.
        abstract: the tree of parameters, or of `jax.ShapeDtypeStruct`.
    """
    found = {}
    for leaf in keymap.leaves:
        shape = _at(abstract, leaf.path).shape[1 if leaf.stacked else 0 :]
        shape = jax.eval_shape(_LAYOUTS[leaf.layout][1], jax.ShapeDtypeStruct(shape, np.float32)).shape
        for name in leaf.names:
            found[name] = (shape[0] * leaf.part[1], *shape[1:])
    return found


def check(keymap: KeyMap, abstract: Any, found: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Raises ValueError unless a file's tensors are those of the model; returns {name: the name it has in the file}.

    Args:
        keymap: from a model's `keymap`.
        abstract: the tree of parameters, or of `jax.ShapeDtypeStruct`.
        found: name and shape of every tensor of the file.

    Raises:
        ValueError: a missing, extra or misshapen tensor, by name.
    """
    expected = shapes(keymap, abstract)
    where = {name: name for name in expected}
    where |= {name: other for other, name in keymap.aliases if name not in found and other in found}
    allowed = set(where.values()) | {other for other, _ in keymap.aliases}
    missing = [name for name in expected if where[name] not in found]
    extra = [n for n in found if n not in allowed and not any(re.fullmatch(p, n) for p in keymap.ignored)]
    wrong = [
        f"{name}: {tuple(found[where[name]])}, the model has {shape}"
        for name, shape in expected.items()
        if where[name] in found and tuple(found[where[name]]) != shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
        for what, names in (("missing", missing), ("not of this model", extra), ("of another shape", wrong))
        if names
    ]
    if problems:
        raise ValueError(
            "the tensors are not those of the model (wrong size, wrong dialect, or a file cut off?); "
            + "; ".join(problems)
        )
    return where


def to_tensors(keymap: KeyMap, params: Any) -> dict[str, np.ndarray]:
    """Named tensors from the tree of parameters."""
    parts: dict[str, dict[int, np.ndarray]] = {}
    for leaf in keymap.leaves:
        value = np.asarray(_at(params, leaf.path))
        for name, layer in zip(leaf.names, value if leaf.stacked else [value]):
            parts.setdefault(name, {})[leaf.part[0]] = _LAYOUTS[leaf.layout][1](layer)
    return {name: np.concatenate([p[i] for i in sorted(p)]) if len(p) > 1 else p[0] for name, p in parts.items()}


def _at(tree, path):
    for step in path:
        tree = tree[step]
    return tree
