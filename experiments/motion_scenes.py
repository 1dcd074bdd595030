"""Held-out scenes with a hidden parameter: like the training clips, and of kinds that no training clip shows.

The random numbers are not those of `make_clips`, so neither the prior nor a regression has seen a scene. A scene holds
one unknown; its caption is written from the motion that the hidden value gives.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from jaxphys import mpm, scenes, splats
from jaxphys.language import captions
from jaxphys.mpm.stability import time_step_limits
from jaxphys.scenes import clips
from jaxphys.shapes import Box, Capsule, Sphere

SEED = 770_001  # the first of two; make_clips has another
UNKNOWN = {
    "elastic": "E",
    "metal": "yield_stress",
    "sand": "friction_angle",
    "foam": "yield_stress",
    "plasticine": "yield_stress",
    "newtonian": "viscosity",
    "non_newtonian": "yield_stress",
    "water": "bulk_modulus",
}
"""The main parameter of each material."""
WORDS_OF = {material: slot for slot, (_, of) in clips.WORDS.items() for material in of}
"""Material -> the slot whose words name its main parameter."""
BULK = (10**4.3, 10**5.5)  # of water [Pa], which the training clips do not vary
KINDS = ("training", "hollow", "shape", "splat", "fast", "obstacle", "two", "flat")
PEER = "taichi"  # another simulator, whose candidates experiments/bench/peer_clips.py puts beside a scene's own
ROBOT = Path(__file__).resolve().parent / "assets" / "playbot_8k.ply"
MEASURED = {  # actions whose outcomes have words
    "solid": ("dropped", "thrown", "poked"),
    "flowing": ("dropped", "thrown", "poured"),
}


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A scene whose law holds the hidden value of `unknown`."""

    number: int
    kind: str
    material: str
    action: str
    shape: str  # "" where it has no word
    scene: clips.ClipScene
    first: int  # particles of the body in question; those after it belong to the others
    volumes: np.ndarray  # of the particles [m^3] (N,)
    block: Any = None  # obstacle: centre, half size [m] (6,)
    others: tuple = ()  # laws of the other bodies
    counts: tuple[int, ...] = ()  # their particles

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.material}_{self.number:04d}"

    @property
    def is_like_training(self) -> bool:
        """Whether it is an elastic scene like the training clips."""
        return self.kind == "training" and self.material == "elastic"

    @property
    def unknown(self) -> str:
        return UNKNOWN[self.material]

    @property
    def law_name(self) -> str:
        """A key of `mpm.materials.LAWS`."""
        return clips.LAW[self.material]

    @property
    def linear(self) -> bool:
        """Whether the unknown counts in its own unit (degree) and not in decades."""
        return self.unknown == "friction_angle"

    @property
    def ends(self) -> tuple[float, float]:
        """The range of the coordinate of the unknown: what is known of it beforehand."""
        lo, hi = BULK if self.unknown == "bulk_modulus" else clips.RANGES[self.material][self.unknown]
        return (lo, hi) if self.linear else (float(np.log10(lo)), float(np.log10(hi)))

    @property
    def truth(self) -> float:
        """The hidden coordinate."""
        value = float(getattr(self.scene.law, self.unknown))
        return value if self.linear else float(np.log10(value))

    def law(self, coordinate) -> Any:
        """The law with another value of the unknown, which may be traced."""
        value = jnp.asarray(coordinate if self.linear else 10.0**coordinate, jnp.float32)
        return dataclasses.replace(self.scene.law, **{self.unknown: value})

    def boundaries(self, world: clips.World, scene: clips.ClipScene, block: Any) -> tuple:
        """What acts beside gravity; of a scene and an obstacle that may be traced."""
        out = clips.boundaries(scene, world, clips.ARRANGEMENT.get(self.action, ()))
        if self.block is not None:
            out += (mpm.Collider(Box(tuple(block[:3]), tuple(block[3:])), "separate", friction=0.4),)
        return out

    def particles(self, scene: clips.ClipScene) -> mpm.Particles:
        """The particles of a scene that may be traced; those of other bodies have the laws after the first."""
        index = np.repeat(np.arange(1 + len(self.others)), (self.first, *self.counts))
        return mpm.Particles.create(jnp.asarray(scene.x), self.volumes, v=jnp.asarray(scene.v), material=index)

    def substeps(self, world: clips.World, grid: np.ndarray) -> int:
        """The first of `clips.STEPS` that every candidate is stable with."""
        particles = self.particles(self.scene)
        acting = mpm.Scene(boundaries=self.boundaries(world, self.scene, self.block))
        needed = 0.0
        for end in (grid[0], grid[-1]):
            laws = (self.law(end), *self.others)
            limits = time_step_limits(laws, particles, acting, world.config(1))
            needed = max(needed, 1.0 / (world.fps * min(limits.values())))
        stable = [n for n in clips.STEPS if n >= needed]
        if not stable:
            raise ValueError(f"{self.name}: {needed:.0f} substeps per frame are needed, more than {clips.STEPS[-1]}")
        return stable[0]

    def numbers(self) -> np.ndarray:
        """What a clip knows of its scene (`clips.SCALARS`), of the body in question and without the unknown."""
        body = dataclasses.replace(self.scene, x=self.scene.x[: self.first])
        out = np.asarray(clips.scalars(body), np.float32)
        hidden = [clips.SCALARS.index(name) for name in (self.unknown,) if name in clips.SCALARS]
        out[hidden] = np.nan
        return out

    def named(self) -> dict[str, str]:
        """What a picture shows: material, action and shape."""
        said = {"material": self.material, "action": self.action}
        return said | ({"shape": self.shape} if self.shape else {})

    def property_caption(self) -> dict[str, str]:
        """A caption that names the hidden parameter; weight is left out, as the numbers hold the density."""
        words = clips.property_words(self.material, self.scene.law)
        words.pop("weight")
        return self.named() | words

    def outcome_caption(self, outcomes: Any) -> dict[str, str]:
        """A caption that names what was measured on the motion of the hidden value."""
        return self.named() | clips.outcome_words(self.material, self.action, outcomes)


