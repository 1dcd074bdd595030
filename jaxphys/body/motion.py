"""A motion: what a body's joints do over time."""

from __future__ import annotations

import jax
import numpy as np

from jaxphys.body import so3
from jaxphys.checks import is_concrete
from jaxphys.pytree import pytree


@pytree
class Motion:
    """Joint rotations and root position of one clip; the frame rate is a separate argument everywhere.

    Leaves may have leading axes: one clip per entry. The world is Z up; a body frame is SMPL's (x left, y up, z
    front), so a person who stands upright and faces -y has the root rotation vector (pi/2, 0, 0).

    >>> import jax.numpy as jnp
    >>> Motion(jnp.zeros((5, 24, 3)), jnp.zeros((5, 3))).frames
    5
    """

    rotation: jax.Array  # rotation vector of each joint in its parent, of the root in the world [rad] (T, J, 3)
    translation: jax.Array  # root joint (pelvis) in the world [m] (T, 3)

    def __post_init__(self):
        rotation, translation = np.shape(self.rotation), np.shape(self.translation)
        if len(rotation) < 3 or rotation[-1] != 3 or translation != (*rotation[:-2], 3):
            raise ValueError(
                "Motion takes rotation (T, joints, 3) and translation (T, 3) with the same T, got "
                f"{list(rotation)} and {list(translation)}"
            )
        if is_concrete(self.rotation, self.translation):
            for name, value in (("rotation", self.rotation), ("translation", self.translation)):
                bad = np.argwhere(~np.isfinite(np.asarray(value)))
                if len(bad):
                    raise ValueError(
                        f"Motion: {name} has {len(bad)} entries that are not finite, first at index {bad[0].tolist()}; "
                        "cut or fill these frames"
                    )

    @property
    def frames(self) -> int:
        return self.rotation.shape[-3]

    @property
    def joints(self) -> int:
        return self.rotation.shape[-2]

    def matrices(self) -> jax.Array:
        """Rotation matrices (..., T, J, 3, 3) of the joints in their parents."""
        return so3.exp(self.rotation)


def check_motion(owner: str, motion: Motion, joints: int, least_frames: int = 3) -> None:
    """Raises ValueError unless the motion has this many joints and enough frames."""
    if motion.joints != joints:
        raise ValueError(f"{owner}: the motion has {motion.joints} joints and the skeleton {joints}: retarget it first")
    if motion.frames < least_frames:
        raise ValueError(
            f"{owner}: needs at least {least_frames} frames for velocities and accelerations, got {motion.frames}"
        )


def check_fps(owner: str, fps) -> None:
    """Raises ValueError unless fps is one positive number."""
    if not is_concrete(fps):
        return
    number = np.asarray(np.nan if fps is None else fps, np.float64)
    if number.shape != () or not np.isfinite(number) or number <= 0:
        raise ValueError(f"{owner}: fps must be one positive number [frames per second], got {fps}")
