"""SOG files: Gaussians quantised into lossless WebP pictures, as one zip (`.sog`) or as a folder with `meta.json`.

Gaussian i is pixel i in row-major order of every picture but the palette. The fields of `meta.json`:

    means   two pictures, low and high byte of a 16-bit position between `mins` and `maxs` of sign(x) ln(1 + |x|)
    scales  logarithms of the standard deviations: version 2 through `codebook` (256 values), version 1 linear between
            `mins` and `maxs` of each axis
    quats   the three smaller components, q / sqrt(2) + 1/2 of 255; alpha - 252 is the index of the left-out component
    sh0     the constant colour coefficients (codebook, or mins and maxs), alpha: the opacity (version 2) or its logit
    shN     optional: labels (low and high byte) into a palette of higher coefficients, 64 entries in a row, one pixel
            per coefficient; values by `codebook`, or linear between the numbers `mins` and `maxs`

Format: developer.playcanvas.com, "The SOG Format" (version 2); version 1 as its predecessor "SOGS" writes it.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from jaxphys.files import atomic_path
from jaxphys.splats.gaussians import Gaussians
from jaxphys.splats.splat_file import checked_arrays, checked_gaussians, to_bytes

_BANDS = {1: 3, 2: 8, 3: 15}  # degree -> coefficients beside the constant one
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # components beside the largest
_PALETTE = 2**16
_LARGEST = 2**31  # bytes that one file in a zip may unpack to


def read_sog(path: str | os.PathLike) -> Gaussians:
    """Reads a bundled `.sog`, or the `meta.json` (or its folder) of an unbundled one, version 1 or 2.

    Raises:
        ValueError: no zip or json, a missing field or picture, a wrong number of values, a damaged picture.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "meta.json"
    if path.suffix.lower() == ".json":
        folder = path.parent
        return _decode(path, path.read_bytes(), lambda name: (folder / name).read_bytes())
    data = path.read_bytes()
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise ValueError(f"{path}: not a bundled SOG: {error}; it must be a zip with meta.json at its root") from None

    def member(name):
        if archive.getinfo(name).file_size > _LARGEST:
            raise ValueError(f"{name} would unpack to more than {_LARGEST} bytes")
        return archive.read(name)

    with archive:
        return _decode(path, _load(path, "meta.json", member), member)


