"""SMPL's parameters in the files that hold them, and the joints of the user's own SMPL model.

SMPL is Loper et al. 2015 (ACM Transactions on Graphics 34, 248). No model is shipped or needed: rotations are copied
onto our skeleton, and only the proportions of a person with shape parameters need the model file.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxphys.body.skeleton import NAMES, PARENTS

SMPL_KEYS = "poses + trans (AMASS), root_orient + pose_body + trans (AMASS SMPL-X), global_orient + body_pose + transl"
_RATES = ("mocap_framerate", "mocap_frame_rate", "fps", "frame_rate")


@dataclasses.dataclass(frozen=True)
class SmplPoses:
    """Rotations and translation over time in the world of a file."""

    kind: str
    pose: np.ndarray  # rotation vectors, root first (T, n, 3), n = 22 or 24 [rad]
    translation: np.ndarray  # (T, 3) [m]
    betas: np.ndarray  # shape parameters (n,), empty: none
    fps: float | None
    usual_up: str | None
    fixed_up: bool
    fps_advice: str = "the file stores no frame rate"


def parse_gvhmr(content: Any, path: str) -> SmplPoses:
    """The global motion of a GVHMR result (Shen et al. 2024): gravity-aligned, Y up, one person.

    Raises:
        ValueError: not such a result.
    """
    if isinstance(content, dict) and set(content) == {"pred"}:
        content = content["pred"]
    part = content.get("smpl_params_global") if isinstance(content, dict) else None
    if not isinstance(part, dict):
        raise ValueError(f"{path}: not a GVHMR result: it must be a dictionary with smpl_params_global")
    found = parse_smpl(part, path, "GVHMR")
    advice = "a GVHMR result stores no frame rate; its demo writes videos of 30, so give the rate of the video it saw"
    return dataclasses.replace(found, usual_up="y", fixed_up=True, fps=None, fps_advice=advice)


def parse_smpl(arrays: Mapping[str, Any], path: str, kind: str | None = None) -> SmplPoses:
    """Poses from the arrays of an npz or of a dictionary, by their names; None of SMPL's names: ValueError.

    Raises:
        ValueError: unknown names, another number of joints, lengths that differ.
    """
    names = set(arrays)
    if {"poses", "trans"} <= names:
        pose, translation, found = _array(arrays, "poses", path), _array(arrays, "trans", path), "AMASS"
    elif {"root_orient", "pose_body", "trans"} <= names:
        parts = [_rows(_array(arrays, name, path), name, path) for name in ("root_orient", "pose_body")]
        pose, translation, found = _join(parts, path), _array(arrays, "trans", path), "AMASS"
    elif {"global_orient", "body_pose", "transl"} <= names:
        parts = [_rows(_array(arrays, name, path), name, path) for name in ("global_orient", "body_pose")]
        pose, translation, found = _join(parts, path), _array(arrays, "transl", path), "SMPL"
    else:
        raise ValueError(f"{path}: found arrays {sorted(names)}; SMPL parameters are named {SMPL_KEYS}")
    kind = kind or found
    pose = _rows(pose, "poses", path)
    if pose.shape[1] % 3 or pose.shape[1] < 66 or pose.shape[1] == 69:
        raise ValueError(
            f"{path}: {pose.shape[1]} numbers per pose are not the joints of SMPL (72), SMPL+H (156) or SMPL-X (66 or "
            "more: a root and 21 joints of the body, three numbers each)"
        )
    # SMPL+H and SMPL-X have the same 22 joints first; what follows them is hands and face
    n = 24 if pose.shape[1] == 72 else 22
    if translation.ndim != 2 or translation.shape != (len(pose), 3):
        raise ValueError(
            f"{path}: poses of {len(pose)} frames need a translation ({len(pose)}, 3), got {list(translation.shape)}"
        )
    betas = _array(arrays, "betas", path) if "betas" in names else np.zeros(0)
    betas = betas.reshape(-1, betas.shape[-1])[0] if betas.size else np.zeros(0)
    rate = next((float(np.asarray(arrays[name])) for name in _RATES if name in names), None)
    return SmplPoses(
        kind=kind,
        pose=pose[:, : 3 * n].reshape(len(pose), n, 3),
        translation=translation,
        betas=betas,
        fps=rate,
        usual_up="z" if kind == "AMASS" else None,
        fixed_up=False,
    )


def read_model_joints(path: str | os.PathLike, betas: np.ndarray) -> np.ndarray:
    """Rest positions [m] of our 24 joints by the user's SMPL model: J = J_regressor (v_template + shapedirs betas).

    Args:
        path: .npz with v_template (V, 3), shapedirs (V, 3, n) and J_regressor (joints, V); joints are 24 (SMPL), 52
            (SMPL+H) or 55 (SMPL-X). The hands of SMPL+H and SMPL-X are where their fingers begin.
        betas: (m,) shape parameters, m <= n.

    Raises:
        ValueError: a pickle, or other arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            v, s, regressor = (np.asarray(file[n], np.float64) for n in ("v_template", "shapedirs", "J_regressor"))
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise ValueError(
            f"{path}: not an SMPL model as plain arrays v_template, shapedirs and J_regressor in an .npz ({error}). A "
            "model in a pickle must be converted by whoever trusts it"
        ) from None
    if len(regressor) not in (24, 52, 55) or len(betas) > s.shape[-1] or regressor.shape[1] != len(v):
        raise ValueError(
            f"{path}: an SMPL model has 24, 52 or 55 joints, this one {len(regressor)} for {len(v)} vertices, and "
            f"{s.shape[-1]} shape parameters for the {len(betas)} of the motion"
        )
    J = regressor @ (v + s[..., : len(betas)] @ betas)
    if len(J) == 24:
        return J
    first = 22 if len(J) == 52 else 25  # first finger joints of the left hand; the right follows 15 later
    middle = [J[k : k + 15].reshape(5, 3, 3)[:4, 0].mean(0) for k in (first, first + 15)]
    return np.concatenate([J[:22], middle])


def rest_offsets(J: np.ndarray) -> np.ndarray:
    """Each joint in the frame of its parent; the root at the origin (24, 3)."""
    return np.stack([J[k] - J[p] if p >= 0 else np.zeros(3) for k, p in zip(range(len(NAMES)), PARENTS)])


def _array(arrays: Mapping[str, Any], name: str, path: str) -> np.ndarray:
    array = np.asarray(arrays[name])
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise ValueError(f"{path}: {name} must hold numbers, it holds {array.dtype}")
    return array.astype(np.float64)


def _rows(array: np.ndarray, name: str, path: str) -> np.ndarray:
    if array.ndim < 2:
        raise ValueError(f"{path}: {name} must have one row per frame, got shape {list(array.shape)}")
    return array.reshape(len(array), -1)


def _join(parts: list[np.ndarray], path: str) -> np.ndarray:
    if len({len(part) for part in parts}) != 1:
        raise ValueError(f"{path}: root and body have {[len(part) for part in parts]} frames")
    return np.concatenate(parts, 1)
