"""A simulated motion for other programs: a PLY per frame, one npz, one HDF5."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np

from jaxphys import mpm
from jaxphys.checks import as_array
from jaxphys.files import atomic_path
from jaxphys.scenes.draw import drawing_gradient
from jaxphys.scenes.setup import Frame, Part
from jaxphys.splats import Gaussians, Kernels, concatenate, deform, rotate_sh, write_ply
from jaxphys.splats.gaussians import matrix_to_quat

UNITS = {"times": "s", "x": "m", "v": "m/s", "F": "1", "volume": "m^3", "material": "index", "energy": "J/m^3"}


def to_gaussians(kernels: Kernels) -> Gaussians:
    """Gaussians with the covariances of deformed kernels: axes and scales are their eigenvectors and -values.

    View-dependent colours are turned as the kernels say, so a viewer that knows nothing of the motion shows them right.

    >>> g = Gaussians.create([[0.0, 0.0, 0.0]], scale=(1.0, 2.0, 3.0), color=1.0)
    >>> to_gaussians(g.kernels()).scale.round(4).tolist()
    [[1.0, 2.0, 3.0]]
    """
    values, vectors = np.linalg.eigh(np.asarray(kernels.cov, np.float64))
    vectors[..., 0] *= np.sign(np.linalg.det(vectors))[..., None]
    floor = 1e-12 * np.maximum(values[..., -1:], 1e-30)
    scale = np.sqrt(np.maximum(values, floor))
    sh = kernels.sh
    if sh.shape[1] > 1 and kernels.rotation is not None:
        sh = jax.jit(jax.vmap(rotate_sh))(sh, kernels.rotation.astype(sh.dtype))
    dtype = kernels.mean.dtype
    quat = matrix_to_quat(as_array(vectors, dtype))
    return Gaussians(kernels.mean, as_array(scale, dtype), quat, kernels.opacity, sh)


def frame_gaussians(
    gaussians: Gaussians, still: Gaussians | None, parts: tuple[Part, ...], x, F, frame: Frame | None = None
) -> Gaussians:
    """One frame of a motion as Gaussians in the file's world, the surroundings included.

    Args:
        gaussians: of the objects at rest, (N,).
        still: the rest of the scene, or None.
        parts: which of them are of which law; what flows keeps the shape of its Gaussians.
        x: (N, 3) centres [m], F: (N, 3, 3) deformation gradients.
        frame: from the file's world to the simulation's space; None: they are one.
    """
    moved = [
        to_gaussians(deform(gaussians.select(p.gaussians), x[p.gaussians], drawing_gradient(p.law, F[p.gaussians])))
        for p in parts
    ]
    scene = concatenate(moved if still is None else [*moved, still])
    if frame is None:
        return scene
    back = frame.inverse()
    return scene.transform(back.rotation, back.translation, back.scale)


def write_plys(folder: str | os.PathLike, frames) -> list[Path]:
    """Writes frame_0000.ply, frame_0001.ply, ... for an iterable of Gaussians.

    Raises:
        ValueError: the folder does not exist, or what `write_ply` refuses.
    """
    folder = Path(folder)
    paths = []
    for k, gaussians in enumerate(frames):
        paths.append(folder / f"frame_{k:04d}.ply")
        write_ply(paths[-1], gaussians)
    return paths


def motion_arrays(
    fields: Mapping[str, Any], fps: float, particles: mpm.Particles, frame: Frame | None = None
) -> dict[str, np.ndarray]:
    """What a motion file holds: times (T,), the fields (T, N, ...), volume and material (N,), as float32.

    Args:
        fields: x and any of v, F, energy of the frames at 1 / fps, 2 / fps, ..., as `mpm.Trajectory` names them.
        fps: frames per second.
        particles: at t = 0.
        frame: from a file's world to the simulation's space: positions, velocities, deformations and volumes are then
            those of the file's world.
    """
    out = {name: np.asarray(fields[name], np.float32) for name in ("x", "v", "F", "energy") if name in fields}
    out["times"] = (np.arange(len(out["x"])) + 1) / fps
    out["volume"] = np.asarray(particles.volume, np.float32)
    out["material"] = np.asarray(particles.material, np.int32)
    if frame is not None:
        out["x"] = frame.undo(out["x"]).astype(np.float32)
        out["volume"] = (out["volume"] / frame.scale**3).astype(np.float32)
        if "v" in out:
            out["v"] = (out["v"] @ frame.rotation / frame.scale).astype(np.float32)
        if "F" in out:
            out["F"] = np.einsum("ji,tnjk,kl->tnil", frame.rotation, out["F"], frame.rotation).astype(np.float32)
    return out


def write_motion(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes a motion as .npz (compressed) or .h5/.hdf5 (one chunk per frame, units as attributes), or not at all.

    Raises:
        ValueError: another suffix, no folder, or arrays that do not agree in frames or particles.
    """
    path = Path(path)
    _check(path, arrays)
    if path.suffix.lower() == ".npz":
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        return
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, value in arrays.items():
            chunks = (1, *value.shape[1:]) if value.ndim > 1 else None
            data = file.create_dataset(name, data=value, chunks=chunks, compression="gzip" if chunks else None)
            data.attrs["unit"] = UNITS[name]


def read_motion(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads what `write_motion` wrote.

    Raises:
        ValueError: another suffix, a damaged file, fields that are missing or do not agree.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    arrays = {}
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files if name in UNITS}
        elif path.suffix.lower() in (".h5", ".hdf5"):
            with h5py.File(path, "r") as file:
                arrays = {name: np.asarray(file[name]) for name in file if name in UNITS}
    except Exception as error:  # zip, zlib, numpy and HDF5 have their own errors
        raise ValueError(f"{path}: damaged, cannot be read ({error})") from None
    _check(path, arrays)
    return arrays


def _check(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if path.suffix.lower() not in (".npz", ".h5", ".hdf5"):
        raise ValueError(f"{path}: motions are stored as .npz, .h5 or .hdf5, got {path.suffix!r}")
    missing, unknown = {"times", "x", "volume", "material"} - set(arrays), set(arrays) - set(UNITS)
    if missing or unknown:
        raise ValueError(f"{path}: a motion holds {', '.join(UNITS)}; missing {sorted(missing)}, not {sorted(unknown)}")
    bad = [name for name, a in arrays.items() if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiu"]
    if bad:
        raise ValueError(f"{path}: {', '.join(bad)} must hold numbers")
    if arrays["times"].ndim != 1 or arrays["volume"].ndim != 1:
        raise ValueError(f"{path}: times must be (T,) and volume (N,)")
    T, N = len(arrays["times"]), len(arrays["volume"])
    shapes = {"x": (T, N, 3), "v": (T, N, 3), "F": (T, N, 3, 3), "energy": (T, N), "material": (N,)}
    for name, shape in shapes.items():
        if name in arrays and arrays[name].shape != shape:
            raise ValueError(f"{path}: {name} must be {shape} to agree with times and volume, got {arrays[name].shape}")
