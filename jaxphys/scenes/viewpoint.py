"""The camera of a scene file of the PhysGaussian family: one of the capture's, or an orbit about a point."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.camera import Camera
from jaxphys.camera_files import moved, read_cameras
from jaxphys.scenes.sections import Section
from jaxphys.scenes.setup import Frame

FOV_DEGREES, PIXELS = 45.0, 512  # of an orbit without a cameras.json


def read_camera(section: Section, model: Path | None, frame: Frame, frames: int, side: float) -> tuple[Camera, list]:
    """The camera in the simulation's space, one or one per frame, and notes.

    `default_camera_index` >= 0 is a camera of the model's cameras.json; -1 an orbit with that file's lens: azimuth,
    elevation (degrees) and radius (in the file's world) about `mpm_space_viewpoint_center`, changed every frame by
    `delta_a`, `delta_e`, `delta_r` if `move_camera`. Azimuth 0 lies toward the part of (1, 1, 1) at right angles to
    `mpm_space_vertical_upward_axis`, both in the file's world, and grows clockwise seen from above.

    Args:
        section: the file.
        model: folder of the capture, or None.
        frame: from the file's world to the simulation's space.
        frames: number of frames.
        side: of the simulation's box, for a camera where the file describes none.
    """
    center = np.array(section.numbers("mpm_space_viewpoint_center", 3, (1.0, 1.0, 1.0)))
    up = np.array(section.numbers("mpm_space_vertical_upward_axis", 3, (0.0, 0.0, 1.0)))
    if not up.any():
        raise section.error("mpm_space_vertical_upward_axis must not be zero")
    index = section.integer("default_camera_index", 0, least=-1)
    moves = section.flag("move_camera", False)
    spelt = "init_azimuth" if "init_azimuth" in section else "init_azimuthm"  # the released codes' spelling
    start = np.array([section.number(key, np.nan) for key in (spelt, "init_elevation", "init_radius")])
    step = float(moves) * np.array([section.number(key, 0.0) for key in ("delta_a", "delta_e", "delta_r")])
    cameras = _cameras(model)
    notes = []
    if index >= 0 and cameras:
        if index >= len(cameras):
            raise section.error(f"default_camera_index is {index}, but the model has {len(cameras)} cameras")
        return moved(cameras[index], frame.rotation, frame.translation, frame.scale), notes
    if index >= 0:
        notes.append(f"camera {index} of the capture is not there (no cameras.json); an orbit is used")
    if np.isnan(start).any():
        if index < 0:
            raise section.error("default_camera_index -1 needs init_azimuthm, init_elevation and init_radius")
        start = np.array([35.0, 18.0, 1.5 * side / frame.scale])
    azimuth, elevation, radius = (start + np.arange(frames if step.any() else 1)[:, None] * step).T
    if (radius <= 0).any():
        raise section.error(f"init_radius must stay positive over {frames} frames, got {start[2]} and {step[2]} each")
    vertical = frame.rotation.T @ (up / np.linalg.norm(up))
    along = np.ones(3) - vertical.sum() * vertical
    if abs(vertical.sum()) < 0.01 or np.linalg.norm(along) < 1e-6:  # the released codes' rule, and where it fails
        along = np.array([0.72, 0.37, -0.67]) - (np.array([0.72, 0.37, -0.67]) @ vertical) * vertical
    along /= np.linalg.norm(along)
    axes = np.stack([along, np.cross(along, vertical), vertical], 1)
    target = frame.undo(center)
    a, e = np.radians(azimuth), np.radians(np.clip(elevation, -89.9, 89.9))
    offset = np.stack([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)], 1)
    eyes = jnp.asarray(frame.apply(target + radius[:, None] * offset @ axes.T), jnp.float32)

    def look(eye):
        lens = dict(width=PIXELS, height=PIXELS, fov_degrees=FOV_DEGREES)
        view = Camera.look_at(eye, jnp.asarray(center, eye.dtype), up=jnp.asarray(up, eye.dtype), **lens)
        return _with_lens(view, cameras[0]) if cameras else view

    return jax.vmap(look)(eyes) if len(eyes) > 1 else look(eyes[0]), notes


def _cameras(model: Path | None) -> list[Camera]:
    if model is None or not model.is_dir():
        return []
    try:
        return list(read_cameras(model).values())
    except ValueError as error:
        if "holds neither" in str(error):
            return []
        raise


def _with_lens(view: Camera, lens: Camera) -> Camera:
    return Camera(lens.fx, lens.fy, lens.cx, lens.cy, view.R, view.t, lens.width, lens.height)
