"""The world of the clips: random small scenes of a known material, simulated, rendered and captioned.

A clip shows one body over a flat ground for 16 frames. What it is made of, its size, density, height, camera and
texture are drawn independently, so that only the motion tells the material. The simulator and the renderer put out maps
(where the body is, its texture, where a tool is), which are coloured when they are loaded.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys import mpm
from jaxphys.camera import Camera
from jaxphys.language import captions
from jaxphys.mpm import materials
from jaxphys.mpm.stability import time_step_limits
from jaxphys.pytree import pytree
from jaxphys.scenes.draw import drawing_gradient
from jaxphys.scenes.outcomes import measure
from jaxphys.shapes import Box, Capsule, Cylinder, Sphere
from jaxphys.splats import Gaussians, Kernels, deform, render

STEPS = (32, 64, 144, 240)  # substeps per frame that are compiled; a scene takes the first that is stable
CAPACITY = 8192
SOLIDS = ("elastic", "metal", "foam", "plasticine")
ACTIONS = {  # share of each action among the clips of a kind of material; a poke hardly shows what it meets
    "solid": {"dropped": 0.5, "thrown": 0.25, "poked": 0.05, "stretched": 0.05, "bent": 0.15},
    "flowing": {"dropped": 0.5, "thrown": 0.2, "poured": 0.3},
}
SHAPES = {  # shapes that an action is shown with; a stream that is poured has no name
    "stretched": ("rod", "plate", "block"),
    "bent": ("rod", "plate"),
}
LAW = {
    "elastic": "neo_hookean",
    "metal": "metal",
    "sand": "sand",
    "foam": "foam",
    "plasticine": "plasticine",
    "newtonian": "newtonian",
    "non_newtonian": "non_newtonian",
    "water": "water",
}
"""Material word -> constitutive law."""
RANGES: dict[str, dict[str, tuple[float, float]]] = {  # uniform in the logarithm, except angles and nu
    "elastic": {"E": (1e4, 1e6), "nu": (0.2, 0.45)},
    "metal": {"E": (4e5, 1e6), "nu": (0.25, 0.4), "yield_stress": (10**2.5, 1e5)},
    "sand": {"E": (2e5, 4e5), "nu": (0.25, 0.35), "friction_angle": (15.0, 45.0)},
    "foam": {"E": (3e4, 3e5), "nu": (0.1, 0.3), "yield_stress": (10**2.5, 1e4), "viscosity": (3.0, 300.0)},
    "plasticine": {"E": (1e5, 4e5), "nu": (0.3, 0.4), "yield_stress": (10**2.5, 10**4.2), "softening": (0.1, 1.0)},
    "newtonian": {"viscosity": (1.0, 10**2.4)},
    "non_newtonian": {"yield_stress": (10.0, 10**2.8), "viscosity": (1.0, 100.0), "regularization": (0.3, 0.3)},
    "water": {},
}
DENSITY = (10**2.9, 10**3.4)  # [kg/m^3]
GAP = (0.15, 0.38)  # under a body that is dropped [m]
DISTANCE = (1.05, 1.2)  # of the camera [m]: a body is 8 to 12 pixels of 32 wide
SOUND = 15.0  # sound speed of the fluids [m/s]
WORDS = {  # slot -> parameter whose logarithm (friction: whose value) it names
    "stiffness": ("E", ("elastic",)),
    "strength": ("yield_stress", ("metal", "foam", "plasticine")),
    "viscosity": ("viscosity", ("newtonian",)),
    "friction": ("friction_angle", ("sand",)),
}


@dataclasses.dataclass(frozen=True)
class World:
    """Sizes that all clips of a set share."""

    pixels: int = 32
    frames: int = 16
    fps: float = 20.0
    particles: int = 512
    dx: float = 1 / 16  # [m]
    half_width: float = 0.5625  # of the walled floor [m]
    height: float = 1.125  # [m]

    @property
    def grid(self) -> mpm.Grid:
        w = self.half_width
        return mpm.Grid((-w, -w, 0.0), (w, w, self.height), self.dx)

    def config(self, substeps: int) -> mpm.Config:
        return mpm.Config(self.grid, fps=self.fps, frames=self.frames - 1, substeps=substeps, gradient="forward")


@pytree
class ClipScene:
    """One scene; scenes of one law and one arrangement stack."""

    law: Any  # constitutive law with its true parameters
    x: Any  # [m] (N, 3)
    v: Any  # [m/s] (N, 3)
    volume: Any  # of a particle [m^3]
    texture: Any  # 0..1 (N,)
    tool: Any  # sphere that pokes: centre (3), radius, velocity (3), end [s]: (8,); all 0: none
    grip: Any  # box that holds one end: centre, half size: (6,)
    pull: Any  # box that moves the other end: centre, half size, velocity, end: (10,)
    view: Any  # camera: azimuth, elevation [degree], distance [m]: (3,)


def _body(rng: np.random.Generator, shape: str) -> tuple[list, float]:
    """Solids whose union the shape is, about the origin with its long axis along x, and its volume [m^3]."""
    r = rng.uniform(0.11, 0.17)
    if shape == "ball":
        return [Sphere((0, 0, 0), r)], 4 / 3 * np.pi * r**3
    if shape == "block":
        half = r * rng.uniform(0.7, 1.0, 3)
        return [Box((0, 0, 0), half)], float(8 * np.prod(half))
    if shape == "plate":
        half = r * np.array([1.5, 1.2, 0.5])
        return [Box((0, 0, 0), half)], float(8 * np.prod(half))
    if shape == "rod":
        radius, half = 0.55 * r, 1.5 * r
        volume = np.pi * radius**2 * 2 * half + 4 / 3 * np.pi * radius**3
        return [Capsule((-half, 0, 0), (half, 0, 0), radius)], volume
    if shape == "ring":
        radius, around, count = 0.45 * r, 1.05 * r, 24
        at = 2 * np.pi * np.arange(count + 1) / count
        points = np.stack([around * np.cos(at), around * np.sin(at), 0 * at], -1)
        return [Capsule(tuple(a), tuple(b), radius) for a, b in itertools.pairwise(points)], (
            2 * np.pi**2 * radius**2 * around
        )
    return [Cylinder((0, 0, 0), (0, 0, 1), 1.6 * r, 0.55 * r)], float(np.pi * (0.55 * r) ** 2 * 3.2 * r)  # a stream


@jax.jit
def _distance(solids: list, points) -> jax.Array:
    """From the union of solids, points (N, 3)."""
    return jnp.min(jnp.stack([solid.distance(tuple(points.T)) for solid in solids]), 0)


def _fill(rng: np.random.Generator, solids: list, volume: float, count: int) -> np.ndarray:
    """`count` points, evenly spread with a small disorder, inside the solids: (count, 3)."""
    spacing = (volume / count) ** (1 / 3)
    reach = max(s.reach((0.0, 0.0, 0.0)) for s in solids)
    while True:
        axis = np.arange(-0.4, 0.4, spacing)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        points = points + spacing * (rng.random(3) - 0.5 + 0.3 * (rng.random(points.shape) - 0.5))
        near = np.flatnonzero(np.abs(points).max(1) <= reach)
        padded = np.full((1 << max(13, len(near).bit_length()), 3), 2.0 * reach)  # few shapes to compile
        padded[: len(near)] = points[near]
        inside = near[np.asarray(_distance(solids, padded))[: len(near)] <= 0]
        if len(inside) >= count:
            return points[rng.permutation(inside)[:count]]
        spacing *= 0.99


def _turn(rng: np.random.Generator) -> np.ndarray:
    """A random rotation matrix."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def draw_law(rng: np.random.Generator, material: str) -> Any:
    """A law with random parameters."""
    values = {"density": 10 ** rng.uniform(*np.log10(DENSITY))}
    for name, (lo, hi) in RANGES[material].items():
        linear = name in ("nu", "friction_angle")
        values[name] = rng.uniform(lo, hi) if linear else 10 ** rng.uniform(np.log10(lo), np.log10(hi))
    if material in ("newtonian", "non_newtonian", "water"):
        values["bulk_modulus"] = values["density"] * SOUND**2
    return materials.create(LAW[material], **{k: np.float32(v) for k, v in values.items()})