def write_sog(path: str | os.PathLike, gaussians: Gaussians, *, version: int = 2) -> None:
    """Writes a bundled `.sog`, or, to a path that ends in meta.json, the folder form (meta.json is written last).

    Positions keep 16 bits per axis of their signed logarithm, quaternions 8 bits, opacity 8 bits; scales, colours and
    coefficients take the 256 best values in version 2, 256 even steps in version 1. Up to 65,536 different sets of
    coefficients are kept as they are; more are merged by splitting them at medians.

    Args:
        path: ends in .sog or in .json.
        gaussians: what to write.
        version: 1 or 2.

    Raises:
        ValueError: another suffix or version, or what `splat_file.checked_arrays` refuses; nothing is written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".sog", ".json"):
        raise ValueError(f"cannot write {path}: a SOG is NAME.sog (bundled) or FOLDER/meta.json, got {path.suffix!r}")
    if version not in (1, 2):
        raise ValueError(f"cannot write {path}: SOG has versions 1 and 2, got {version!r}")
    pictures = _encode(checked_arrays(path, gaussians), version)
    if path.suffix.lower() == ".sog":
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, data in pictures.items():
                archive.writestr(name, data)
        return
    meta = pictures.pop("meta.json")
    for name, data in pictures.items():
        with atomic_path(path.parent / name) as temporary:
            temporary.write_bytes(data)
    with atomic_path(path) as temporary:
        temporary.write_bytes(meta)


def _load(path, name: str, read: Callable[[str], bytes]) -> bytes:
    try:
        return read(name)
    except Exception as error:  # a zip member fails in many ways: bad checksum, encryption, unknown compression
        raise ValueError(f"{path}: {name} cannot be read from it ({error})") from None


def _decode(path: Path, meta_bytes: bytes, read: Callable[[str], bytes]) -> Gaussians:
    try:
        meta = json.loads(meta_bytes)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: meta.json is not JSON ({error})") from None
    if not isinstance(meta, dict):
        raise ValueError(f"{path}: meta.json must hold an object, got {type(meta).__name__}")

    def section(name) -> dict:
        value = meta.get(name)
        if not isinstance(value, dict):
            raise ValueError(f"{path}: meta.json has no object {name!r}; a SOG has means, scales, quats and sh0")
        return value

    def numbers(name, key, count) -> np.ndarray:
        try:
            value = np.asarray(section(name)[key], np.float64).reshape(-1)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: meta.json: {name}.{key} must hold {count} numbers") from None
        if len(value) != count or not np.isfinite(value).all():
            raise ValueError(f"{path}: meta.json: {name}.{key} must hold {count} finite numbers, got {len(value)}")
        return value

    def pixels(name, index, channels) -> np.ndarray:
        files = section(name).get("files")
        if not isinstance(files, list) or len(files) <= index or not isinstance(files[index], str):
            raise ValueError(f"{path}: meta.json: {name}.files must name {index + 1} pictures, got {files!r}")
        if Path(files[index]).name != files[index]:
            raise ValueError(f"{path}: meta.json: {name}.files must hold plain file names, got {files[index]!r}")
        try:
            with Image.open(io.BytesIO(_load(path, files[index], read))) as image:
                return np.asarray(image.convert("RGBA"))[..., :channels]
        except Exception as error:  # each decoder of PIL has its own
            raise ValueError(f"{path}: {files[index]} is no readable picture ({error})") from None

    version = meta.get("version", 1)
    if version not in (1, 2):
        raise ValueError(f"{path}: meta.json has version {version!r}; versions 1 and 2 are known")
    shape = section("means").get("shape")
    count = meta.get("count") if version == 2 else shape[0] if isinstance(shape, list) and shape else meta.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{path}: meta.json gives no number of Gaussians (count, or means.shape), got {count!r}")

    def table(name, index, channels) -> np.ndarray:
        flat = pixels(name, index, channels).reshape(-1, channels)
        if len(flat) < count:
            raise ValueError(f"{path}: {name} has {len(flat)} pixels for {count} Gaussians")
        return flat[:count]

    def dequantise(name, data, channels) -> np.ndarray:
        if version == 2:
            return numbers(name, "codebook", 256)[data]
        lo, hi = (numbers(name, key, channels) for key in ("mins", "maxs"))
        return lo + (hi - lo) * (data / 255.0)

    lo, hi = numbers("means", "mins", 3), numbers("means", "maxs", 3)
    fraction = (table("means", 0, 3) + 256.0 * table("means", 1, 3)) / 65535.0
    logarithm = lo + (hi - lo) * fraction
    packed = table("quats", 0, 4)
    if (packed[:, 3] < 252).any():
        raise ValueError(f"{path}: the alpha of the quaternion picture must be 252..255, it was not stored losslessly")
    small = (packed[:, :3] / 255.0 - 0.5) * np.sqrt(2.0)
    left_out = packed[:, 3].astype(int) - 252
    quat = np.zeros((count, 4))
    rows = np.arange(count)
    quat[rows[:, None], _OTHERS[left_out]] = small
    quat[rows, left_out] = np.sqrt(np.maximum(0.0, 1.0 - (small**2).sum(1)))
    color = table("sh0", 0, 4)
    with np.errstate(over="ignore"):
        if version == 2:
            opacity, constant = color[:, 3] / 255.0, dequantise("sh0", color[:, :3], 3)
        else:
            values = dequantise("sh0", color, 4)
            opacity, constant = 1.0 / (1.0 + np.exp(-values[:, 3])), values[:, :3]
        sh = [constant[:, None]]
        if meta.get("shN"):
            palette, labels = pixels("shN", 0, 3), table("shN", 1, 2).astype(int)
            terms = _terms(path, section("shN"), palette)
            label = labels[:, 0] + 256 * labels[:, 1]
            row, column = label // 64, (label % 64) * terms
            if row.max() >= palette.shape[0]:
                raise ValueError(
                    f"{path}: a label {label.max()} lies beyond the palette of {64 * len(palette)} entries"
                )
            entries = palette[row[:, None], column[:, None] + np.arange(terms)]
            if version == 2:
                sh.append(numbers("shN", "codebook", 256)[entries])
            else:
                lo, hi = (numbers("shN", key, 1)[0] for key in ("mins", "maxs"))
                sh.append(lo + (hi - lo) * (entries / 255.0))
        values = {
            "mean": np.sign(logarithm) * np.expm1(np.abs(logarithm)),
            "scale": np.exp(dequantise("scales", table("scales", 0, 3), 3)),
            "quat": quat,
            "opacity": opacity,
            "sh": np.concatenate(sh, 1),
        }
    return checked_gaussians(path, values)


def _terms(path, section: dict, palette: np.ndarray) -> int:
    """Coefficients per palette entry, which the width of the palette must agree with."""
    terms = palette.shape[1] // 64
    if palette.shape[1] % 64 or terms not in _BANDS.values():
        raise ValueError(f"{path}: the palette is {palette.shape[1]} pixels wide, not 64 times 3, 8 or 15")
    bands = section.get("bands")
    if bands is not None and _BANDS.get(bands if isinstance(bands, int) else -1) != terms:
        raise ValueError(f"{path}: shN.bands is {bands!r} but the palette holds {terms} coefficients per entry")
    return terms


def _encode(g: dict[str, np.ndarray], version: int) -> dict[str, bytes]:
    """File name -> contents."""
    n = len(g["mean"])
    width = 4 * int(np.ceil(np.sqrt(n) / 4))
    height = int(np.ceil(n / width))
    out: dict[str, bytes] = {}

    def picture(name, channels, width=width, height=height) -> str:
        pixels = np.zeros((height * width, 4), np.uint8)
        pixels[:, 3] = 255
        pixels[: len(channels), : channels.shape[1]] = channels
        buffer = io.BytesIO()
        Image.fromarray(pixels.reshape(height, width, 4), "RGBA").save(buffer, "WEBP", lossless=True, exact=True)
        out[name] = buffer.getvalue()
        return name

    def quantise(values, per_channel: bool) -> tuple[np.ndarray, dict]:
        if version == 2:
            codebook = best_codebook(values)
            return nearest(codebook, values), {"codebook": codebook.tolist()}
        lo, hi = (f(values, axis=0) if per_channel else f(values) for f in (np.min, np.max))
        span = np.where(hi > lo, hi - lo, 1.0)
        return to_bytes((values - lo) / span), {"mins": np.asarray(lo).tolist(), "maxs": np.asarray(hi).tolist()}

    logarithm = np.sign(g["mean"]) * np.log1p(np.abs(g["mean"]))
    lo, hi = logarithm.min(0), logarithm.max(0)
    whole = np.round(65535.0 * (logarithm - lo) / np.where(hi > lo, hi - lo, 1.0)).astype(int)
    means = {"mins": lo.tolist(), "maxs": hi.tolist()}
    means["files"] = [picture("means_l.webp", whole & 255), picture("means_u.webp", whole >> 8)]
    quat = g["quat"] / np.linalg.norm(g["quat"], axis=1, keepdims=True)
    left_out = np.abs(quat).argmax(1)
    rows = np.arange(n)
    quat = quat * np.where(quat[rows, left_out] < 0, -1.0, 1.0)[:, None]
    small = to_bytes(quat[rows[:, None], _OTHERS[left_out]] / np.sqrt(2.0) + 0.5)
    quats = {"files": [picture("quats.webp", np.concatenate([small, 252 + left_out[:, None]], 1))]}
    data, scales = quantise(np.log(g["scale"]), True)
    scales["files"] = [picture("scales.webp", data)]
    if version == 2:
        data, sh0 = quantise(g["sh"][:, 0], True)
        data = np.concatenate([data, to_bytes(g["opacity"])[:, None]], 1)
    else:
        opacity = np.clip(g["opacity"], np.exp(-16.0), 1 - np.exp(-16.0))
        logit = np.log(opacity) - np.log1p(-opacity)
        data, sh0 = quantise(np.concatenate([g["sh"][:, 0], logit[:, None]], 1), True)
    sh0["files"] = [picture("sh0.webp", data)]
    meta: dict = {"version": version, "count": n}
    if version == 1:
        means["shape"], scales["shape"] = [n, 3], [n, 3]
    meta |= {"means": means, "scales": scales, "quats": quats, "sh0": sh0}
    terms = g["sh"].shape[1] - 1
    if terms:
        palette, label = _palette(g["sh"][:, 1:].reshape(n, -1))
        data, shN = quantise(palette, False)
        rows = int(np.ceil(len(palette) / 64))
        shN |= {"count": len(palette), "bands": {v: k for k, v in _BANDS.items()}[terms]}
        centroids = picture("shN_centroids.webp", data.reshape(-1, 3), 64 * terms, rows)
        shN["files"] = [centroids, picture("shN_labels.webp", np.stack([label & 255, label >> 8], 1))]
        meta["shN"] = shN
    return out | {"meta.json": json.dumps(meta).encode()}


def best_codebook(values: np.ndarray, size: int = 256) -> np.ndarray:
    """`size` ascending numbers near to which the values lie: the values themselves where they are few enough, else
    Lloyd's algorithm on one axis, begun at quantiles.

    >>> best_codebook(np.array([1.0, 3.0, 3.0]), 4).tolist()
    [1.0, 3.0, 3.0, 3.0]
    """
    values = np.sort(np.asarray(values, np.float64).reshape(-1))
    distinct = np.unique(values)
    if len(distinct) <= size:
        return np.concatenate([distinct, np.full(size - len(distinct), distinct[-1])])
    # Half of the start at quantiles of the values, half spread over their range, so that tails keep an entry.
    start = np.concatenate(
        [np.quantile(values, np.linspace(0, 1, size // 2)), np.linspace(*values[[0, -1]], size // 2)]
    )
    codebook = np.sort(start)
    total = np.concatenate([[0.0], np.cumsum(values)])
    for _ in range(20):
        edges = np.searchsorted(values, (codebook[1:] + codebook[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(values)]])
        count = np.diff(edges)
        codebook = np.sort(np.where(count > 0, np.diff(total[edges]) / np.maximum(count, 1), codebook))
    return codebook


def nearest(codebook: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest entry of an ascending codebook."""
    return np.searchsorted((codebook[1:] + codebook[:-1]) / 2, values)


