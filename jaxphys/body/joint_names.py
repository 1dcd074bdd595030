"""What the joints and markers of known motion files are called, and where they sit on our skeleton.

A marker that is no joint centre of ours is a point fixed to one of our bodies, in fractions of stature. The ball of the
foot is one: mocap skeletons put it higher above the sole than the joint of ours, so that feet which are flat there are
flat here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxphys.body.skeleton import NAMES


@dataclasses.dataclass(frozen=True)
class Site:
    """A point of our skeleton, and how much it counts."""

    joint: str
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)  # in the joint's body, fractions of stature
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Family:
    """One way of naming joints."""

    name: str
    sites: Mapping[str, Site]

    def leg(self, side: str) -> tuple[str, str, str]:
        """File's names of hip, knee and ankle."""
        by_joint = {site.joint: name for name, site in reversed(self.sites.items()) if not any(site.offset)}
        return tuple(by_joint[f"{side}_{part}"] for part in ("hip", "knee", "ankle"))


_CORE = ("pelvis", *(f"{s}_{p}" for s in ("left", "right") for p in ("hip", "knee", "ankle", "shoulder", "elbow")))


def _sides(left: str, right: str, sites: dict[str, Site]) -> dict[str, Site]:
    """Both sides of sites that are written for the left, with `*` where the name of the side stands."""
    both = {}
    for word, side, sign in ((left, "left", 1.0), (right, "right", -1.0)):
        for pattern, site in sites.items():
            x, y, z = site.offset
            both[pattern.replace("*", word)] = Site(f"{side}_{site.joint}", (sign * x, y, z), site.weight)
    return both


HIPS, SHOULDER, HAND = Site("pelvis", weight=0.3), Site("shoulder", weight=0.7), Site("hand", weight=0.3)
NECK, COLLARS = Site("neck", weight=0.2), Site("spine3", (0.0, 0.030, 0.0), 0.3)  # where the collar bones meet
CROWN = Site("head", (0.0, 0.022, 0.0), 0.5)  # end of the head bone
BALL = Site("ankle", (0.006, -0.021, 0.070))  # of the foot
TOES = Site("foot", (0.0, 0.008, 0.036), 0.5)  # their tip
HIP, KNEE, ANKLE, ELBOW, WRIST = (Site(part) for part in ("hip", "knee", "ankle", "elbow", "wrist"))
FAMILIES = (
    Family("SMPL", {name: Site(name) for name in NAMES}),
    # the position of a bone of an ASF skeleton is its end; `lwrist` is a piece of the forearm that ends at the wrist
    Family("CMU (ASF/AMC)", {"root": HIPS, "thorax": COLLARS, "upperneck": NECK, "head": CROWN} | _sides("l", "r", {
        "*hipjoint": HIP, "*femur": KNEE, "*tibia": ANKLE, "*foot": BALL, "*toes": TOES, "*clavicle": SHOULDER,
        "*humerus": ELBOW, "*wrist": WRIST, "*fingers": HAND})),
    Family("CMU (BVH of cgspeed)", {"Hips": HIPS, "lowerneck": COLLARS, "Head": NECK, "Head_end": CROWN}
        | _sides("Left", "Right", {"*Hip": HIP, "*Knee": KNEE, "*Ankle": ANKLE, "*Toe": BALL, "*Toe_end": TOES,
        "*Shoulder": SHOULDER, "*Elbow": ELBOW}) | _sides("l", "r", {"*hand": WRIST})
        | _sides("L", "R", {"*Fingers_end": HAND})),
    Family("MakeHuman", {"hip": HIPS, "neck": COLLARS, "head": NECK} | _sides("l", "r", {
        "*hip": HIP, "*knee": KNEE, "*foot": ANKLE, "*shoulder": SHOULDER, "*elbow": ELBOW, "*hand": WRIST,
        "toe3-1.*": BALL, "toe3-3.*": TOES, "finger3-1.*": HAND})),
    Family("Mixamo and LAFAN1", {"Hips": HIPS, "Neck": COLLARS, "Head": NECK} | _sides("Left", "Right", {
        "*UpLeg": HIP, "*Leg": KNEE, "*Foot": ANKLE, "*ToeBase": BALL, "*Toe": BALL, "*Arm": SHOULDER,
        "*ForeArm": ELBOW, "*Hand": WRIST})),
    Family("MJPC humanoid", {"pelvis": HIPS, "head": CROWN} | _sides("l", "r", {
        "*hip": HIP, "*knee": KNEE, "*heel": ANKLE, "*toe": BALL, "*shoulder": SHOULDER, "*elbow": ELBOW,
        "*hand": WRIST})),
    Family("DeepMimic humanoid", {"root": HIPS, "neck": COLLARS, "crown": CROWN} | _sides("left", "right", {
        "*_hip": HIP, "*_knee": KNEE, "*_ankle": ANKLE, "*_toe": BALL, "*_shoulder": SHOULDER, "*_elbow": ELBOW,
        "*_wrist": WRIST})),
    Family("AMP humanoid", {"pelvis": HIPS, "head": NECK} | _sides("left", "right", {
        "*_thigh": HIP, "*_shin": KNEE, "*_foot": ANKLE, "*_toe": BALL, "*_upper_arm": SHOULDER,
        "*_lower_arm": ELBOW, "*_hand": WRIST})),
)  # fmt: skip


def find_family(names: tuple[str, ...], joints: Mapping[str, str] | None = None) -> Family | None:
    """The family with most joints among `names`, of those whose main joints are all there; None if there is none.

    Args:
        names: joints of a file.
        joints: the caller's own table, name in the file -> name of our joint, instead of a known family.

    Raises:
        ValueError: `joints` names what is not in the file, or is no joint of ours, or lacks a leg.

    >>> find_family(("pelvis", "neck")) is None
    True
    """
    if joints is not None:
        absent, foreign = sorted(set(joints) - set(names)), sorted(set(joints.values()) - set(NAMES))
        if absent or foreign:
            raise ValueError(
                f"joints= maps names of the file to ours; not in the file: {absent or 'none'}; not ours: "
                f"{foreign or 'none'}. Ours are {', '.join(NAMES)}"
            )
        legs = {f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle")}
        missing = sorted(legs - set(joints.values()))
        if missing:
            raise ValueError(f"joints= must name both hips, knees and ankles; missing: {', '.join(missing)}")
        return Family("given by the caller", {name: Site(ours) for name, ours in joints.items()})
    found = []
    for family in FAMILIES:
        sites = {name: site for name, site in family.sites.items() if name in names}
        if {site.joint for site in sites.values() if not any(site.offset)} >= set(_CORE):
            found.append(Family(family.name, sites))
    return max(found, key=lambda family: len(family.sites), default=None)
