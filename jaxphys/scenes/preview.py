"""A look at a scene before it is simulated: its Gaussians, with the boxes of its file drawn in."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from jaxphys.camera import Camera
from jaxphys.checks import as_array
from jaxphys.scenes.draw import frame_kernels
from jaxphys.scenes.setup import Region, Setup
from jaxphys.shapes import Box, rotate
from jaxphys.splats import render

COLORS = {"select": (30, 140, 40), "boundary": (200, 40, 40), "force": (230, 130, 0), "domain": (60, 90, 200)}
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
_EDGES = [(i, j) for i in range(8) for j in range(i) if np.sum(_CORNERS[i] != _CORNERS[j]) == 1]
_STEPS = np.linspace(0.0, 1.0, 33)


def preview(setup: Setup, pixels: int = 512) -> np.ndarray:
    """The scene at t = 0 from its camera (the first of several), its regions drawn in, (H, W, 3) in [0, 1].

    Green boxes select, red ones hold, orange ones push, blue ones bound; each is labelled at a corner.

    Args:
        setup: what `read_scene` returns.
        pixels: longer side of the picture.
    """
    camera = first_camera(setup.camera)
    factor = pixels / max(camera.width, camera.height)
    camera = camera.resized(max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))
    eye = np.broadcast_to(np.eye(3, dtype=np.float32), (len(setup.gaussians), 3, 3))
    kernels = frame_kernels(setup.gaussians, setup.still, setup.gaussians.mean, eye)
    return draw_regions(np.asarray(render(kernels, camera, background=1.0).image), setup.regions, camera)


def first_camera(camera: Camera) -> Camera:
    """The camera of frame 0."""
    return jax.tree.map(lambda a: a[0], camera) if jnp.ndim(camera.fx) else camera


def box_edges(box: Box) -> np.ndarray:
    """The twelve edges of a box as points (12, 33, 3) [m]."""
    local = tuple(as_array(c) for c in (_CORNERS * np.asarray(box.half_size, np.float64)).T)
    turned = np.stack([np.asarray(c) for c in rotate(local, tuple(box.rotation))], 1)
    corners = turned + np.asarray(box.center, np.float64)
    return np.stack([corners[i] + _STEPS[:, None] * (corners[j] - corners[i]) for i, j in _EDGES])


def draw_regions(image, regions: tuple[Region, ...], camera: Camera) -> np.ndarray:
    """The edges of boxes over a picture (H, W, 3); what lies behind the camera or outside the picture is left out."""
    canvas = Image.fromarray((255 * np.clip(np.asarray(image), 0.0, 1.0)).round().astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    near = 1e-3 * float(np.linalg.norm(np.asarray(camera.t)) + 1e-6)
    taken: list[tuple[float, float]] = []
    for region in regions:
        if not isinstance(region.shape, Box):
            continue
        color = COLORS[region.kind]
        seen = []
        for edge in box_edges(region.shape):
            pixel, depth = (np.asarray(a) for a in camera.project(np.asarray(edge, np.float32)))
            for a, b, front in zip(pixel[:-1], pixel[1:], np.minimum(depth[:-1], depth[1:]) > near):
                if front and np.abs([*a, *b]).max() < 1e5:
                    pen.line([tuple(map(float, a)), tuple(map(float, b))], fill=color, width=1)
                    seen.append(a)
        inside = [p for p in seen if 0 <= p[0] < 0.8 * camera.width and 0 <= p[1] < camera.height - 12]
        if inside:
            x, y = map(float, min(inside, key=lambda p: p[1]))  # the highest point of the box
            while any(abs(x - a) < 100 and abs(y - b) < 11 for a, b in taken):
                y += 11
            taken.append((x, y))
            pen.text((x + 2, y), region.label, fill=color)
    return np.asarray(canvas, np.float32) / 255.0
