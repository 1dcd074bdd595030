"""What a motion file holds before its axes and unit are known, and how they are found out.

Three witnesses vote on the axis that points up: what is usual in the format, the rest pose (feet to head) and the
recorded poses (feet to head, averaged). A body that lies or crawls says little or the wrong thing, so its poses alone
never outvote the other two. The unit is the one that gives the leg a human length.
"""

from __future__ import annotations

import dataclasses

import numpy as np

UNITS = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254, "CMU units": 0.0254 / 0.45}
LEG = (0.6, 1.12)  # thigh and shank of persons of 1.25 to 2.3 m [m]; narrower than the ratio of any two units
_UP = {  # rows: the new x, y, z in terms of the file's axes; proper rotations
    "z": np.eye(3),
    "y": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "x": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
    "-y": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "-x": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
}


@dataclasses.dataclass(frozen=True)
class Recording:
    """Joint positions over time in the axes and unit of a file."""

    kind: str  # name of the format
    names: tuple[str, ...]  # J joints or markers
    position: np.ndarray  # (T, J, 3)
    parents: tuple[int, ...] = ()  # -1: none
    rotation: np.ndarray | None = None  # world rotation (T, J, 3, 3)
    rest: np.ndarray | None = None  # positions without rotations (J, 3)
    fps: float | None = None
    unit: float | None = None  # metres per unit, where the file says so
    usual_up: str | None = None  # axis of the format
    fixed_up: bool = False  # the format allows no other
    fps_advice: str = "the file stores no frame rate"


def turn(letter: str, degrees) -> np.ndarray:
    """Rotation (..., 3, 3) about the axis X, Y or Z by an angle (...) [degree].

    >>> turn("Z", 90.0).round(6)[0].tolist()
    [0.0, -1.0, 0.0]
    """
    angle = np.deg2rad(np.asarray(degrees, np.float64))
    k = "XYZ".index(letter)
    i, j = (k + 1) % 3, (k + 2) % 3
    R = np.zeros((*angle.shape, 3, 3))
    R[..., k, k] = 1.0
    R[..., i, i] = R[..., j, j] = np.cos(angle)
    R[..., j, i] = np.sin(angle)
    R[..., i, j] = -R[..., j, i]
    return R


def up_matrix(up: str) -> np.ndarray:
    """Rotation (3, 3) from a world whose axis `up` points up to one where z does.

    >>> (up_matrix("y") @ [0.0, 1.0, 0.0]).tolist()
    [0.0, 0.0, 1.0]
    """
    if up not in _UP:
        raise ValueError(f"up must be one of {', '.join(_UP)}, got {up!r}")
    return _UP[up]


def choose_up(kind: str, given: str | None, usual: str | None, fixed: bool, poses, rest=None) -> tuple[str, str]:
    """The axis that points up in a file, and why.

    Args:
        kind: name of the format, for the message.
        given: the caller's word, which decides.
        usual: axis of the format, or None.
        fixed: the format allows no other axis.
        poses: (T, 3) direction from feet to head in the frames, or None.
        rest: (3,) the same in the rest pose, or None.

    Raises:
        ValueError: nothing points to one axis.
    """
    if given is not None:
        up_matrix(given)
        return given, "given"
    if fixed and usual is not None:
        return usual, f"always so in {kind} files"
    votes, reasons = dict.fromkeys(_UP, 0.0), {axis: [] for axis in _UP}

    def vote(direction, weight, reason):
        k = int(np.argmax(np.abs(direction)))
        axis = ("" if direction[k] > 0 else "-") + "xyz"[k]
        strength = abs(direction[k]) * weight
        if abs(direction[k]) > 0.6:
            votes[axis] += strength
            reasons[axis].append(reason)

    if usual is not None:
        votes[usual] += 1.0
        reasons[usual].append(f"usual in {kind} files")
    if rest is not None and np.linalg.norm(rest) > 0:
        vote(rest / np.linalg.norm(rest), 1.0, "so the rest pose stands")
    if poses is not None:
        length = np.linalg.norm(poses, axis=-1, keepdims=True)
        vote((poses / np.where(length > 0, length, 1.0)).mean(0), 1.5, "so the body stands in the frames")
    best = max(votes, key=votes.__getitem__)
    if not votes[best]:
        raise ValueError(f"cannot tell which axis of this {kind} file points up: pass up='y', up='z' or another axis")
    against = [f"{axis}: {', '.join(why)}" for axis, why in reasons.items() if why and axis != best]
    return best, ", ".join(reasons[best]) + (f" (but {'; '.join(against)}: pass up= if wrong)" if against else "")


def choose_unit(kind: str, given: float | None, said: float | None, leg: float | None) -> tuple[float, str]:
    """Metres per unit of a file, and why.

    Args:
        kind: name of the format, for the message.
        given: the caller's word, which decides.
        said: what the file or its format says, or None.
        leg: length of thigh and shank in the file's unit, or None where its joints are unknown.

    Raises:
        ValueError: no unit gives the leg a human length, or the leg is unknown and so is the unit.
    """
    if given is not None:
        if not (np.isfinite(given) and given > 0):
            raise ValueError(f"unit must be a positive number of metres, got {given}")
        return float(given), "given"
    if said is not None:
        if leg is not None and not 0.5 * LEG[0] < leg * said < 1.5 * LEG[1]:
            raise ValueError(
                f"with the unit of this {kind} file, {said:.4g} m, thigh and shank are {leg * said:.3g} m long, which "
                "is no person: pass unit= in metres"
            )
        return said, f"{said:.4g} m, by the {kind} file or format"
    if leg is None:
        raise ValueError(f"cannot tell the unit of this {kind} file, whose joints are not known: pass unit= in metres")
    fitting = [name for name, metres in UNITS.items() if LEG[0] <= leg * metres <= LEG[1]]
    if len(fitting) != 1:
        raise ValueError(
            f"cannot tell the unit of this {kind} file: thigh and shank are {leg:.4g} units long, which is a person's "
            f"{LEG[0]} to {LEG[1]} m in {' and '.join(fitting) or 'no usual unit'}: pass unit= in metres"
        )
    return UNITS[fitting[0]], f"{fitting[0]}: thigh and shank are then {leg * UNITS[fitting[0]]:.2f} m long"


def check_frames(path: str, what: str, values: np.ndarray, least: int = 3) -> None:
    """Raises ValueError on NaN or infinity, naming the frames, and on clips too short to have an acceleration."""
    if len(values) < least:
        raise ValueError(
            f"{path}: {len(values)} frame{'s' * (len(values) != 1)}; a motion needs at least {least}, for accelerations"
        )
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(-1))
    if len(bad):
        raise ValueError(
            f"{path}: {what} of {len(bad)} of {len(values)} frames is NaN or infinite (first: frame {bad[0]}); cut "
            "these frames away or fill them before scoring"
        )
