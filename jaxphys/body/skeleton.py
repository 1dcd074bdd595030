"""The human body: 24 joints with SMPL's topology, sized by published anthropometry.

Segment lengths are the fractions of stature of Drillis and Contini (1966; Winter, Biomechanics and Motor Control of
Human Movement, 2009, figure 4.1). Segment masses, centres of mass and radii of gyration are de Leva's (1996, J.
Biomechanics 29, 1223, table 4, male), with the parts that SMPL's tree cuts up (middle trunk, upper trunk, foot, hand,
head) shared so that each whole keeps its mass. Joint centres inside the trunk, which neither gives, lie in between.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.checks import check_number, is_concrete
from jaxphys.pytree import pytree, static

NAMES = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot right_foot "
    "neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist "
    "left_hand right_hand"
).split()
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

# Joint in the frame of its parent, fractions of stature; x left, y up, z front. Left side; the right is its mirror.
OFFSET = {
    "pelvis": (0.0, 0.0, 0.0),
    "hip": (0.0475, -0.048, 0.0),  # half of hip breadth 0.191 is the trochanter, half of that the joint centre
    "knee": (0.0, -0.245, 0.0),
    "ankle": (0.0, -0.246, 0.0),
    "foot": (0.006, -0.029, 0.070),  # ball of the foot, 0.010 above the sole
    "spine1": (0.0, 0.060, -0.010),
    "spine2": (0.0, 0.075, 0.0),
    "spine3": (0.0, 0.040, 0.004),
    "neck": (0.0, 0.117, -0.008),  # at 0.870, the height of the chin
    "head": (0.0, 0.046, 0.014),
    "collar": (0.045, 0.055, 0.0),
    "shoulder": (0.065, 0.010, 0.0),  # at 0.818, 0.110 from the middle
    "elbow": (0.186, 0.0, 0.0),
    "wrist": (0.146, 0.0, 0.0),
    "hand": (0.0495, 0.0, 0.0),  # third knuckle
}
ANKLE_HEIGHT = 0.039

# Mass over body mass; centre of mass in the body's frame over stature; cuboid over stature whose radii of gyration are
# de Leva's for the segment (breadth x, height y, depth z). Centres of the trunk parts: 0.0325 above the hips (lower),
# 0.682 (middle), 0.806 (upper) above the floor.
BLOCK = {
    "pelvis": (0.1117, (0.0, -0.0155, 0.0), (0.133, 0.119, 0.107)),
    "spine1": (0.08165, (0.0, 0.0127, 0.010), (0.167, 0.0605, 0.111)),
    "spine2": (0.08165, (0.0, -0.0004, 0.010), (0.167, 0.0605, 0.111)),
    "spine3": (0.1296, (0.0, 0.0515, 0.006), (0.207, 0.128, 0.086)),
    "collar": (0.0150, (0.033, 0.010, 0.0), (0.07, 0.05, 0.06)),
    "neck": (0.0110, (0.0, 0.023, 0.007), (0.065, 0.050, 0.065)),
    "head": (0.0584, (0.0, 0.034, 0.010), (0.084, 0.120, 0.094)),
    "ankle": (0.0110, (0.0, -0.021, 0.0117), (0.050, 0.036, 0.125)),
    "foot": (0.0027, (0.0, -0.002, 0.020), (0.050, 0.015, 0.040)),
    "wrist": (0.0037, (0.028, 0.0, 0.0), (0.055, 0.018, 0.045)),
    "hand": (0.0024, (0.022, 0.0, 0.0), (0.050, 0.015, 0.045)),
}
# Limb segments: mass; centre of mass from the proximal end and radii of gyration (sagittal, transverse, longitudinal),
# all over the segment's length; the segment ends at the named joint.
LIMB = {
    "hip": (0.1416, 0.4095, (0.329, 0.329, 0.149), "knee"),
    "knee": (0.0433, 0.4395, (0.251, 0.246, 0.102), "ankle"),
    "shoulder": (0.0271, 0.5772, (0.285, 0.269, 0.158), "elbow"),
    "elbow": (0.0162, 0.4574, (0.276, 0.265, 0.121), "wrist"),
}
# Points of the sole over stature: heel and ball corners on the ankle's body, toe corners on the foot's.
# Foot length 0.152, of which 0.040 behind the ankle, and breadth 0.055 (Drillis and Contini).
SOLE = (
    ("ankle", (-0.018, -0.039, -0.040)),
    ("ankle", (0.018, -0.039, -0.040)),
    ("ankle", (-0.0215, -0.039, 0.070)),
    ("ankle", (0.0335, -0.039, 0.070)),
    ("foot", (-0.020, -0.010, 0.042)),
    ("foot", (0.020, -0.010, 0.042)),
)
# Points of the palm, on the wrist's body, over stature: heel of the hand, knuckles of the first and last finger.
PALM = ((0.008, -0.014, 0.0), (0.049, -0.012, 0.020), (0.049, -0.012, -0.020))
# Capsules for self-contact and drawing, over stature: ends a and b in the body's frame, radius.
CAPSULE = {
    "pelvis": ((-0.045, -0.020, 0.0), (0.045, -0.020, 0.0), 0.060),
    "spine1": ((-0.040, 0.020, 0.010), (0.040, 0.020, 0.010), 0.055),
    "spine2": ((-0.040, 0.010, 0.010), (0.040, 0.010, 0.010), 0.060),
    "spine3": ((-0.045, 0.050, 0.006), (0.045, 0.050, 0.006), 0.062),
    "neck": ((0.0, 0.0, 0.0), (0.0, 0.046, 0.014), 0.030),
    "head": ((0.0, 0.015, 0.010), (0.0, 0.045, 0.010), 0.048),
    "collar": ((0.0, 0.0, 0.0), (0.065, 0.010, 0.0), 0.028),
    "hip": ((0.0, -0.020, 0.0), (0.0, -0.245, 0.0), 0.040),
    "knee": ((0.0, 0.0, 0.0), (0.0, -0.246, 0.0), 0.028),
    "ankle": ((0.0, -0.022, -0.023), (0.003, -0.022, 0.055), 0.017),
    "foot": ((-0.010, 0.0, 0.012), (0.010, 0.0, 0.012), 0.010),
    "shoulder": ((0.0, 0.0, 0.0), (0.186, 0.0, 0.0), 0.026),
    "elbow": ((0.0, 0.0, 0.0), (0.146, 0.0, 0.0), 0.021),
    "wrist": ((0.0, 0.0, 0.0), (0.0495, 0.0, 0.0), 0.017),
    "hand": ((0.0, 0.0, 0.0), (0.035, 0.0, 0.0), 0.014),
}


@pytree
class Skeleton:
    """A tree of rigid bodies, one per joint; body j turns about joint j.

    >>> body = humanoid(height=1.8, mass=80.0)
    >>> round(float(body.total_mass), 3), body.count
    (80.0, 24)
    """

    names: tuple[str, ...] = static()
    parents: tuple[int, ...] = static()  # -1: the root, which is joint 0
    sole_body: tuple[int, ...] = static()  # body of each sole point
    palm_body: tuple[int, ...] = static()
    capsule_body: tuple[int, ...] = static()  # body of each capsule
    offset: Any  # joint in its parent's frame [m] (J, 3)
    mass: Any  # [kg] (J,)
    com: Any  # centre of mass in the body's frame [m] (J, 3)
    inertia: Any  # about the centre of mass, in the body's frame [kg m^2] (J, 3, 3)
    sole: Any  # points of the soles in their bodies' frames [m] (K, 3); per foot 2 heel, 2 ball, 2 toe corners
    palm: Any  # points of the palms [m] (P, 3); per hand the heel and 2 knuckles
    capsule_a: Any  # ends in the body's frame [m] (C, 3)
    capsule_b: Any
    capsule_radius: Any  # [m] (C,)

    @property
    def count(self) -> int:
        """Number of joints."""
        return len(self.parents)

    @property
    def total_mass(self) -> jax.Array:
        """[kg]"""
        return jnp.sum(jnp.asarray(self.mass))

    @property
    def leg_length(self) -> jax.Array:
        """Thigh and shank [m]."""
        offset = jnp.asarray(self.offset)
        knee, ankle = (offset[self.index(n)] for n in ("left_knee", "left_ankle"))
        return jnp.linalg.norm(knee) + jnp.linalg.norm(ankle)

    def index(self, name: str) -> int:
        """Number of a joint.

        >>> humanoid().index("left_knee")
        4
        """
        if name not in self.names:
            raise ValueError(f"no joint is called {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def parent_of(self, name: str) -> int:
        return self.parents[self.index(name)]


def _side(name: str) -> tuple[str, float]:
    """The name without its side, and the sign of x: +1 left and middle, -1 right."""
    side, _, rest = name.partition("_")
    return (rest, -1.0 if side == "right" else 1.0) if side in ("left", "right") else (name, 1.0)


def _mirror(vector, sign: float) -> np.ndarray:
    return np.asarray(vector, np.float64) * (sign, 1.0, 1.0)


def _body_table(name: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Mass over body mass, centre of mass over stature, diagonal of the inertia over mass and stature^2."""
    part, sign = _side(name)
    if part in BLOCK:
        mass, com, (x, y, z) = BLOCK[part]
        return mass, _mirror(com, sign), mass / 12.0 * np.array([y * y + z * z, x * x + z * z, x * x + y * y])
    mass, fraction, (sagittal, transverse, longitudinal), end = LIMB[part]
    segment = _mirror(OFFSET[end], sign)
    length = np.linalg.norm(segment)
    vertical = part in ("hip", "knee")  # legs hang along y; arms lie along x in the zero pose
    radii = (transverse, longitudinal, sagittal) if vertical else (longitudinal, transverse, sagittal)
    return mass, fraction * segment, mass * (np.array(radii) * length) ** 2


