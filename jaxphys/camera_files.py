"""Cameras from files: `cameras.json` of 3D Gaussian Splatting, and sparse models of COLMAP, text or binary.

`cameras.json` is a list of {id, img_name, width, height, position, rotation (camera to world), fx, fy}. A COLMAP model
is a folder (often `sparse/0`) with cameras and images as .txt or .bin: the pose of an image is a quaternion w x y z and
a translation, world to camera. In both the camera's axes are x right, y down, z forward, and the world is that of the
capture: usually y points down. `moved` takes a camera along when the scene is moved.

Formats: github.com/graphdeco-inria/gaussian-splatting, colmap.github.io/format.html.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.camera import Camera

# Name -> number of parameters; the first are f or fx fy, then cx cy, the rest is distortion. By COLMAP's number.
_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
_FISHEYE = ("OPENCV_FISHEYE", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE")


def read_cameras(path: str | os.PathLike) -> dict[str, Camera]:
    """Cameras by image name from a `cameras.json`, or from a folder that holds one or a COLMAP model.

    Args:
        path: a .json file; or a folder with cameras.json, or with cameras and images as .bin or .txt, itself or in
            sparse/0.

    Returns:
        Cameras in the order of the file (COLMAP: of the image names).

    Raises:
        ValueError: a damaged file, a camera with distortion (undistort its images first), nothing of the kind there.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_dir():
        return read_cameras_json(path)
    if (path / "cameras.json").is_file():
        return read_cameras_json(path / "cameras.json")
    for folder in (path, path / "sparse" / "0", path / "sparse"):
        if any((folder / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt")):
            return read_colmap(folder)
    raise ValueError(f"{path}: the folder holds neither cameras.json nor a COLMAP model (cameras.bin or cameras.txt)")


def read_cameras_json(path: str | os.PathLike) -> dict[str, Camera]:
    """Cameras by image name from a `cameras.json`."""
    try:
        entries = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path}: cameras.json must hold a list of cameras, got {type(entries).__name__}")
    cameras: dict[str, Camera] = {}
    for k, entry in enumerate(entries):
        where = f"{path}: camera {k}"
        keys = ("img_name", "width", "height", "position", "rotation", "fx", "fy")
        missing = [key for key in keys if key not in entry] if isinstance(entry, dict) else list(keys)
        if missing:
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        try:
            position = np.asarray(entry["position"], np.float64).reshape(3)
            rotation = np.asarray(entry["rotation"], np.float64).reshape(3, 3)
            fx, fy = float(entry["fx"]), float(entry["fy"])
            width, height = int(entry["width"]), int(entry["height"])
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{where}: position must hold 3 numbers, rotation 3x3, fx, fy, width and height one each ({error})"
            ) from None
        name = str(entry["img_name"])
        _add(cameras, where, name, rotation.T, -rotation.T @ position, (fx, fy, width / 2, height / 2), width, height)
    return cameras


def read_colmap(folder: str | os.PathLike) -> dict[str, Camera]:
    """Cameras by image name from a COLMAP sparse model, binary or text."""
    folder = Path(folder)
    binary = (folder / "cameras.bin").is_file()
    suffix = ".bin" if binary else ".txt"
    lenses, images = folder / f"cameras{suffix}", folder / f"images{suffix}"
    for file in (lenses, images):
        if not file.is_file():
            raise ValueError(f"{folder}: no {file.name}; a COLMAP model has cameras and images, both .bin or both .txt")
    intrinsics = (_cameras_bin if binary else _cameras_txt)(lenses)
    poses = (_images_bin if binary else _images_txt)(images)
    if not poses:
        raise ValueError(f"{images}: no image is registered")
    cameras: dict[str, Camera] = {}
    for name, quat, t, camera_id in sorted(poses, key=lambda pose: pose[0]):
        where = f"{images}: image {name!r}"
        if camera_id not in intrinsics:
            raise ValueError(f"{where} names camera {camera_id}, which {lenses.name} does not hold")
        length = float(np.linalg.norm(quat))
        if not (math.isfinite(length) and length > 0):
            raise ValueError(f"{where}: the quaternion {list(quat)} is no rotation")
        w, x, y, z = np.asarray(quat) / length
        R = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        model, width, height, parameters = intrinsics[camera_id]
        _add(cameras, where, name, R, np.asarray(t), _pinhole(lenses, model, parameters), width, height)
    return cameras


def moved(camera: Camera, rotation=None, translation=(0.0, 0.0, 0.0), scale: float = 1.0) -> Camera:
    """The camera that sees the scene moved by x -> scale R x + translation as `camera` saw it before.

    With x_camera = R_c x + t_c the new pose is R_c R^T, scale t_c - R_c R^T translation; depths grow by `scale`.

    >>> camera = Camera.look_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0), width=8, height=8)
    >>> moved(camera, translation=(1.0, 0.0, 1.0), scale=2.0).position.tolist()
    [1.0, -4.0, 1.0]
    """
    rotation = jnp.eye(3) if rotation is None else jnp.asarray(rotation)
    exact = jax.lax.Precision.HIGHEST
    R = jnp.matmul(camera.R, rotation.T.astype(camera.R.dtype), precision=exact)
    shift = jnp.matmul(R, jnp.asarray(translation, R.dtype), precision=exact)
    return dataclasses.replace(camera, R=R, t=scale * camera.t - shift)


