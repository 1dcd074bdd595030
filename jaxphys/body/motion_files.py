"""Motion files of any common kind, read into one form: our skeleton, its motion, the frame rate, and what was assumed.

| kind | suffix | frame rate | world |
|---|---|---|---|
| GVHMR result | .pt | not in the file | Y up |
| AMASS, SMPL parameters | .npz | `mocap_framerate` or `mocap_frame_rate`, or not in the file | found out |
| named joint positions | .npz with `joint_names`, `joint_pos` | `fps` | found out |
| our own | .npz with `rotation`, `translation` | `fps` | Z up |
| BVH | .bvh | in the file | found out |
| ASF/AMC | .amc beside its .asf | not in the file | found out |
| DeepMimic | .json, .txt | in the file | Y up |
| MuJoCo MPC keyframes | .xml | not in the file | Z up |

Each may be compressed (.gz). Pickles are refused: reading one runs what it says.
"""

from __future__ import annotations

import dataclasses
import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxphys.body.amc import parse_amc
from jaxphys.body.bvh import parse_bvh
from jaxphys.body.joint_names import FAMILIES, Family, find_family
from jaxphys.body.keyframes import parse_deepmimic, parse_mjpc
from jaxphys.body.kinematics import forward
from jaxphys.body.motion import Motion, check_fps
from jaxphys.body.recording import Recording, check_frames, choose_unit, choose_up, up_matrix
from jaxphys.body.retarget import (
    BODY_MASS_INDEX,
    LEG_FRACTION,
    copy_smpl,
    find_sites,
    fit,
    measured_skeleton,
    near_ground,
    resize,
    stretched_to,
)
from jaxphys.body.skeleton import NAMES, Skeleton, humanoid
from jaxphys.body.smpl import SMPL_KEYS, SmplPoses, parse_gvhmr, parse_smpl, read_model_joints, rest_offsets
from jaxphys.files import atomic_path
from jaxphys.torchfile import read_torch

_MOST_BYTES = 1 << 30  # of a text file, unpacked
_TOPS = {"neck", "head", "left_shoulder", "right_shoulder"}
_SUFFIXES = ".pt .pth .npz .bvh .amc .json .txt .xml".split()


@dataclasses.dataclass(frozen=True)
class Clip:
    """A motion that was read, with the body that makes it."""

    name: str
    skeleton: Skeleton
    motion: Motion
    fps: float
    height: float  # stature [m]
    mass: float  # [kg]
    scale: np.ndarray  # of the bodies of `humanoid(height, mass)` along their axes (24, 3)
    error_m: np.ndarray | None  # rms distance to the recorded positions, per frame (T,); None: rotations were copied
    notes: tuple[str, ...]  # what was found out or assumed: format, up axis, unit, frame rate, joints