def draw_scene(rng: np.random.Generator, world: World, material: str, action: str, shape: str) -> ClipScene:
    """A random scene of a material, an action and a shape ("" for a stream)."""
    solids, volume = _body(rng, shape)
    x = _fill(rng, solids, volume, world.particles)
    waves = rng.normal(size=(2, 3)) * rng.uniform(15.0, 35.0, (2, 1))
    texture = 1 / (1 + np.exp(-4 * np.cos(x @ waves.T + rng.uniform(0, 2 * np.pi, 2)).sum(1)))
    azimuth = rng.uniform(0.0, 360.0)
    tool, grip, pull, v = np.zeros(8), np.zeros(6), np.zeros(10), np.zeros(3)
    pull[3:6] = grip[3:6] = 1e-3
    if action in ("dropped", "thrown") and shape:
        x = x @ _turn(rng).T
    if action in ("stretched", "bent", "poked"):
        heading = rng.uniform(0, 2 * np.pi)
    else:
        heading = 0.0
    low, high = x.min(0), x.max(0)
    gap = {"dropped": rng.uniform(*GAP), "thrown": rng.uniform(0.1, 0.3), "poked": 0.004, "poured": 0.15}
    lift = gap.get(action, rng.uniform(0.3, 0.45)) - low[2]
    x = x + [0.0, 0.0, lift]
    low, high = low + [0, 0, lift], high + [0, 0, lift]
    if action == "thrown":
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle), 0.0])
        x = x - 0.15 * direction
        spin = rng.normal(size=3) * 2.5 * (material in SOLIDS)
        v = rng.uniform(0.3, 0.7) * direction + [0, 0, rng.uniform(0.0, 1.2)] + np.cross(spin, x - x.mean(0))
    elif action == "poked":
        radius, speed = rng.uniform(0.06, 0.09), rng.uniform(0.8, 1.6)
        depth = rng.uniform(0.3, 0.6) * (high[2] - low[2])
        top = np.array([*(rng.uniform(-0.3, 0.3, 2) * (high - low)[:2]), high[2] + radius + 0.08])
        tool = np.array([*top, radius, 0.0, 0.0, -speed, (0.08 + depth) / speed])
    elif action in ("stretched", "bent"):
        middle, reach = 0.5 * (low + high), 0.5 * (high - low)
        half = np.array([0.18 * 2 * reach[0], reach[1] + 0.03, reach[2] + 0.03])
        grip = np.array([low[0], *middle[1:], *half])
        if action == "stretched":
            speed, stretch = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.4) * 2 * reach[0]
            pull = np.array([high[0], *middle[1:], *half, speed, 0.0, 0.0, stretch / speed])
        else:
            radius, speed, depth = rng.uniform(0.05, 0.07), rng.uniform(0.5, 1.0), rng.uniform(0.06, 0.14)
            at = [high[0] - 0.1 * 2 * reach[0], middle[1], high[2] + radius + 0.05]
            tool = np.array([*at, radius, 0.0, 0.0, -speed, (0.05 + depth) / speed])
    view = np.array([azimuth + np.degrees(heading), rng.uniform(8.0, 24.0), rng.uniform(*DISTANCE)])
    as32 = lambda a: np.asarray(a, np.float32)
    law = draw_law(rng, material)
    return ClipScene(
        law=law,
        x=as32(x),
        v=as32(np.broadcast_to(v, x.shape)),
        volume=as32(volume / world.particles),
        texture=as32(texture),
        tool=as32(tool),
        grip=as32(grip),
        pull=as32(pull),
        view=as32(view),
    )


