"""BVH: a hierarchy of joints with offsets and channels, then one line of numbers per frame (Biovision, 1990s)."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxphys.body.recording import Recording, turn


@dataclasses.dataclass
class _Joint:
    name: str
    parent: int
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    channels: tuple[str, ...] = ()


def parse_bvh(text: str, path: str) -> Recording:
    """Joint positions and world rotations of a BVH file, in its own axes and unit.

    p_j = p_parent + R_parent t_j and R_j = R_parent R_local, with t_j the joint's offset, or its position channels
    where it has them, and R_local the product of its rotations in the order of its channels. The end of the last bone
    of a chain is called after its joint, with `_end`.

    Raises:
        ValueError: not BVH, an unknown channel, another number of values than frames times channels.
    """
    head, mark, body = text.partition("MOTION")
    words = head.split()
    if not mark or words[:1] != ["HIERARCHY"]:
        raise ValueError(f"{path}: not a BVH file: it lacks its HIERARCHY or MOTION line")
    joints = _hierarchy(words[1:], path)
    lines = body.split(None, 5)  # "Frames:" n "Frame" "Time:" dt values
    if len(lines) < 5 or lines[0] != "Frames:" or lines[2:4] != ["Frame", "Time:"]:
        raise ValueError(f"{path}: after MOTION there must be 'Frames: n' and 'Frame Time: seconds'")
    try:
        frames, seconds = int(lines[1]), float(lines[4])
        values = np.array(lines[5].split() if len(lines) > 5 else [], np.float64)
    except ValueError as error:
        raise ValueError(f"{path}: a number of the MOTION part cannot be read ({error})") from None
    width = sum(len(j.channels) for j in joints)
    if values.size != frames * width or not frames:
        raise ValueError(
            f"{path}: {frames} frames of {width} channels need {frames * width} values, the file has {values.size}"
        )
    if not seconds > 0:
        raise ValueError(f"{path}: Frame Time must be positive, got {seconds}")
    position, rotation = _forward(joints, values.reshape(frames, width))
    return Recording(
        kind="BVH",
        names=tuple(j.name for j in joints),
        parents=tuple(j.parent for j in joints),
        position=position,
        rotation=rotation,
        rest=_rest(joints),
        fps=1.0 / seconds,
        usual_up="y",
    )


def _hierarchy(words: list[str], path: str) -> list[_Joint]:
    joints, stack, k = [], [], 0
    try:
        while k < len(words):
            match words[k]:
                case "ROOT" | "JOINT":
                    joints.append(_Joint(words[k + 1], stack[-1] if stack else -1))
                    k += 2
                case "End":  # "End Site"
                    joints.append(_Joint(f"{joints[stack[-1]].name}_end", stack[-1]))
                    k += 2
                case "{":
                    stack.append(len(joints) - 1)
                    k += 1
                case "}":
                    stack.pop()
                    k += 1
                case "OFFSET":
                    joints[stack[-1]].offset = tuple(float(w) for w in words[k + 1 : k + 4])
                    k += 4
                case "CHANNELS":
                    count = int(words[k + 1])
                    channels = tuple(words[k + 2 : k + 2 + count])
                    wrong = [c for c in channels if c[:1] not in "XYZ" or c[1:] not in ("position", "rotation")]
                    if wrong or len(channels) != count:
                        raise ValueError(f"channels {channels}")
                    joints[stack[-1]].channels = channels
                    k += 2 + count
                case word:
                    raise ValueError(f"the word {word!r}")
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path}: the HIERARCHY cannot be understood near word {k}: {error}") from None
    if not joints or stack or joints[0].parent != -1 or sum(j.parent < 0 for j in joints) != 1:
        raise ValueError(f"{path}: the HIERARCHY must be one tree with balanced braces")
    return joints


def _forward(joints: list[_Joint], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frames, column = len(values), 0
    position, rotation = np.zeros((frames, len(joints), 3)), np.zeros((frames, len(joints), 3, 3))
    for k, joint in enumerate(joints):
        local, shift = np.broadcast_to(np.eye(3), (frames, 3, 3)), np.tile(joint.offset, (frames, 1))
        for channel in joint.channels:
            if channel.endswith("position"):
                shift[:, "XYZ".index(channel[0])] = values[:, column]
            else:
                local = local @ turn(channel[0], values[:, column])
            column += 1
        if joint.parent < 0:
            position[:, k], rotation[:, k] = shift, local
        else:
            R = rotation[:, joint.parent]
            position[:, k] = position[:, joint.parent] + np.einsum("tij,tj->ti", R, shift)
            rotation[:, k] = R @ local
    return position, rotation


def _rest(joints: list[_Joint]) -> np.ndarray:
    """Joint positions with all rotations zero, the root at the origin."""
    rest = np.zeros((len(joints), 3))
    for k, joint in enumerate(joints):
        if joint.parent >= 0:
            rest[k] = rest[joint.parent] + joint.offset
    return rest
