"""Which part of an object every particle belongs to: by boxes, or by a mask with one number per Gaussian."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from experiments import simulate
from jaxphys import splats

Place = np.ndarray | int
"""A box (2, 3) [m], or a number of the mask."""


def parse_parts(config) -> list[tuple[Place, str]]:
    """Places and prompts of `config.parts`.

    Raises:
        ValueError: an entry is neither a box nor a number of a mask, a colon and a prompt.
    """
    out = []
    for entry in config.parts:
        where, _, prompt = entry.partition(":")
        if not prompt.strip():
            raise ValueError(f"config.parts: an entry needs a place, a colon and a prompt, got {entry!r}")
        if where.strip().isdecimal() and int(where) > 0:
            if not config.mask:
                raise ValueError(f"config.parts: {entry!r} names a number of a mask, and config.mask is empty")
            place: Place = int(where)
        else:
            try:
                place = np.array([float(a) for a in where.split(",")]).reshape(2, 3)
            except ValueError:
                raise ValueError(
                    'config.parts: expected "x0,y0,z0,x1,y1,z1: prompt", or "k: prompt" with a number k >= 1 of '
                    f"config.mask, got {entry!r}"
                ) from None
            if not (place[0] < place[1]).all():
                raise ValueError(f"config.parts: needs a box with lower < upper corner, got {entry!r}")
        out.append((place, prompt.strip()))
    numbers = [place for place, _ in out if isinstance(place, int)]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"config.parts: every number of the mask can have one prompt, got {numbers}")
    if config.mask and not numbers:
        raise ValueError('config.mask is given, and no entry of config.parts names a number of it ("1: a prompt")')
    return out


def read_mask(path: str, count: int) -> np.ndarray:
    """The numbers of a mask file, one per Gaussian of the scene's file (count,).

    Raises:
        ValueError: no .npy file, not one integer per Gaussian, or below 0.
    """
    try:
        mask = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"config.mask: {path} cannot be read as .npy: {error}") from error
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "iu" or mask.shape != (count,):
        got = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else "an archive"
        raise ValueError(f"config.mask: {path} must hold one integer per Gaussian of the scene, ({count},), got {got}")
    if mask.size and mask.min() < 0:
        raise ValueError(f"config.mask: numbers must be at least 0 (0: the prompt's own part), got {mask.min()}")
    return mask


def numbers_of(config, job: simulate.Job, drop: float) -> np.ndarray:
    """The number of every particle: that of its own Gaussian, or of the nearest one of the object (N,).

    Raises:
        ValueError: the scene is described by a file of its own, or the mask does not fit.
    """
    if job.proposal is None:
        raise ValueError("config.mask: the objects of a scene file are its own; give a splat as config.scene")
    whole = splats.read(config.scene)
    mask = read_mask(config.mask, len(whole))
    if config.up == "-y":
        whole = whole.transform(rotation=splats.Y_DOWN_TO_Z_UP)
    own = np.asarray(job.setup.gaussians.mean, np.float64)
    _, index = cKDTree(np.asarray(whole.mean, np.float64)).query(own - [0.0, 0.0, drop])
    _, nearest = cKDTree(own).query(np.asarray(job.setup.particles.x, np.float64))
    return mask[index][nearest]


def split(job: simulate.Job, places: list[Place], config) -> simulate.Job:
    """The job with its particles in parts: k + 1 in place k, 0 in none; Gaussians of a part follow one another.

    Raises:
        ValueError: a place holds nothing of the object, or a number of the mask has no prompt.
    """
    setup, n = job.setup, len(job.setup.gaussians)
    x = np.asarray(setup.particles.x, np.float64) - [0.0, 0.0, config.drop_m]
    part = np.zeros(len(x), int)
    number = numbers_of(config, job, config.drop_m) if config.mask else None
    for k, place in enumerate(places):
        if isinstance(place, int):
            assert number is not None
            inside, what = number == place, f"number {place} of config.mask"
        else:
            inside, what = ((x >= place[0]) & (x <= place[1])).all(1), f"box {k}"
        if not inside[:n].any():
            raise ValueError(
                f"config.parts: {what} holds nothing of the object, which spans {x.min(0).round(3).tolist()} to "
                f"{x.max(0).round(3).tolist()}"
                + ("" if number is None else f" and has the numbers {np.unique(number[:n]).tolist()}")
            )
        part[inside] = k + 1
    if number is not None:
        named = {0, *(place for place in places if isinstance(place, int))}
        silent = sorted(set(np.unique(number[:n]).tolist()) - named)
        if silent:
            raise ValueError(f"config.parts: the numbers {silent} of config.mask have no prompt; 0 needs none")
    if not (part[:n] == 0).any():
        raise ValueError("config.parts: the parts hold the whole object, and nothing is left for config.prompt")
    order = np.concatenate([np.argsort(part[:n], kind="stable"), np.arange(n, len(x))])
    particles = jax.tree.map(lambda a: a[order], setup.particles)
    part = part[order]
    particles = dataclasses.replace(particles, material=jnp.asarray(part, jnp.int32))
    ends = np.cumsum([0, *np.bincount(part[:n], minlength=len(places) + 1)])
    volumes = np.bincount(part, np.asarray(particles.volume, np.float64), minlength=len(places) + 1)
    parts = tuple(
        dataclasses.replace(setup.parts[0], name=f"part {k}", gaussians=slice(int(a), int(b)), volume=float(v))
        for k, (a, b, v) in enumerate(zip(ends[:-1], ends[1:], volumes))
    )
    gaussians = setup.gaussians.select(order[:n])
    laws = setup.laws * len(parts)
    setup = dataclasses.replace(setup, gaussians=gaussians, particles=particles, parts=parts, laws=laws)
    return dataclasses.replace(job, setup=setup)


def body_points(job: simulate.Job, of: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Points evenly inside the object, 0 for those of a part and 1, 2 ... for the others in order, and its volume."""
    setup, n = job.setup, len(job.setup.gaussians)
    part = np.asarray(setup.particles.material)[n:]
    index = np.where(part == of, 0, np.where(part < of, part + 1, part))
    return np.asarray(setup.particles.x, np.float64)[n:], index, sum(p.volume for p in setup.parts)
