"""ASF and AMC (Acclaim, 1990s): a skeleton of bones, and the angles of its joints. CMU's motion capture database."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from jaxphys.body.recording import Recording, turn

INCH = 0.0254  # [m]; a length in the file, divided by the file's `length` scale, is in inches
_DOF = {"tx", "ty", "tz", "rx", "ry", "rz", "l"}


@dataclasses.dataclass
class _Bone:
    name: str
    vector: np.ndarray  # from its beginning to its end, in the root's axes at rest
    axis: np.ndarray  # (3, 3) the axes in which its angles are measured
    dof: tuple[str, ...]  # of `_DOF`
    parent: int = -1


def parse_asf(text: str, path: str) -> tuple[list[_Bone], float | None, bool]:
    """Bones in an order where parents come first (the root is 0), metres per unit, whether angles are in degrees.

    Raises:
        ValueError: not ASF, a part of it is missing, or the hierarchy names an unknown bone.
    """
    text = re.sub(r"#.*", "", text)
    parts = dict(re.findall(r"^:(\w+)([^:]*)", text, re.MULTILINE))
    missing = [name for name in ("units", "root", "bonedata", "hierarchy") if name not in parts]
    if missing:
        raise ValueError(f"{path}: not an ASF skeleton: it lacks the part :{missing[0]}")
    try:
        units = dict(line.split()[:2] for line in parts["units"].strip().splitlines())
        degrees = units.get("angle", "deg").startswith("deg")
        root = dict((line.split()[0], line.split()[1:]) for line in parts["root"].strip().splitlines())
        order = tuple(word.lower() for word in root["order"])
        bones = {"root": _Bone("root", np.zeros(3), np.eye(3), order)}
        for block in re.findall(r"begin(.*?)end", parts["bonedata"], re.DOTALL):
            rows = {line.split()[0]: line.split()[1:] for line in block.strip().splitlines() if line.split()}
            direction = np.array(rows["direction"], np.float64)
            angles, names = np.array(rows["axis"][:3], np.float64), rows["axis"][3].upper()
            axis = np.eye(3)
            for letter, angle in zip(names, angles if degrees else np.rad2deg(angles)):
                axis = turn(letter, angle) @ axis  # about fixed axes, the first letter first
            name = rows["name"][0]
            dof = tuple(word.lower() for word in rows.get("dof", ()))
            bones[name] = _Bone(name, direction * float(rows["length"][0]), axis, dof)
        ordered = [bones["root"]]
        tree = re.sub(r"\b(begin|end)\b", "", parts["hierarchy"]).strip().splitlines()
        for line in tree:
            parent, *children = line.split()
            index = [b.name for b in ordered].index(parent)
            for child in children:
                bones[child].parent = index
                ordered.append(bones[child])
        wrong = {d for bone in ordered for d in bone.dof} - _DOF
        if wrong:
            raise ValueError(f"degrees of freedom {sorted(wrong)}, not among {sorted(_DOF)}")
        scale = INCH / float(units["length"]) if "length" in units else None
    except (KeyError, ValueError, IndexError, ArithmeticError) as error:
        raise ValueError(f"{path}: the ASF skeleton cannot be understood: {type(error).__name__} {error}") from None
    return ordered, scale, degrees


def parse_amc(text: str, skeleton: str, path: str, skeleton_path: str) -> Recording:
    """Positions and world rotations of all bones, in the file's axes and unit. The position of a bone is its end.

    R_b = R_parent C M C^T with C the bone's axes and M its angles about fixed axes in the order of its degrees of
    freedom, p_b = p_parent + R_b v_b.

    Raises:
        ValueError: not AMC, or made for another skeleton.
    """
    bones, unit, degrees = parse_asf(skeleton, skeleton_path)
    if ":RADIANS" in text.upper()[:1000]:
        degrees = False
    frames: list[dict[str, list[float]]] = []
    try:
        for line in text.splitlines():
            name, *values = line.split() or [""]
            if not name or name[0] in "#:":
                continue
            if not values:
                int(name)
                frames.append({})
            else:
                frames[-1][name] = [float(v) for v in values]
    except (ValueError, IndexError):
        raise ValueError(
            f"{path}: not an AMC file: the line {line[:60]!r} is no frame number, bone or comment"
        ) from None
    if not frames:
        raise ValueError(f"{path}: the AMC file has no frames")
    unknown = sorted(set(frames[0]) - {b.name for b in bones})
    if unknown:
        raise ValueError(
            f"{path}: moves {unknown}, which {skeleton_path} does not have: give the ASF of the same subject"
        )
    position, rotation = np.zeros((len(frames), len(bones), 3)), np.zeros((len(frames), len(bones), 3, 3))
    for k, bone in enumerate(bones):
        try:
            values = np.array([frame[bone.name] for frame in frames]) if bone.dof else np.zeros((len(frames), 0))
            values = values.reshape(len(frames), len(bone.dof))
        except (KeyError, ValueError):
            raise ValueError(
                f"{path}: bone {bone.name} needs {len(bone.dof)} values {bone.dof} in every frame"
            ) from None
        local, shift = np.broadcast_to(np.eye(3), (len(frames), 3, 3)), np.zeros((len(frames), 3))
        for dof, value in zip(bone.dof, values.T):
            if dof[0] == "r":
                local = turn(dof[1].upper(), value if degrees else np.rad2deg(value)) @ local
            elif k == 0 and dof[0] == "t":
                shift[:, "xyz".index(dof[1])] = value
        if k == 0:
            position[:, 0], rotation[:, 0] = shift, local
        else:
            rotation[:, k] = rotation[:, bone.parent] @ (bone.axis @ local @ bone.axis.T)
            position[:, k] = position[:, bone.parent] + rotation[:, k] @ bone.vector
    rest = np.zeros((len(bones), 3))
    for k, bone in enumerate(bones[1:], 1):
        rest[k] = rest[bone.parent] + bone.vector
    return Recording(
        kind="ASF/AMC",
        names=tuple(b.name for b in bones),
        parents=tuple(b.parent for b in bones),
        position=position,
        rotation=rotation,
        rest=rest,
        unit=unit,
        usual_up="y",
        fps_advice="an AMC file stores no frame rate; most recordings of the CMU database have 120",
    )
