"""DeepMimic's clips (JSON) and MuJoCo MPC's tracked sites (XML keyframes)."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from jaxphys.body.recording import Recording

# DeepMimic's humanoid (Peng et al. 2018; data/characters/humanoid3d.txt of its repository): x front, y up, z right.
# The order is that of a frame's numbers; parent and attachment in the parent's frame [m]; width: 4 quaternion, 1 angle
# about z.
_JOINTS = (
    ("root", -1, (0.0, 0.0, 0.0), 4),
    ("chest", 0, (0.0, 0.236151, 0.0), 4),
    ("neck", 1, (0.0, 0.223894, 0.0), 4),
    ("right_hip", 0, (0.0, 0.0, 0.084887), 4),
    ("right_knee", 3, (0.0, -0.421546, 0.0), 1),
    ("right_ankle", 4, (0.0, -0.40987, 0.0), 4),
    ("right_shoulder", 1, (-0.02405, 0.2435, 0.18311), 4),
    ("right_elbow", 6, (0.0, -0.274788, 0.0), 1),
    ("left_hip", 0, (0.0, 0.0, -0.084887), 4),
    ("left_knee", 8, (0.0, -0.421546, 0.0), 1),
    ("left_ankle", 9, (0.0, -0.40987, 0.0), 4),
    ("left_shoulder", 1, (-0.02405, 0.2435, -0.18311), 4),
    ("left_elbow", 11, (0.0, -0.274788, 0.0), 1),
)
# Points of its bodies that its joints do not give: wrists, the crown, and the ball of the foot as `joint_names` has it.
_POINTS = (
    ("right_wrist", 7, (0.0, -0.258947, 0.0)),
    ("left_wrist", 12, (0.0, -0.258947, 0.0)),
    ("right_toe", 5, (0.119, -0.0357, 0.0102)),
    ("left_toe", 10, (0.119, -0.0357, -0.0102)),
    ("crown", 2, (0.024, 0.155, 0.0)),
)
_WIDTH = 1 + 3 + sum(width for *_, width in _JOINTS)
MJPC_SITES = (
    "pelvis head ltoe rtoe lheel rheel lknee rknee lhand rhand lelbow relbow lshoulder rshoulder lhip rhip".split()
)


def parse_deepmimic(text: str, path: str) -> Recording:
    """Positions and world rotations of DeepMimic's humanoid; a clip with unequal durations is resampled.

    Raises:
        ValueError: not its JSON, another number of values per frame than its humanoid has.
    """
    try:
        frames = json.loads(text)["Frames"]
        widths = {len(frame) for frame in frames}
        if widths != {_WIDTH}:
            raise ValueError(f"{path}: a frame of DeepMimic's humanoid has {_WIDTH} numbers, this file has {widths}")
        values = np.array(frames, np.float64)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a DeepMimic clip: {type(error).__name__} {error}") from None
    duration = values[:-1, 0]  # the last frame's is not used
    if not len(duration) or not (duration > 0).all():
        raise ValueError(f"{path}: a DeepMimic clip needs two frames or more, each with a positive duration")
    step = float(np.median(duration))
    root, locals_ = values[:, 1:4], []
    column = 4
    for *_, width in _JOINTS:
        block = values[:, column : column + width]
        if width == 4 and not (np.linalg.norm(block, axis=1) > 1e-6).all():
            raise ValueError(f"{path}: a quaternion of a frame is zero")
        local = Rotation.from_quat(block, scalar_first=True) if width == 4 else Rotation.from_euler("z", block)
        locals_.append(local)
        column += width
    if np.abs(duration - step).max() > 0.01 * step:
        before = np.concatenate([[0.0], np.cumsum(duration)])
        after = np.arange(0.0, before[-1] + 0.5 * step, step).clip(max=before[-1])
        root = np.stack([np.interp(after, before, root[:, k]) for k in range(3)], -1)
        locals_ = [Slerp(before, local)(after) for local in locals_]
    position, rotation = [], []
    for (_, parent, offset, _), local in zip(_JOINTS, locals_):
        if parent < 0:
            position.append(root)
            rotation.append(local.as_matrix())
        else:
            position.append(position[parent] + rotation[parent] @ np.array(offset))
            rotation.append(rotation[parent] @ local.as_matrix())
    for _, parent, offset in _POINTS:
        position.append(position[parent] + rotation[parent] @ np.array(offset))
        rotation.append(rotation[parent])
    names = (*(j[0] for j in _JOINTS), *(p[0] for p in _POINTS))
    parents = (*(j[1] for j in _JOINTS), *(p[1] for p in _POINTS))
    return Recording(
        kind="DeepMimic",
        names=names,
        parents=parents,
        position=np.stack(position, 1),
        rotation=np.stack(rotation, 1),
        fps=1.0 / step,
        unit=1.0,
        usual_up="y",
        fixed_up=True,
    )


def parse_mjpc(text: str, path: str) -> Recording:
    """Tracked sites of the humanoid of MuJoCo MPC: the `mpos` of each keyframe.

    Raises:
        ValueError: not XML, or its keyframes do not hold the 16 sites of that humanoid.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError(f"{path}: an XML file with its own entities is not read")
    try:
        keys = ElementTree.fromstring(text).findall("keyframe/key")
        rows = [np.array(key.get("mpos", "").split(), np.float64) for key in keys]
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: not a keyframe file of MuJoCo MPC: {error}") from None
    sizes = {len(row) for row in rows}
    if sizes != {3 * len(MJPC_SITES)}:
        raise ValueError(
            f"{path}: each <key> needs mpos with {3 * len(MJPC_SITES)} numbers, 16 sites of the humanoid; found "
            f"{sorted(sizes) or 'no key'}"
        )
    return Recording(
        kind="MJPC keyframe",
        names=tuple(MJPC_SITES),
        parents=(-1,) * len(MJPC_SITES),
        position=np.stack(rows).reshape(len(rows), -1, 3),
        unit=1.0,
        usual_up="z",
        fixed_up=True,
        fps_advice="a keyframe file stores no frame rate; those of MuJoCo MPC have 30",
    )
