"""The human body: skeleton, motion, inverse dynamics, contact forces."""

from jaxphys.body import so3
from jaxphys.body.contact import Contact, ContactOptions, Ground, contact_forces, estimate_ground, sole_motion
from jaxphys.body.filter import lowpass, whittaker
from jaxphys.body.inverse import Dynamics, inverse_dynamics
from jaxphys.body.kinematics import forward, points
from jaxphys.body.motion import Motion
from jaxphys.body.skeleton import Skeleton, humanoid, mjcf

__all__ = [
    "Contact",
    "ContactOptions",
    "Dynamics",
    "Ground",
    "Motion",
    "Skeleton",
    "contact_forces",
    "estimate_ground",
    "forward",
    "humanoid",
    "inverse_dynamics",
    "lowpass",
    "mjcf",
    "points",
    "so3",
    "sole_motion",
    "whittaker",
]