def read(
    path: str | os.PathLike,
    fps: float | None = None,
    *,
    up: str | None = None,
    unit: float | None = None,
    height: float | None = None,
    mass: float | None = None,
    joints: Mapping[str, str] | None = None,
    asf: str | os.PathLike | None = None,
    smpl_model: str | os.PathLike | None = None,
    frames: slice = slice(None),
) -> Clip:
    """Reads a motion file.

    Args:
        path: see the table at the top of this module.
        fps: frames per second of the file; needed where the file has none, and decides where it has one.
        up: axis of the file's world that points up, such as "y" or "-z"; None: found out.
        unit: metres per unit of length of the file; None: found out.
        height: stature of the person [m]; None: from the legs of the recording, or 1.75 where only rotations are known.
        mass: [kg]; None: by a body mass index of 24.5 kg/m^2.
        joints: name in the file -> name of our joint, for skeletons that are not known here.
        asf: skeleton of an AMC file; None: the ASF file beside it.
        smpl_model: the user's own SMPL model (.npz), for the proportions of a person with shape parameters.
        frames: which frames to keep: slice(None, None, 2) takes every second and halves the frame rate.

    Raises:
        ValueError: an unknown or damaged file, no frame rate, an unknown skeleton, too few frames, NaN, a pickle.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if fps is not None:
        check_fps(f"{path}", fps)
    every = frames.step or 1
    if every < 1:
        raise ValueError(f"frames must go forward, got a step of {every}")
    content = _parse(path, asf)
    if isinstance(content, Clip):
        said = content.fps if np.isfinite(content.fps) else None
        rate, note = _frame_rate(path, fps, said, "the file stores no frame rate")
        motion = Motion(content.motion.rotation[frames], content.motion.translation[frames])
        return dataclasses.replace(content, motion=motion, fps=rate / every, notes=(*content.notes, f"read: {note}"))
    rate, note = _frame_rate(path, fps, content.fps, content.fps_advice)
    notes = [f"format: {content.kind}", note + (f"; one frame of {every} kept" if every > 1 else "")]
    if isinstance(content, SmplPoses):
        return _from_rotations(path, content, rate / every, notes, up, unit, height, mass, smpl_model, frames)
    return _from_positions(path, content, rate / every, notes, up, unit, height, mass, joints, frames)


def write(path: str | os.PathLike, clip: Clip) -> None:
    """Writes a clip in our own form: rotation, translation, fps, and the body as height, mass, scale and offset.

    Numbers are rounded to 2^-17 (8 micrometres, 8 microradians), which halves the file and stays far below what an
    acceleration at 120 frames per second can show.

    Raises:
        ValueError: the path does not end in .npz, or its folder does not exist.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: our motion files end in .npz")

    def rounded(values):
        return (np.round(np.asarray(values, np.float64) * 2.0**17) / 2.0**17).astype(np.float32)

    arrays = dict(
        rotation=rounded(clip.motion.rotation),
        translation=rounded(clip.motion.translation),
        fps=np.float64(clip.fps),
        height=np.float64(clip.height),
        mass=np.float64(clip.mass),
        scale=clip.scale.astype(np.float32),
        offset=np.asarray(clip.skeleton.offset, np.float32),
        notes=np.array(clip.notes),
    )
    if clip.error_m is not None:
        arrays["error_m"] = clip.error_m.astype(np.float16)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _frame_rate(path: Path, given: float | None, said: float | None, advice: str) -> tuple[float, str]:
    if given is not None:
        instead = f", instead of the file's {said:.6g}" if said is not None and abs(said - given) > 1e-3 * said else ""
        return float(given), f"frame rate: {given:.6g} per second, given{instead}"
    if said is None:
        raise ValueError(f"{path}: pass fps=: {advice}, and velocities and forces depend on it")
    if not (np.isfinite(said) and said > 0):
        raise ValueError(f"{path}: the frame rate in the file is {said}: pass fps=")
    return float(said), f"frame rate: {said:.6g} per second, by the file"


def _text(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error})") from None
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{path}: more than {_MOST_BYTES >> 20} MiB of text; cut the recording into parts")
    return data.decode("latin-1")


def _parse(path: Path, asf: str | os.PathLike | None) -> Recording | SmplPoses | Clip:
    suffix = Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()
    if suffix == ".pkl":
        raise ValueError(
            f"{path}: a pickle can run code when it is read, so it is refused. Where you trust it, open it and store "
            f"its arrays: numpy.savez(new, **arrays), with {SMPL_KEYS}"
        )
    match suffix:
        case ".pt" | ".pth":
            return parse_gvhmr(read_torch(path), str(path))
        case ".npz":
            return _parse_npz(path)
        case ".bvh":
            return parse_bvh(_text(path), str(path))
        case ".amc":
            skeleton = _find_asf(path) if asf is None else Path(asf)
            if not skeleton.is_file():
                raise FileNotFoundError(f"no such file: {skeleton}")
            return parse_amc(_text(path), _text(skeleton), str(path), str(skeleton))
        case ".asf":
            raise ValueError(f"{path}: an ASF file is a skeleton without motion: give the AMC file beside it")
        case ".json" | ".txt":
            return parse_deepmimic(_text(path), str(path))
        case ".xml":
            return parse_mjpc(_text(path), str(path))
    raise ValueError(f"{path}: unknown suffix {suffix!r}; motions are read from {', '.join(_SUFFIXES)}")


def _find_asf(path: Path) -> Path:
    """The skeleton beside an AMC file: 02.asf, 02_01.asf, or the only one."""
    stem = path.name.split(".")[0]
    beside = sorted(p for p in path.parent.iterdir() if p.name.lower().removesuffix(".gz").endswith(".asf"))
    named = [p for p in beside if p.name.split(".")[0] in (stem, stem.split("_")[0])] or beside
    if len(named) != 1:
        raise ValueError(
            f"{path}: an AMC file needs the ASF file of its subject; beside it are {[p.name for p in named] or 'none'}"
            ": pass asf="
        )
    return named[0]