ARRANGEMENT = {"poked": ("tool",), "stretched": ("grip", "pull"), "bent": ("grip", "tool")}
"""What acts on the body beside gravity and the walls, per action."""


def boundaries(scene: ClipScene, world: World, arrangement: tuple[str, ...]) -> tuple:
    """The boundaries of a scene."""
    w = world.half_width
    out: list = [mpm.Walls((-w, -w, 0.0), (w, w, 2.0 * world.height), friction=0.4)]
    for name in arrangement:
        a = getattr(scene, name)
        if name == "tool":
            out.append(mpm.Collider(Sphere(tuple(a[:3]), a[3]), velocity=tuple(a[4:7]), end=a[7]))
        elif name == "grip":
            out.append(mpm.Collider(Box(tuple(a[:3]), tuple(a[3:6])), "sticky"))
        else:
            out.append(mpm.Collider(Box(tuple(a[:3]), tuple(a[3:6])), "sticky", velocity=tuple(a[6:9]), end=a[9]))
    return tuple(out)


def substeps(scene: ClipScene, world: World, action: str) -> int:
    """The first of `STEPS` that is stable.

    Raises:
        ValueError: none is.
    """
    particles = mpm.Particles.create(jnp.asarray(scene.x), scene.volume, v=jnp.asarray(scene.v))
    acting = mpm.Scene(boundaries=boundaries(scene, world, ARRANGEMENT.get(action, ())))
    limit = min(time_step_limits((scene.law,), particles, acting, world.config(1)).values())
    needed = 1.0 / (world.fps * limit)
    stable = [n for n in STEPS if n >= needed]
    if not stable:
        raise ValueError(f"clip: {needed:.0f} substeps per frame are needed, more than {STEPS[-1]}")
    return stable[0]


