"""Pictures of the body: capsules over a chequered ground, contact forces as arrows, what is wrong in red.

Drawn from the farthest capsule to the nearest on plain pixels with Pillow: neither a display nor a GL driver is needed.
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxphys.body.kinematics import forward, points
from jaxphys.body.motion import Motion, check_motion
from jaxphys.body.skeleton import Skeleton
from jaxphys.camera import Camera

METRES_PER_WEIGHT = 0.6  # length of the arrow of a force of one body weight
SHARPER = 2  # pictures are drawn this much larger and then reduced
SKY, TILES, TILE = (247, 248, 250), ((214, 219, 226), (228, 232, 238)), 0.5  # colours; side of a tile [m]
FORCE, MISSING, INK = (22, 140, 60), (196, 40, 190), (30, 32, 38)
BODY, WRONG = (0.60, 0.66, 0.76), (0.86, 0.10, 0.10)


@dataclasses.dataclass(frozen=True)
class Marks:
    """What is drawn over the frames of a motion; None: nothing."""

    wrong: np.ndarray | None = None  # of each body, in [0, 1]: 1 is drawn red (T, J)
    point: np.ndarray | None = None  # where forces act [m] (T, K, 3)
    force: np.ndarray | None = None  # on the body [body weights] (T, K, 3)
    missing: np.ndarray | None = None  # force that nothing gives, drawn at the middle of the body [body weights] (T, 3)
    lines: Sequence[Sequence[tuple[str, float]]] = ()  # per frame: text, and how wrong it is in [0, 1]


def draw_motion(
    skeleton: Skeleton,
    motion: Motion,
    *,
    ground: float | None = 0.0,
    marks: Marks | None = None,
    azimuth_degrees: float = -55.0,
    elevation_degrees: float = 12.0,
    width: int = 480,
    height: int = 480,
) -> np.ndarray:
    """A video of the body from a camera that moves along with it.

    Args:
        skeleton: the body.
        motion: T frames.
        ground: its height [m]; None: none is drawn.
        marks: forces, faults and text of each frame.
        azimuth_degrees, elevation_degrees: where the camera stands, see `Camera.orbit`.
        width, height: [pixel].

    Returns:
        (T, height, width, 3) float32 in [0, 1].

    Raises:
        ValueError: another number of joints than the skeleton's, or marks of another number of frames.

    >>> import jax.numpy as jnp
    >>> from jaxphys.body.skeleton import humanoid
    >>> still = Motion(jnp.zeros((1, 24, 3)).at[..., 0, 0].set(1.57), jnp.zeros((1, 3)).at[..., 2].set(0.95))
    >>> draw_motion(humanoid(), still, width=64, height=64).shape
    (1, 64, 64, 3)
    """
    check_motion("draw_motion", motion, skeleton.count, least_frames=1)
    marks = Marks() if marks is None else marks
    T = motion.frames
    for name in ("wrong", "point", "force", "missing"):
        value = getattr(marks, name)
        if value is not None and len(value) != T:
            raise ValueError(f"draw_motion: marks.{name} has {len(value)} frames, the motion {T}")
    if marks.lines and len(marks.lines) != T:
        raise ValueError(f"draw_motion: marks.lines has {len(marks.lines)} frames, the motion {T}")
    R, p = forward(skeleton, motion.matrices(), motion.translation)
    ends = [
        np.asarray(points(skeleton, R, p, e, skeleton.capsule_body)) for e in (skeleton.capsule_a, skeleton.capsule_b)
    ]
    p = np.asarray(p, np.float64)
    radius = np.asarray(skeleton.capsule_radius, np.float64)
    stature = 2.04 * float(skeleton.leg_length)
    target = _follow(p, ground, stature)
    camera = Camera.orbit(
        (0.0, 0.0, 0.0), 2.6 * stature, azimuth_degrees, elevation_degrees, fov_degrees=40.0,
        width=SHARPER * width, height=SHARPER * height,
    )  # fmt: skip
    view = _View(camera)
    return np.stack(
        [_frame(view, target[t], [e[t] for e in ends], p[t], radius, skeleton, ground, marks, t) for t in range(T)]
    )


def _follow(p: np.ndarray, ground: float | None, stature: float) -> np.ndarray:
    """What the camera looks at (T, 3): the middle of the body, smoothed over time, not lower than of who stands."""
    middle = 0.5 * (p.min(1) + p.max(1))
    t = np.arange(len(p))
    weight = np.exp(-0.5 * ((t[:, None] - t) / 12.0) ** 2)
    target = weight @ middle / weight.sum(1, keepdims=True)
    if ground is not None:
        target[:, 2] = np.maximum(target[:, 2], ground + 0.5 * stature)
    return target


class _View:
    """The camera in NumPy; it looks at the origin, so what is drawn is moved there."""

    def __init__(self, camera: Camera):
        self.R, self.t = np.asarray(camera.R, np.float64), np.asarray(camera.t, np.float64)
        self.f = float(camera.fx)
        self.c = np.array([float(camera.cx), float(camera.cy)])
        self.width, self.height = camera.width, camera.height

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (..., 2) and depth [m] (...)."""
        y = x @ self.R.T + self.t
        depth = np.maximum(y[..., 2], 0.05)
        return self.f * y[..., :2] / depth[..., None] + self.c, depth


