"""Splat files by suffix, and the PLY layout of 3D Gaussian Splatting (`.splat` and SOG have files of their own).

PLY: element `vertex`, found by property name: x y z; f_dc_0..2; f_rest_0.. (0, 9, 24 or 45 of them for degree 0..3,
channel-major: all of red, then green, then blue); opacity (a logit); scale_0..2 (natural logarithms);
rot_0..3 (quaternion w, x, y, z of any length). Colour = 0.5 + SH. The y axis usually points down: see
`Gaussians.transform` and `Y_DOWN_TO_Z_UP`.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from jaxphys.files import atomic_path
from jaxphys.splats.gaussians import Gaussians
from jaxphys.splats.sog import read_sog, write_sog
from jaxphys.splats.splat_file import checked_arrays, checked_gaussians, read_splat, write_splat

_TYPES = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
_TYPES |= {"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"}
_TYPES |= {"float32": "f4", "float64": "f8"}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_REQUIRED = ("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2")
_REQUIRED += ("rot_0", "rot_1", "rot_2", "rot_3")


@dataclasses.dataclass
class _Element:
    name: str
    count: int
    properties: list  # (name, numpy type) pairs


def read(path: str | os.PathLike) -> Gaussians:
    """Reads a splat file by its suffix: .ply, .splat, .sog or meta.json; or a folder that holds one.

    A folder is an unbundled SOG, or the output of a 3D Gaussian Splatting run, of which the last
    `point_cloud/iteration_*/point_cloud.ply` is read.

    Raises:
        ValueError: another suffix, an empty folder, or what the reader of the format refuses.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.is_dir():
        path = _file_in(path)
    readers = {".ply": read_ply, ".splat": read_splat, ".sog": read_sog, ".json": read_sog}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: splats are read from {', '.join(readers)} (SOG's meta.json), got {path.suffix!r}")
    return readers[path.suffix.lower()](path)


def write(path: str | os.PathLike, gaussians: Gaussians) -> None:
    """Writes a splat file by its suffix: .ply (exact), .splat or .sog or FOLDER/meta.json (quantised).

    Raises:
        ValueError: another suffix, or what the writer of the format refuses; nothing is written.
    """
    writers = {".ply": write_ply, ".splat": write_splat, ".sog": write_sog, ".json": write_sog}
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise ValueError(f"cannot write {path}: splats are written as {', '.join(writers)}, got {suffix!r}")
    writers[suffix](path, gaussians)


def _file_in(folder: Path) -> Path:
    if (folder / "meta.json").is_file():
        return folder / "meta.json"
    runs = [p for p in folder.glob("point_cloud/iteration_*/point_cloud.ply") if p.parent.name[10:].isdigit()]
    if not runs:
        raise ValueError(f"{folder}: the folder holds neither meta.json nor point_cloud/iteration_*/point_cloud.ply")
    return max(runs, key=lambda p: int(p.parent.name[10:]))


def read_ply(path: str | os.PathLike) -> Gaussians:
    """Reads a 3D Gaussian Splatting PLY of degree 0 to 3: binary of either byte order, or ascii.

    Opacity and scale are activated (sigmoid, exp) in float64 and rounded to float32; centres, colours and quaternions
    are taken as they are, so quaternions are not unit vectors: `Gaussians` normalises them where it uses them. Reading
    what `write_ply` wrote gives the same numbers. Normals and properties of other tools are not used.

    Raises:
        ValueError: not a PLY, a damaged header, a truncated body, a missing property, values that are not finite.
        FileNotFoundError: no such file.
    """
    data = Path(path).read_bytes()
    form, elements, offset = _parse_header(data, path)
    columns = _read_vertices(data[offset:], form, elements, path)
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise ValueError(
            f"{path}: the vertices lack {', '.join(missing)}; a 3D Gaussian Splatting PLY has x y z f_dc_* opacity "
            "scale_* rot_* (a mesh or a plain point cloud does not: build those with Gaussians.create)"
        )
    rest = sum(name.startswith("f_rest_") for name in columns)
    if rest not in (0, 9, 24, 45) or any(f"f_rest_{i}" not in columns for i in range(rest)):
        raise ValueError(
            f"{path}: {rest} f_rest properties; degree 0, 1, 2, 3 has 0, 9, 24, 45 of them, numbered from f_rest_0"
        )

    def stack(*names):
        return np.stack([columns[name] for name in names], -1).astype(np.float64)

    n = len(columns["x"])
    dc = stack("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    others = stack(*(f"f_rest_{i}" for i in range(rest))) if rest else np.zeros((n, 0))
    with np.errstate(over="ignore"):
        values = {
            "mean": stack("x", "y", "z"),
            "scale": np.exp(stack("scale_0", "scale_1", "scale_2")),
            "quat": stack("rot_0", "rot_1", "rot_2", "rot_3"),
            "opacity": 1.0 / (1.0 + np.exp(-columns["opacity"].astype(np.float64))),
            "sh": np.concatenate([dc, others.reshape(n, 3, rest // 3).transpose(0, 2, 1)], 1),
        }
    return checked_gaussians(path, values)


def read_points(path: str | os.PathLike) -> np.ndarray:
    """The vertices (N, 3) of any PLY: a point cloud, a mesh, a splat; float64.

    Raises:
        ValueError: no PLY, damaged, no x y z, no vertex, a coordinate that is not finite.
        FileNotFoundError: no such file.
    """
    data = Path(path).read_bytes()
    form, elements, offset = _parse_header(data, path)
    columns = _read_vertices(data[offset:], form, elements, path)
    if not {"x", "y", "z"} <= set(columns):
        raise ValueError(f"{path}: the vertices have no x, y, z, only {', '.join(columns)}")
    points = np.stack([columns[k].astype(np.float64) for k in "xyz"], -1)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"{path}: {len(points)} points, {int((~np.isfinite(points)).any(1).sum())} of them not finite")
    return points


def write_ply(path: str | os.PathLike, gaussians: Gaussians) -> None:
    """Writes a binary little-endian 3D Gaussian Splatting PLY that every viewer reads; complete or not at all.

    An opacity of exactly 0 or 1 has no finite logit; the nearest logit that reads back as the same float32 is written.

    Raises:
        ValueError: wrong shapes, non-finite values, scale <= 0, opacity outside 0..1, a zero quaternion, no folder.

    >>> import tempfile
    >>> g = Gaussians.create([[0.0, 0.0, 1.0]], scale=0.1, color=0.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_ply(f"{folder}/one.ply", g)
    ...     read_ply(f"{folder}/one.ply").mean
    Array([[0., 0., 1.]], dtype=float32)
    """
    g = checked_arrays(path, gaussians)
    n, count, _ = g["sh"].shape
    opacity = np.clip(g["opacity"], np.exp(-120.0), 1 - 2.0**-40)
    blocks = [
        (("x", "y", "z"), g["mean"]),
        (("nx", "ny", "nz"), np.zeros((n, 3))),  # unused, but some viewers expect the columns
        (tuple(f"f_dc_{i}" for i in range(3)), g["sh"][:, 0]),
        (tuple(f"f_rest_{i}" for i in range(3 * count - 3)), g["sh"][:, 1:].transpose(0, 2, 1).reshape(n, -1)),
        (("opacity",), (np.log(opacity) - np.log1p(-opacity))[:, None]),
        (tuple(f"scale_{i}" for i in range(3)), np.log(g["scale"])),
        (tuple(f"rot_{i}" for i in range(4)), g["quat"]),
    ]
    names = [name for block, _ in blocks for name in block]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {n}"]
    header += [f"property float {name}" for name in names] + ["end_header\n"]
    body = np.concatenate([value for _, value in blocks], 1).astype("<f4")
    with atomic_path(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + body.tobytes())


def _parse_header(data: bytes, path) -> tuple[str, list[_Element], int]:
    """Format, elements and the offset of the body."""
    if data[:3] != b"ply":
        raise ValueError(f"{path}: not a PLY file: it does not start with 'ply'")
    end = data.find(b"end_header")
    newline = data.find(b"\n", end)
    if end < 0 or newline < 0:
        raise ValueError(f"{path}: the PLY header has no end_header line; the file is cut off or not a PLY")
    form, elements = None, []
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        words = line.split()
        match words:
            case [] | ["comment", *_] | ["obj_info", *_]:
                continue
            case ["format", name, _] if name in _ORDERS:
                form = name
            case ["element", name, count] if count.isdigit():
                elements.append(_Element(name, int(count), []))
            case ["property", "list", _, _, name] if elements:
                elements[-1].properties.append((name, None))
            case ["property", kind, name] if elements and kind in _TYPES:
                if name in (p for p, _ in elements[-1].properties):
                    raise ValueError(f"{path}: the PLY header names property {name} twice")
                elements[-1].properties.append((name, _TYPES[kind]))
            case _:
                raise ValueError(f"{path}: cannot understand the PLY header line {line!r}")
    if form is None:
        raise ValueError(f"{path}: the PLY header has no line 'format {'|'.join(_ORDERS)} 1.0'")
    return form, elements, newline + 1


def _read_vertices(body: bytes, form: str, elements: list[_Element], path) -> dict[str, np.ndarray]:
    """The columns of element `vertex`, by name."""
    names = [e.name for e in elements]
    if "vertex" not in names:
        raise ValueError(f"{path}: the PLY has no element 'vertex', only {names}")
    index = names.index("vertex")
    for e in elements[: index + 1]:
        if any(kind is None for _, kind in e.properties):
            raise ValueError(f"{path}: element {e.name} has list properties, which a splat file has not; is it a mesh?")
    vertex, before = elements[index], elements[:index]
    if form == "ascii":
        lines = body.decode("ascii", "replace").split("\n")
        skip = sum(e.count for e in before)
        rows = [line.split() for line in lines if line.strip()][skip : skip + vertex.count]
        if len(rows) < vertex.count:
            raise ValueError(
                f"{path}: truncated: the header promises {vertex.count} vertices, the body has {len(rows)}"
            )
        wrong = next((i for i, row in enumerate(rows) if len(row) != len(vertex.properties)), None)
        if wrong is not None:
            raise ValueError(
                f"{path}: vertex {wrong} has {len(rows[wrong])} values, the header names {len(vertex.properties)}"
            )
        try:
            table = np.array(rows, np.float64).reshape(vertex.count, len(vertex.properties))
        except ValueError as error:
            raise ValueError(f"{path}: a vertex value is not a number ({error})") from None
        return {name: table[:, i] for i, (name, _) in enumerate(vertex.properties)}
    sizes = [np.dtype([(name, _ORDERS[form] + kind) for name, kind in e.properties]) for e in (*before, vertex)]
    offset = sum(e.count * dtype.itemsize for e, dtype in zip(before, sizes))
    need = offset + vertex.count * sizes[-1].itemsize
    if len(body) < need:
        raise ValueError(
            f"{path}: truncated: the header promises {vertex.count} vertices ({need} bytes), the body has {len(body)} "
            "bytes; copy or download the file again"
        )
    table = np.frombuffer(body, sizes[-1], vertex.count, offset)
    return {name: table[name] for name, _ in vertex.properties}