def filled(rng: np.random.Generator, inside, count: int, reach: float = 0.4) -> tuple[np.ndarray, float]:
    """`count` points evenly inside a body about the origin, and its volume [m^3].

    Args:
        rng: for the disorder.
        inside: (N, 3) -> (N,) bool.
        count: of the points.
        reach: half size of a cube that holds the body [m].
    """
    spacing = 0.05
    while True:
        axis = np.arange(-reach, reach, spacing)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        points = points + spacing * (rng.random(3) - 0.5 + 0.3 * (rng.random(points.shape) - 0.5))
        hit = np.flatnonzero(inside(points))
        if len(hit) >= count:
            return points[rng.permutation(hit)[:count]], len(hit) * spacing**3
        spacing *= 0.97


@functools.cache
def robot_points() -> np.ndarray:
    """Points inside the captured splat, upright, 0.34 m in its longest direction, centre at the origin."""
    whole = splats.read(ROBOT).transform(rotation=splats.Y_DOWN_TO_Z_UP)
    body = whole.select(np.flatnonzero(scenes.select_component(whole, 0.07)))
    binding = scenes.bind(body, 1 / 16)
    points = np.asarray(binding.particles.x, np.float64)[len(body) :]
    low, high = points.min(0), points.max(0)
    return (points - 0.5 * (low + high)) * 0.34 / np.max(high - low)


def unusual_body(rng: np.random.Generator, kind: str, count: int) -> tuple[np.ndarray, float, str]:
    """Points, volume and shape word of a body that no training clip shows."""
    if kind == "splat":
        points = robot_points()
        pitch = 0.5 * 0.34 / 16
        cells = len(np.unique(np.floor(points / (2 * pitch)), axis=0))
        return points[rng.permutation(len(points))[:count]], cells * (2 * pitch) ** 3, ""
    if kind == "hollow":
        r = rng.uniform(0.14, 0.18)
        if rng.random() < 0.5:
            inside = lambda p: (np.linalg.norm(p, axis=1) < r) & (np.linalg.norm(p, axis=1) > 0.6 * r)
            return *filled(rng, inside, count), "ball"
        half = r * rng.uniform(0.75, 0.95, 3)
        inside = lambda p: (np.abs(p) < half).all(1) & ~(np.abs(p) < 0.6 * half).all(1)
        return *filled(rng, inside, count), "block"
    r = rng.uniform(0.09, 0.12)
    if rng.random() < 0.5:  # a dumbbell
        ends = (-1.1 * r, 0, 0), (1.1 * r, 0, 0)
        solids = [Sphere(ends[0], r), Sphere(ends[1], r), Capsule(*ends, 0.5 * r)]
    else:  # a jack: three crossed bars
        axes = np.eye(3) * 1.6 * r
        solids = [Capsule(tuple(-a), tuple(a), 0.55 * r) for a in axes]
    inside = lambda p: np.min([np.asarray(s.distance(tuple(p.T))) for s in solids], 0) <= 0
    return *filled(rng, inside, count), ""