def _parse_npz(path: Path) -> Recording | SmplPoses | Clip:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive fails in any way it likes
        raise ValueError(f"{path}: not an .npz of plain arrays ({type(error).__name__}: {error})") from None
    if {"rotation", "translation"} <= set(arrays):
        return _own(path, arrays)
    if {"joint_names", "joint_pos"} <= set(arrays):
        position = np.asarray(arrays["joint_pos"], np.float64)
        names = tuple(str(name) for name in np.ravel(arrays["joint_names"]))
        if position.ndim != 3 or position.shape[1:] != (len(names), 3):
            raise ValueError(
                f"{path}: {len(names)} joint_names need joint_pos (T, {len(names)}, 3), got {list(position.shape)}"
            )
        rate = float(arrays["fps"]) if "fps" in arrays and np.size(arrays["fps"]) == 1 else None
        return Recording("named positions", names, position, fps=rate, usual_up="z")
    try:
        return parse_smpl(arrays, str(path))
    except ValueError as error:
        raise ValueError(f"{error}; others: rotation + translation (our own), joint_names + joint_pos") from None


def _name(path: Path) -> str:
    return path.name.split(".")[0]


def _direction(p: np.ndarray, feet: list[int], tops: list[int]) -> np.ndarray:
    return p[..., tops, :].mean(-2) - p[..., feet, :].mean(-2)


def _from_rotations(path, content: SmplPoses, rate, notes, up, unit, height, mass, smpl_model, frames) -> Clip:
    pose, translation = content.pose[frames], content.translation[frames]
    check_frames(str(path), "a pose or translation", np.concatenate([pose.reshape(len(pose), -1), translation], 1))
    offsets, pelvis = None, np.zeros(3)
    if smpl_model is not None:
        J = read_model_joints(smpl_model, content.betas)
        offsets, pelvis = rest_offsets(J), J[0]
        legs = [NAMES.index(f"{side}_{part}") for side in ("left", "right") for part in ("knee", "ankle")]
        leg = 0.5 * float(np.linalg.norm(offsets[legs], axis=-1).sum())
        height = leg / LEG_FRACTION if height is None else height
        notes.append(f"body: joints of {Path(smpl_model).name} with {len(content.betas)} shape parameters")
    else:
        shape = " (betas need smpl_model=)" if np.any(content.betas) else ""
        notes.append(f"body: average proportions, stature {1.75 if height is None else height:.2f} m{shape}")
    height = 1.75 if height is None else float(height)
    mass = BODY_MASS_INDEX * height**2 if mass is None else float(mass)
    skeleton, scale = humanoid(height, mass), np.ones((24, 3))
    if offsets is not None:
        skeleton, scale = stretched_to(skeleton, offsets)
    metres = 1.0 if unit is None else float(unit)
    p = np.asarray(forward(skeleton, copy_smpl(pose, translation).matrices(), jnp.zeros((len(pose), 3)))[1])
    feet, tops = [NAMES.index("left_ankle"), NAMES.index("right_ankle")], [NAMES.index("neck")]
    axis, why = choose_up(content.kind, up, content.usual_up, content.fixed_up, _direction(p, feet, tops))
    motion = copy_smpl(pose, metres * translation + pelvis, up_matrix(axis))
    said = "metres, by the format" if unit is None else f"{metres:.4g} m, given"
    notes += [f"up: {axis} ({why})", f"unit: {said}", "joints: SMPL, rotations copied"]
    return Clip(_name(path), skeleton, motion, rate, height, mass, scale, None, tuple(notes))


