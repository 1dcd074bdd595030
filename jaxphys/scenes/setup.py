"""A scene that is ready to simulate, whatever file it came from."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxphys import mpm
from jaxphys.camera import Camera
from jaxphys.shapes import Shape
from jaxphys.splats import Gaussians


@dataclasses.dataclass(frozen=True)
class Frame:
    """The similarity from a file's world to the space of the simulation: x -> scale R x + translation."""

    rotation: np.ndarray  # R, (3, 3)
    translation: np.ndarray  # (3,)
    scale: float

    @classmethod
    def identity(cls) -> Frame:
        return cls(np.eye(3), np.zeros(3), 1.0)

    def apply(self, x) -> np.ndarray:
        return self.scale * np.asarray(x, np.float64) @ self.rotation.T + self.translation

    def undo(self, x) -> np.ndarray:
        """From the simulation's space to the file's world."""
        return (np.asarray(x, np.float64) - self.translation) @ self.rotation / self.scale

    def inverse(self) -> Frame:
        return Frame(self.rotation.T, -self.rotation.T @ self.translation / self.scale, 1.0 / self.scale)


@dataclasses.dataclass(frozen=True)
class Region:
    """Something to be seen in the preview."""

    label: str
    shape: Shape
    kind: str  # "select" | "boundary" | "force" | "domain"


@dataclasses.dataclass(frozen=True)
class Part:
    """One object: the Gaussians first..last of the scene, and a law."""

    name: str
    law: str  # a key of mpm.materials.LAWS
    gaussians: slice
    volume: float  # [m^3]


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything of `mpm.simulate` and of a picture. The first len(gaussians) particles carry the Gaussians."""

    dialect: str
    gaussians: Gaussians  # what moves, in the simulation's space
    still: Gaussians | None  # the rest of the scene
    particles: mpm.Particles
    laws: tuple[mpm.materials.Law, ...]
    parts: tuple[Part, ...]
    scene: mpm.Scene
    config: mpm.Config
    camera: Camera  # one, or one per frame
    frame: Frame  # from the file's world to the simulation's space
    regions: tuple[Region, ...]
    notes: tuple[str, ...]  # what was decided, converted or left out

    def describe(self) -> str:
        """Scale, up axis, ground, objects and notes, for people."""
        x = np.asarray(self.particles.x, np.float64)
        size = ", ".join(f"{a:.3g}" for a in np.ptp(x, axis=0))
        gravity = np.asarray(self.scene.gravity, np.float64)
        g = float(np.linalg.norm(gravity))
        up = f"up is {_axis(-gravity / g)}, g = {g:.3g} m/s^2" if g > 0 else "no gravity"
        lines = [f"{self.dialect} scene: {len(self.gaussians)} Gaussians, {len(x)} particles, {size} m; {up}"]
        lines.append(f"one unit of the file is {self.frame.scale:.4g} m of the simulation")
        if g > 0:
            ground = float((x @ (-gravity / g)).min())
            lines.append(f"lowest particle at height {ground:.3g} m: the suggested ground")
        for part, law in zip(self.parts, self.laws):
            density = np.asarray(law.density, np.float64)
            lines.append(f"{part.name}: {part.law}, {density.mean():.4g} kg/m^3, {part.volume:.4g} m^3")
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def _axis(direction: np.ndarray) -> str:
    k = int(np.abs(direction).argmax())
    if abs(direction[k]) < 0.999:
        return np.array2string(direction, precision=3)
    return ("+" if direction[k] > 0 else "-") + "xyz"[k]
