"""`.splat` files: 32 bytes per Gaussian, little endian, no header.

Centre 3 float32, standard deviations 3 float32 (not logarithms), colour and opacity RGBA 4 uint8, quaternion w x y z
4 uint8 as 128 + 128 q. There is no view-dependent colour, and colour lies in 0..1.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from jaxphys.checks import as_array
from jaxphys.files import atomic_path
from jaxphys.splats.gaussians import Gaussians, check_shapes

C0 = float(np.sqrt(1 / (4 * np.pi)))  # the constant harmonic: colour = 0.5 + C0 sh
RECORD = np.dtype([("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])


def read_splat(path: str | os.PathLike) -> Gaussians:
    """Reads a `.splat` file.

    Raises:
        ValueError: the size is no multiple of 32 bytes, no Gaussian, a value that is not finite, a negative scale, a
            zero quaternion.
        FileNotFoundError: no such file.
    """
    data = Path(path).read_bytes()
    if len(data) % RECORD.itemsize:
        raise ValueError(
            f"{path}: {len(data)} bytes are no multiple of {RECORD.itemsize}, the size of one Gaussian; the file is "
            "cut off or not a .splat"
        )
    table = np.frombuffer(data, RECORD)
    rgba = table["rgba"].astype(np.float64) / 255.0
    values = {
        "mean": table["mean"],
        "scale": table["scale"],
        "quat": (table["quat"].astype(np.float64) - 128.0) / 128.0,
        "opacity": rgba[:, 3],
        "sh": ((rgba[:, :3] - 0.5) / C0)[:, None],
    }
    return checked_gaussians(path, values)


def write_splat(path: str | os.PathLike, gaussians: Gaussians) -> None:
    """Writes a `.splat` file, complete or not at all. Centres and scales are exact; colour and opacity are rounded to
    1/255 (colour clipped to 0..1) and the quaternion to 1/128.

    Raises:
        ValueError: view-dependent colour, which the format cannot hold, or what `checked_arrays` refuses.

    >>> import tempfile
    >>> g = Gaussians.create([[0.0, 0.0, 1.0]], scale=0.1, color=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_splat(f"{folder}/one.splat", g)
    ...     read_splat(f"{folder}/one.splat").mean
    Array([[0., 0., 1.]], dtype=float32)
    """
    g = checked_arrays(path, gaussians)
    if gaussians.degree:
        raise ValueError(
            f"cannot write {path}: .splat holds no view-dependent colour, and these are of degree {gaussians.degree}; "
            "write .ply or .sog, or drop it with dataclasses.replace(gaussians, sh=gaussians.sh[:, :1])"
        )
    quat = g["quat"] / np.linalg.norm(g["quat"], axis=1, keepdims=True)
    table = np.zeros(len(quat), RECORD)
    table["mean"], table["scale"] = g["mean"], g["scale"]
    table["rgba"] = to_bytes(np.concatenate([0.5 + C0 * g["sh"][:, 0], g["opacity"][:, None]], 1))
    table["quat"] = np.clip(np.round(128.0 * quat + 128.0), 0, 255)
    with atomic_path(path) as temporary:
        temporary.write_bytes(table.tobytes())


def to_bytes(unit: np.ndarray) -> np.ndarray:
    """0..1 as 0..255, rounded and clipped."""
    return np.clip(np.round(255.0 * unit), 0, 255).astype(np.uint8)


def checked_gaussians(path, values: dict[str, np.ndarray]) -> Gaussians:
    """Gaussians of the float32 form of what a reader found.

    Raises:
        ValueError: none at all, a value that is not finite, a negative scale, a zero quaternion.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values = {name: np.asarray(value).astype(np.float32) for name, value in values.items()}
    n = len(values["mean"])
    if n == 0:
        raise ValueError(f"{path}: the file holds no Gaussians")
    for name, value in values.items():
        bad = ~np.isfinite(value).reshape(n, -1).all(-1)
        if bad.any():
            raise ValueError(
                f"{path}: {name} of {bad.sum()} Gaussians is not finite (first: vertex {int(np.argmax(bad))}); the "
                "file is damaged or its optimisation diverged: remove those vertices"
            )
    for name, bad, why in (
        ("rot_*", (values["quat"] == 0).all(-1), "zero, no rotation"),
        ("scale", (values["scale"] < 0).any(-1), "negative; a standard deviation is not"),
    ):
        if bad.any():
            raise ValueError(f"{path}: {name} of {bad.sum()} Gaussians (first: vertex {int(np.argmax(bad))}) is {why}")
    return Gaussians(**{name: as_array(value) for name, value in values.items()})


def checked_arrays(path, gaussians: Gaussians) -> dict[str, np.ndarray]:
    """The fields as float64 arrays that a file can hold.

    Raises:
        ValueError: wrong shapes, non-finite values, scale <= 0, opacity outside 0..1, a zero quaternion.
    """
    check_shapes(gaussians)
    g = {f.name: np.asarray(getattr(gaussians, f.name), np.float64) for f in dataclasses.fields(gaussians)}
    for name, value in g.items():
        if not np.isfinite(value.astype(np.float32)).all():
            raise ValueError(f"cannot write {path}: {name} holds values that are not finite in float32")
    if not (g["scale"] > 0).all():
        raise ValueError(f"cannot write {path}: scale must be > 0, the file stores its logarithm")
    if not ((g["opacity"] >= 0) & (g["opacity"] <= 1)).all():
        raise ValueError(f"cannot write {path}: opacity must lie in 0..1")
    if (g["quat"] == 0).all(-1).any():
        raise ValueError(f"cannot write {path}: quat holds a zero quaternion")
    return g