def humanoid(height=1.75, mass=75.0) -> Skeleton:
    """A person of average proportions, differentiable with respect to both arguments.

    Args:
        height: stature [m].
        mass: [kg].

    Returns:
        24 joints, 12 sole points and 6 palm points (left side first), 24 capsules.

    Raises:
        ValueError: height or mass is not one positive number.

    >>> body = humanoid()
    >>> round(float(body.leg_length), 3)  # 0.491 of stature
    0.859
    >>> grad = jax.grad(lambda height: humanoid(height).inertia.sum())(1.75)
    >>> bool(grad > 0)
    True
    """
    check_number("humanoid", "height", height, above=0.0)
    check_number("humanoid", "mass", mass, above=0.0)
    parts = [_side(n) for n in NAMES]
    fraction, com, inertia = zip(*(_body_table(n) for n in NAMES))
    sides = (("left", 1.0), ("right", -1.0))
    sole = [(NAMES.index(f"{side}_{part}"), _mirror(x, sign)) for side, sign in sides for part, x in SOLE]
    palm = [(NAMES.index(f"{side}_wrist"), _mirror(x, sign)) for side, sign in sides for x in PALM]
    ends = [tuple(_mirror(e, sign) for e in CAPSULE[part][:2]) for part, sign in parts]
    height, mass = (jnp.asarray(v, jnp.result_type(v, float)) for v in (height, mass))

    def scaled(values, factor):
        return jnp.asarray(np.asarray(values), factor.dtype) * factor

    return Skeleton(
        names=tuple(NAMES),
        parents=PARENTS,
        sole_body=tuple(body for body, _ in sole),
        palm_body=tuple(body for body, _ in palm),
        capsule_body=tuple(range(24)),
        offset=scaled([_mirror(OFFSET[part], sign) for part, sign in parts], height),
        mass=scaled(fraction, mass),
        com=scaled(com, height),
        inertia=scaled([np.diag(d) for d in inertia], mass * height**2),
        sole=scaled([x for _, x in sole], height),
        palm=scaled([x for _, x in palm], height),
        capsule_a=scaled([a for a, _ in ends], height),
        capsule_b=scaled([b for _, b in ends], height),
        capsule_radius=scaled([CAPSULE[part][2] for part, _ in parts], height),
    )