def _frame(view: _View, target, ends, p, radius, skeleton: Skeleton, ground, marks: Marks, t: int) -> np.ndarray:
    image = Image.new("RGB", (view.width, view.height), SKY)
    draw = ImageDraw.Draw(image)
    if ground is not None:
        _draw_ground(draw, view, target, ground)
        for a, b, r in zip(*ends, radius):
            _draw_shadow(draw, view, target, a, b, r, ground)
    (a, near), (b, far) = (view(e - target) for e in ends)
    depth = 0.5 * (near + far)
    for k in np.argsort(-depth):
        joint = skeleton.capsule_body[k]
        wrong = 0.0 if marks.wrong is None else float(np.clip(marks.wrong[t][joint], 0.0, 1.0))
        light = 1.0 - 0.30 * np.clip((depth[k] - depth.min()) / max(np.ptp(depth), 0.2), 0.0, 1.0)
        color = _blend(wrong, light, skeleton.names[joint])
        widths = [max(1.0, view.f * radius[k] / d[k]) for d in (near, far)]
        edge = tuple(int(0.55 * c) for c in color)
        _capsule(draw, a[k], b[k], [w + SHARPER for w in widths], edge)
        _capsule(draw, a[k], b[k], widths, color)
    if marks.force is not None and marks.point is not None:
        for x, f in zip(np.asarray(marks.point[t]), np.asarray(marks.force[t])):
            if np.linalg.norm(f) > 0.02:
                _arrow(draw, view, x - target, f, FORCE)
    if marks.missing is not None and np.linalg.norm(marks.missing[t]) > 0.05:
        _arrow(draw, view, p[0] - target, np.asarray(marks.missing[t]), MISSING)
    picture = image.resize((view.width // SHARPER, view.height // SHARPER), Image.Resampling.BOX)
    if marks.lines:
        _write(picture, marks.lines[t])
    return np.asarray(picture, np.float32) / 255.0


def _blend(wrong: float, light: float, name: str) -> tuple[int, int, int]:
    """Grey blue, the right side a little warmer so that the sides can be told apart; red where wrong."""
    h, l, s = colorsys.rgb_to_hls(*BODY)
    base = np.array(colorsys.hls_to_rgb(h - (0.5 if name.startswith("right_") else 0.0), l, s))
    color = light * ((1.0 - wrong) * base + wrong * np.array(WRONG))
    red, green, blue = (int(255 * c) for c in np.clip(color, 0.0, 1.0))
    return red, green, blue


def _capsule(draw: ImageDraw.ImageDraw, a, b, widths, color) -> None:
    """Two discs and what lies between them."""
    for c, r in zip((a, b), widths):
        draw.ellipse([c[0] - r, c[1] - r, c[0] + r, c[1] + r], fill=color)
    along = np.asarray(b) - np.asarray(a)
    length = np.linalg.norm(along)
    if length > 1e-6:
        across = np.array([-along[1], along[0]]) / length
        corners = [a + widths[0] * across, b + widths[1] * across, b - widths[1] * across, a - widths[0] * across]
        draw.polygon([tuple(c) for c in corners], fill=color)


def _draw_ground(draw: ImageDraw.ImageDraw, view: _View, target, ground: float) -> None:
    """Tiles that lie still in the world, about where the camera looks."""
    middle = np.round(target[:2] / TILE).astype(int)
    for i in range(middle[0] - 6, middle[0] + 6):
        for j in range(middle[1] - 6, middle[1] + 6):
            corners = np.array([(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]) * TILE
            pixels, depth = view(np.concatenate([corners, np.full((4, 1), ground)], 1) - target)
            if depth.min() > 0.3:
                draw.polygon([tuple(q) for q in pixels], fill=TILES[(i + j) % 2])


def _draw_shadow(draw: ImageDraw.ImageDraw, view: _View, target, a, b, radius: float, ground: float) -> None:
    """What lies straight below, so that one sees how high the body is."""
    flat = [np.array([e[0], e[1], ground]) - target for e in (a, b)]
    pixels, depth = view(np.stack(flat))
    widths = [0.5 * view.f * radius / d for d in depth]
    _capsule(draw, pixels[0], pixels[1], widths, (176, 182, 192))


def _arrow(draw: ImageDraw.ImageDraw, view: _View, x, force, color) -> None:
    (a, b), _ = view(np.stack([x, x + METRES_PER_WEIGHT * force]))
    draw.line([tuple(a), tuple(b)], fill=color, width=3 * SHARPER)
    along = b - a
    length = np.linalg.norm(along)
    if length > 1.0:
        along = along / length * min(length, 7.0 * SHARPER)
        across = 0.5 * np.array([-along[1], along[0]])
        corners = (b + 0.6 * along, b - 0.4 * along + across, b - 0.4 * along - across)
        draw.polygon([tuple(c) for c in corners], fill=color)


def _write(picture: Image.Image, lines: Sequence[tuple[str, float]]) -> None:
    size = max(9, picture.height // 34)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(picture)
    for k, (text, wrong) in enumerate(lines):
        ink = tuple(int((1 - wrong) * i + wrong * 255 * w) for i, w in zip(INK, WRONG))
        draw.text((6, 4 + 1.25 * size * k), text, fill=ink, font=font)