def _from_positions(path, content: Recording, rate, notes, up, unit, height, mass, joints, frames) -> Clip:
    family = find_family(content.names, joints)
    if family is None:
        raise ValueError(
            f"{path}: an unknown skeleton. It has the joints {', '.join(content.names[:60])}"
            f"{', ...' if len(content.names) > 60 else ''}; known are {', '.join(f.name for f in FAMILIES)}. Pass "
            "joints=, a table from its names to ours"
        )
    where = [content.names.index(name) for name in family.sites]
    position = np.asarray(content.position, np.float64)[frames]
    check_frames(str(path), "a joint position", position[:, where])
    still = np.mean(np.all(np.diff(position[:, where], axis=0) == 0.0, axis=(1, 2)))
    if still > 0.3:
        notes.append(
            f"WARNING: {still:.0%} of the frames repeat the one before: the recording is slower than its frame rate; "
            "pass frames=slice(None, None, 2) if every second one does"
        )
    place = {name: k for k, name in enumerate(content.names)}
    feet = [place[n] for n, s in family.sites.items() if s.joint.endswith("_ankle") and not any(s.offset)]
    tops = [place[n] for n, s in family.sites.items() if s.joint in _TOPS] or [place[n] for n in _hips(family)]
    rest = None if content.rest is None else _direction(content.rest, feet, tops)
    axis, why = choose_up(content.kind, up, content.usual_up, content.fixed_up, _direction(position, feet, tops), rest)
    metres, how = choose_unit(content.kind, unit, content.unit, _leg(position, family, place))
    position = metres * position @ up_matrix(axis).T
    skeleton, scale, height, mass = measured_skeleton(content.names, position, family, height=height, mass=mass)
    sites, order = find_sites(content.names, family, height)
    target = position[:, order]
    motion, error = fit(skeleton, jnp.asarray(target), sites, rate, near_ground(target, sites))
    error = np.sqrt(np.mean(np.square(np.asarray(error, np.float64)), 1))
    notes += [
        f"up: {axis} ({why})",
        f"unit: {how}",
        f"joints: {family.name}, {len(order)} of {len(content.names)} used; stature {height:.2f} m",
        f"inverse kinematics: {1e3 * np.sqrt(np.mean(error**2)):.0f} mm rms, worst frame {1e3 * error.max():.0f} mm",
    ]
    return Clip(_name(path), skeleton, motion, rate, height, mass, scale, error, tuple(notes))


def _hips(family: Family) -> list[str]:
    return [family.leg(side)[0] for side in ("left", "right")]


def _leg(position: np.ndarray, family: Family, place: Mapping[str, int]) -> float:
    """Thigh and shank in the unit of the file, mean of both sides, median over the frames."""
    lengths = []
    for side in ("left", "right"):
        hip, knee, ankle = (position[:, place[name]] for name in family.leg(side))
        lengths.append(np.linalg.norm(hip - knee, axis=-1) + np.linalg.norm(knee - ankle, axis=-1))
    return float(np.median(np.mean(lengths, 0)))


def _number(path: Path, arrays: Mapping[str, np.ndarray], name: str, default: float) -> float:
    value = np.asarray(arrays.get(name, default), np.float64)
    if value.size != 1:
        raise ValueError(f"{path}: {name} must be one number, got shape {list(value.shape)}")
    return float(value.reshape(()))


def _own(path: Path, arrays: Mapping[str, np.ndarray]) -> Clip:
    rotation, translation = (np.asarray(arrays[n], np.float64) for n in ("rotation", "translation"))
    if rotation.ndim != 3 or rotation.shape[1:] != (24, 3) or translation.shape != (len(rotation), 3):
        raise ValueError(
            f"{path}: rotation must have shape (T, 24, 3), one rotation vector per joint of {', '.join(NAMES)}, and "
            f"translation (T, 3); got {list(rotation.shape)} and {list(translation.shape)}"
        )
    values = np.concatenate([rotation.reshape(len(rotation), -1), translation], 1)
    check_frames(str(path), "a rotation or translation", values)
    body = {n: np.asarray(arrays[n], np.float64) for n in ("scale", "offset") if n in arrays}
    for name, value in body.items():
        if value.shape != (24, 3) or not np.isfinite(value).all() or (name == "scale" and (value <= 0).any()):
            kind = "numbers above 0" if name == "scale" else "finite numbers"
            raise ValueError(f"{path}: {name} must be {kind} of shape (24, 3), got {list(value.shape)}")
    height, mass, fps = (
        _number(path, arrays, name, default) for name, default in (("height", 1.75), ("mass", 75.0), ("fps", np.nan))
    )
    scale = body.get("scale", np.ones((24, 3)))
    skeleton = resize(humanoid(height, mass), scale)
    if "offset" in body:
        skeleton = dataclasses.replace(skeleton, offset=jnp.asarray(body["offset"], jnp.result_type(float)))
    return Clip(
        name=_name(path),
        skeleton=skeleton,
        motion=Motion(jnp.asarray(rotation), jnp.asarray(translation)),
        fps=fps,
        height=height,
        mass=mass,
        scale=scale,
        error_m=np.asarray(arrays["error_m"], np.float64) if "error_m" in arrays else None,
        notes=tuple(str(n) for n in np.ravel(arrays.get("notes", ()))),
    )