def simulate_scene(scene: ClipScene, world: World, action: str, steps: int) -> mpm.Trajectory:
    """The motion of one scene, positions and total deformations; traceable, without the first frame."""
    particles = mpm.Particles.create(scene.x, scene.volume, v=scene.v)
    acting = mpm.Scene(boundaries=boundaries(scene, world, ARRANGEMENT.get(action, ())))
    return mpm.simulate((scene.law,), particles, acting, world.config(steps), save=("x", "F"))


def camera(view: jax.Array, world: World) -> Camera:
    """The camera of a scene, looking at the middle of the room."""
    n = world.pixels
    target = jnp.array([0.0, 0.0, 0.31])
    azimuth, elevation = jnp.deg2rad(view[0]), jnp.deg2rad(view[1])
    offset = [jnp.cos(elevation) * jnp.cos(azimuth), jnp.cos(elevation) * jnp.sin(azimuth), jnp.sin(elevation)]
    return Camera.look_at(target + view[2] * jnp.stack(offset), target, width=n, height=n)


def frame_maps(
    scene: ClipScene, world: World, law: str, x, F, time, gradient: Literal["reverse", "forward"] = "reverse"
) -> jax.Array:
    """Maps of one frame (H, W, 3) in 0..1: the body, its texture (times the body), the tool.

    `gradient` is the mode that will differentiate it.
    """
    spacing = jnp.cbrt(scene.volume)
    body = Gaussians(
        mean=scene.x,
        scale=jnp.full_like(scene.x, 0.55) * spacing,
        quat=jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0, 0.0]), (len(scene.x), 4)),
        opacity=jnp.full(len(scene.x), 0.9),
        sh=jnp.zeros((len(scene.x), 1, 3)),
    )
    kernels = deform(body, x, drawing_gradient(law, F))
    there = (scene.tool[3] > 0) & (time < scene.tool[7])
    radius = jnp.maximum(scene.tool[3], 1e-3)
    kernels = Kernels(
        mean=jnp.concatenate([kernels.mean, (scene.tool[:3] + time * scene.tool[4:7])[None]]),
        cov=jnp.concatenate([kernels.cov, (jnp.eye(3) * (0.6 * radius) ** 2)[None]]),
        opacity=jnp.append(kernels.opacity, jnp.where(there, 0.99, 0.0)),
        sh=jnp.zeros((len(x) + 1, 1, 3)),
    )
    one = jnp.ones_like(scene.texture)
    features = jnp.stack([jnp.append(one, 0.0), jnp.append(scene.texture, 0.0), jnp.append(0.0 * one, 1.0)], -1)
    view = camera(scene.view, world)
    return render(kernels, view, features=features, capacity=CAPACITY, gradient=gradient).features