def draw(number: int, kind: str, material: str, world: clips.World) -> HeldOut:
    """The held-out scene of a number.

    Raises:
        ValueError: there is no such kind, or it is not made of this material.
    """
    if kind not in KINDS:
        raise ValueError(f"held-out scene: kind must be one of {KINDS}, got {kind!r}")
    if kind != "training" and material not in clips.SOLIDS:
        raise ValueError(f"held-out scene: {kind} is of solids, got {material!r}")
    rng = np.random.default_rng([SEED, KINDS.index(kind), list(UNKNOWN).index(material), number])
    actions = MEASURED["solid" if material in clips.SOLIDS else "flowing"]
    shares = np.array([clips.ACTIONS["solid" if material in clips.SOLIDS else "flowing"][a] for a in actions])
    action = str(rng.choice(actions, p=shares / shares.sum())) if kind == "training" else "dropped"
    shapes = ("",) if action == "poured" else clips.SHAPES.get(action, tuple(captions.NAMED["shape"]))
    shape = str(rng.choice(shapes))
    scene = clips.draw_scene(rng, world, material, action, shape)
    if material == "water":
        bulk = np.float32(10 ** rng.uniform(*np.log10(BULK)))
        scene = dataclasses.replace(scene, law=dataclasses.replace(scene.law, bulk_modulus=bulk))
    block, others, counts, volumes = None, (), (), None
    if kind in ("hollow", "shape", "splat"):
        gap = rng.uniform(*clips.GAP)
        x, volume, shape = unusual_body(rng, kind, world.particles)
        if kind != "splat":
            x = x @ Rotation.random(rng=rng).as_matrix().T
        x = x + [0.0, 0.0, gap - x[:, 2].min()]
        scene = dataclasses.replace(scene, x=np.float32(x), volume=np.float32(volume / len(x)))
    elif kind == "flat":
        still = clips.draw_scene(rng, world, material, "stretched", shape)  # an action that does not turn the body
        x = still.x + np.float32([0.0, 0.0, rng.uniform(*clips.GAP) - still.x[:, 2].min()])
        scene = dataclasses.replace(scene, x=x, volume=still.volume)
    elif kind == "fast":
        v = np.zeros_like(scene.v) + np.float32([0.0, 0.0, -rng.uniform(1.5, 3.0)])
        scene = dataclasses.replace(scene, v=v)
    elif kind == "obstacle":
        half = np.array([rng.uniform(0.05, 0.09), 0.25, rng.uniform(0.03, 0.06)])
        block = np.float32([*(rng.uniform(-0.05, 0.05, 2)), half[2], *half])
        lift = max(0.0, 2 * half[2] + 0.05 - float(scene.x[:, 2].min()))
        scene = dataclasses.replace(scene, x=scene.x + np.float32([0.0, 0.0, lift]))
    elif kind == "two":
        scene, law, volumes = _onto_another(rng, scene, world, material)
        others, counts = (law,), (len(scene.x) - world.particles,)
    if kind != "training":
        scene = dataclasses.replace(scene, texture=_waves(rng, scene.x))
    if volumes is None:
        volumes = np.full(len(scene.x), scene.volume, np.float32)
    return HeldOut(number, kind, material, action, shape, scene, world.particles, volumes, block, others, counts)


def _waves(rng, x):
    waves = rng.normal(size=(2, 3)) * rng.uniform(15.0, 35.0, (2, 1))
    return np.float32(1 / (1 + np.exp(-4 * np.cos(x @ waves.T + rng.uniform(0, 2 * np.pi, 2)).sum(1))))


def _onto_another(rng, scene, world, material):
    """The body over another one that lies on the ground, of the same law with other values."""
    below = clips.draw_scene(rng, world, material, "dropped", "plate")
    under = below.x - np.float32([*below.x[:, :2].mean(0), below.x[:, 2].min() - 0.004])
    lift = under[:, 2].max() + rng.uniform(0.06, 0.2) - scene.x[:, 2].min()
    over = scene.x + np.float32([0.0, 0.0, lift])
    x, v = np.concatenate([over, under]), np.concatenate([scene.v, np.zeros_like(under)])
    volumes = np.repeat(np.float32([scene.volume, below.volume]), [len(over), len(under)])
    return dataclasses.replace(scene, x=np.float32(x), v=np.float32(v)), below.law, volumes


def blind(held: HeldOut) -> HeldOut:
    """The scene with no number of its law known but the density: for questions that are about more than the unknown."""
    law = held.scene.law
    hidden = {name: np.float32(np.nan) for name in clips.LAW_SCALARS if hasattr(law, name)}
    return dataclasses.replace(held, scene=dataclasses.replace(held.scene, law=dataclasses.replace(law, **hidden)))


def split_particles(held: HeldOut, rng: np.random.Generator) -> HeldOut:
    """The scene with two particles for each, a quarter of their distance to either side, in no particular direction."""
    scene, n = held.scene, len(held.scene.x)
    away = rng.normal(size=(n, 3))
    away *= 0.25 * np.cbrt(np.asarray(held.volumes))[:, None] / np.linalg.norm(away, axis=1)[:, None]
    x = np.stack([scene.x - away, scene.x + away], 1).reshape(2 * n, 3)
    twice = {name: np.repeat(getattr(scene, name), 2, axis=0) for name in ("v", "texture")}
    scene = dataclasses.replace(scene, x=np.float32(x), volume=np.float32(0.5 * scene.volume), **twice)
    counts = tuple(2 * n for n in held.counts)
    return dataclasses.replace(
        held, scene=scene, first=2 * held.first, volumes=np.repeat(0.5 * held.volumes, 2), counts=counts
    )


def manifest(config: Any, world: clips.World) -> list[HeldOut]:
    """The scenes that a config asks for: `config.scenes` maps "kind_material" to a count. Known kinds come first."""
    out = []
    for name, count in config.scenes.items():
        kind, _, material = name.partition("_")
        out += [draw(number, kind, material, world) for number in range(count)]
    return sorted(out, key=lambda h: (KINDS.index(h.kind), list(UNKNOWN).index(h.material), h.number))