def _numbers(values) -> str:
    return " ".join(repr(float(v)) for v in np.ravel(values))


def mjcf(skeleton: Skeleton) -> str:
    """The skeleton as a MuJoCo model: free root, ball joints, capsules without contacts, inertias as given.

    Bodies, joints and geoms are written in the order of MuJoCo's depth-first numbering, so look them up by name. All
    digits are kept, so that `mj_inverse` agrees with `inverse_dynamics` to round-off.

    Args:
        skeleton: concrete, not traced.

    Returns:
        MJCF for `mujoco.MjModel.from_xml_string`, then `mjx.put_model(model, impl="jax")`. Gravity is (0, 0, -9.81).

    >>> mjcf(humanoid()).count("<body")
    24
    """
    if not is_concrete(skeleton):
        raise ValueError("mjcf writes text: call it outside of jit, grad and vmap")

    skeleton = jax.tree.map(np.asarray, skeleton)

    def body(j: int, indent: str) -> str:
        I = skeleton.inertia[j]
        joint = "<freejoint/>" if skeleton.parents[j] < 0 else f'<joint name="{skeleton.names[j]}" type="ball"/>'
        lines = [
            f'<body name="{skeleton.names[j]}" pos="{_numbers(skeleton.offset[j])}">',
            f"  {joint}",
            f'  <inertial pos="{_numbers(skeleton.com[j])}" mass="{_numbers(skeleton.mass[j])}" '
            f'fullinertia="{_numbers([I[0, 0], I[1, 1], I[2, 2], I[0, 1], I[0, 2], I[1, 2]])}"/>',
        ]
        for c in (c for c, b in enumerate(skeleton.capsule_body) if b == j):
            ends = _numbers([skeleton.capsule_a[c], skeleton.capsule_b[c]])
            lines.append(f'  <geom type="capsule" size="{_numbers(skeleton.capsule_radius[c])}" fromto="{ends}"/>')
        children = (body(k, indent + "  ") for k, parent in enumerate(skeleton.parents) if parent == j)
        return "".join(f"{indent}{line}\n" for line in lines) + "".join(children) + f"{indent}</body>\n"

    return (
        '<mujoco model="humanoid">\n'
        '  <compiler angle="radian" autolimits="false"/>\n'
        '  <option gravity="0 0 -9.81"/>\n'
        '  <default><geom contype="0" conaffinity="0" rgba="0.75 0.6 0.5 1"/></default>\n'
        f'  <worldbody>\n    <light pos="0 0 4"/>\n{body(0, "    ")}  </worldbody>\n'
        "</mujoco>\n"
    )