def _palette(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 65,536 rows and the index of the one that stands for each."""
    distinct, label = np.unique(rows, axis=0, return_inverse=True)
    label = label.reshape(-1)
    if len(distinct) <= _PALETTE:
        return distinct, label
    cell, cells = np.zeros(len(rows), int), 1
    while cells < _PALETTE:  # every cell is split at the median of its widest column
        count = np.maximum(np.bincount(cell, minlength=cells), 1)
        widest, most = np.zeros(cells, int), np.full(cells, -1.0)
        for column in range(rows.shape[1]):
            mean = np.bincount(cell, rows[:, column], cells) / count
            spread = np.bincount(cell, (rows[:, column] - mean[cell]) ** 2, cells)
            widest, most = np.where(spread > most, column, widest), np.maximum(spread, most)
        order = np.lexsort((rows[np.arange(len(rows)), widest[cell]], cell))
        first = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=cells))])
        rank = np.empty(len(rows), int)
        rank[order] = np.arange(len(rows)) - first[cell[order]]
        cell, cells = 2 * cell + (2 * rank >= count[cell]), 2 * cells
    used, cell = np.unique(cell, return_inverse=True)
    count = np.bincount(cell, minlength=len(used))
    means = [np.bincount(cell, rows[:, column], len(used)) / count for column in range(rows.shape[1])]
    return np.stack(means, 1), cell