@functools.partial(jax.jit, static_argnames=("world", "action", "law", "steps"))
def make_clips(scenes: ClipScene, *, world: World, action: str, law: str, steps: int):
    """Simulates and renders a stack of scenes.

    Args:
        scenes: leaves with a leading axis B; one law, one action.
        world: sizes.
        action: decides what acts on the bodies.
        law: name of the law.
        steps: substeps per frame.

    Returns:
        Maps (B, T, H, W, 3) uint8, `Outcomes` (B,), status code (B,): 0 where the clip is sound.
    """
    # On a CPU core one scene's grids stay in the cache, those of eight side by side do not.
    each = jax.lax.map if jax.default_backend() == "cpu" else lambda f, xs: jax.vmap(f)(xs)
    moved = each(lambda s: simulate_scene(s, world, action, steps), scenes)
    eye = jnp.broadcast_to(jnp.eye(3), (*scenes.x.shape[:2], 3, 3))
    x = jnp.concatenate([scenes.x[:, None], moved.x], 1)
    F = jnp.concatenate([eye[:, None], moved.F], 1)
    time = jnp.arange(world.frames) / world.fps

    def draw(scene, x, F):
        return jax.lax.map(lambda f: frame_maps(scene, world, law, *f), (x, F, time))

    maps = jax.lax.map(lambda a: draw(*a), (scenes, x, F))
    outcomes = jax.vmap(lambda x: measure(x, world.fps))(x)
    sound = jnp.isfinite(maps).all((1, 2, 3, 4))
    codes = jnp.where(sound, moved.status.code, 9)
    return jnp.round(jnp.clip(maps, 0.0, 1.0) * 255.0).astype(jnp.uint8), outcomes, codes


def property_words(material: str, law: Any) -> dict[str, str]:
    """The property words that a law's parameters fall under."""
    out = {"weight": captions.SCALES["weight"].word(np.log10(float(law.density)))}
    for slot, (name, of) in WORDS.items():
        if material in of:
            number = float(getattr(law, name))
            out[slot] = captions.SCALES[slot].word(number if slot == "friction" else np.log10(number))
    return out


def outcome_words(material: str, action: str, outcomes: Any) -> dict[str, str]:
    """The outcome words of a measured motion, those only that make sense for the action and the material."""
    slots = ["squash"] if action not in ("stretched", "bent") else []
    if material in SOLIDS:
        slots += {"dropped": ["rebound", "bounces", "wobble"], "thrown": ["rebound", "bounces"]}.get(action, [])
        slots += ["wobble"] if action == "poked" else []
    else:
        slots += ["spread", "flow"]
    return {slot: captions.SCALES[slot].word(float(getattr(outcomes, slot))) for slot in slots}


LAW_SCALARS = ("E", "yield_stress", "viscosity", "friction_angle")
"""What a caption may be asked to decide."""
SCALARS = (*LAW_SCALARS, "density", "size", "gap")
"""What a clip knows of its scene in numbers; of E ... density the logarithm to base 10, lengths in metres."""


def scalars(scene: ClipScene) -> list[float]:
    """The values of `SCALARS`, NaN where the law has no such parameter."""
    out = []
    for name in (*LAW_SCALARS, "density"):
        number = float(getattr(scene.law, name, np.nan))
        out.append(number if name == "friction_angle" else float(np.log10(number)))
    low, high = scene.x.min(0), scene.x.max(0)
    return [*out, float(np.max(high - low)), float(low[2])]