def _add(cameras: dict, where: str, name: str, R, t, pinhole: tuple, width: int, height: int) -> None:
    """Checks one camera and adds it."""
    values = np.concatenate([np.ravel(R), np.ravel(t), pinhole])
    if not np.isfinite(values).all() or np.abs(values).max() > 1e30:
        raise ValueError(f"{where}: a number is not finite")
    if not np.allclose(R @ R.T, np.eye(3), atol=1e-3) or np.linalg.det(R) < 0:
        raise ValueError(f"{where}: the rotation is not orthogonal with determinant +1")
    if min(pinhole[:2]) <= 0 or not (1 <= width <= 2**20 and 1 <= height <= 2**20):
        raise ValueError(f"{where}: focal lengths {pinhole[:2]} and size {width}x{height} pixels must be positive")
    if name in cameras:
        raise ValueError(f"{where}: the image name {name!r} occurs twice")
    values = [jnp.asarray(v, jnp.float32) for v in (*pinhole, R, t)]
    cameras[name] = Camera(*values, width, height)


def _pinhole(path, model: str, parameters) -> tuple:
    """fx, fy, cx, cy of a camera without distortion."""
    own = 3 if model in _ONE_FOCAL else 4
    distortion = np.asarray(parameters[own:])
    if model in _FISHEYE or np.abs(distortion).max(initial=0.0) > 1e-6:
        raise ValueError(
            f"{path}: camera model {model} with distortion {distortion.tolist()}; cameras here are pinholes: undistort "
            "the images first (colmap image_undistorter) and read the model that it writes"
        )
    f = parameters[:1] if own == 3 else parameters[:2]
    return (float(f[0]), float(f[-1]), float(parameters[own - 2]), float(parameters[own - 1]))


def _lines(path: Path) -> list[str]:
    lines = path.read_bytes().decode("utf-8", "replace").splitlines()
    return [line.strip() for line in lines if not line.lstrip().startswith("#")]


def _cameras_txt(path: Path) -> dict[int, tuple]:
    counts = dict(_MODELS)
    out: dict[int, tuple] = {}
    for line in filter(None, _lines(path)):
        words = line.split()
        try:
            number, model, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            parameters = [float(w) for w in words[4:]]
        except (ValueError, IndexError):
            raise ValueError(
                f"{path}: cannot understand {line[:80]!r}; expected ID MODEL WIDTH HEIGHT PARAMS"
            ) from None
        if counts.get(model) != len(parameters):
            raise ValueError(f"{path}: camera {number}: {len(parameters)} parameters for {model!r}, known: {counts}")
        out[number] = (model, width, height, parameters)
    return out


def _images_txt(path: Path) -> list[tuple]:
    lines = _lines(path)
    while lines and not lines[-1]:
        lines.pop()
    out = []
    for line in lines[::2]:  # the second line of an image holds its points, and may be empty
        words = line.split(None, 9)
        try:
            numbers = [float(w) for w in words[1:8]]
            out.append((words[9], numbers[:4], numbers[4:7], int(words[8])))
        except (ValueError, IndexError):
            raise ValueError(
                f"{path}: cannot understand {line[:80]!r}; an image takes two lines, the first being ID QW QX QY QZ TX "
                "TY TZ CAMERA_ID NAME"
            ) from None
    return out


class _Bytes:
    """Little-endian values one after the other; too few raise ValueError."""

    def __init__(self, path: Path):
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, form: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + form)
        self.skip(size)
        return struct.unpack_from("<" + form, self.data, self.at - size)

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise ValueError(f"{self.path}: truncated: it ends at byte {len(self.data)}, {self.at} are needed")

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ValueError(f"{self.path}: truncated inside an image name")
        text, self.at = self.data[self.at : end].decode("utf-8", "replace"), end + 1
        return text


def _cameras_bin(path: Path) -> dict[int, tuple]:
    data = _Bytes(path)
    out: dict[int, tuple] = {}
    for _ in range(data.take("Q")[0]):
        number, model, width, height = data.take("iiQQ")
        if not 0 <= model < len(_MODELS):
            raise ValueError(f"{path}: camera {number} has model number {model}; 0..{len(_MODELS) - 1} are known")
        name, count = _MODELS[model]
        out[number] = (name, width, height, list(data.take(f"{count}d")))
    return out


def _images_bin(path: Path) -> list[tuple]:
    data = _Bytes(path)
    out = []
    for _ in range(data.take("Q")[0]):
        _, *pose, camera_id = data.take("i7di")
        name = data.text()
        data.skip(24 * data.take("Q")[0])
        out.append((name, pose[:4], pose[4:], camera_id))
    return out
