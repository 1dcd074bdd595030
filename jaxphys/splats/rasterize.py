"""Differentiable rendering of 3D Gaussians in plain JAX: the same code on CPU, GPU and TPU.

Project -> list (tile, Gaussian) pairs -> composite each tile front to back. Image size, tile and capacity (the length
of the pair list) are static; the scene and the camera are traced, so a moving camera does not recompile.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from jaxphys.camera import Camera
from jaxphys.pytree import pytree, static
from jaxphys.splats.binning import bin_tiles, count_pairs, tile_counts
from jaxphys.splats.composite import COMPOSITED, Layout, blend, composite
from jaxphys.splats.deform import deform
from jaxphys.splats.gaussians import Gaussians, Kernels, check_shapes
from jaxphys.splats.project import colors, project

NEAR = 0.01  # [m]


class CapacityError(ValueError):
    """The picture needs more (tile, Gaussian) pairs than the capacity it was given."""

    def __init__(self, needed: int, capacity: int):
        super().__init__(
            f"the picture needs {needed} (tile, Gaussian) pairs but capacity is {capacity}; pass capacity="
            f"{_round_capacity(needed)}, or plan it with plan_capacity(scene, cameras)"
        )
        self.needed, self.capacity = needed, capacity


@pytree
class RenderInfo:
    """What the renderer did; leaves have a leading axis for a video."""

    n_needed: jax.Array  # (tile, Gaussian) pairs that the picture needs () int32
    dropped: jax.Array  # pairs that did not fit: those of the farthest Gaussians () int32
    n_nonfinite: jax.Array  # Gaussians that hold or produce NaN or infinity, and such camera numbers () int32
    capacity: int = static()  # pairs that fit


@pytree
class Rendering:
    """A picture; arrays have a leading axis (T, ...) for a video."""

    image: jax.Array  # RGB over the background (H, W, 3); not clipped: a colour above 1 stays above 1
    alpha: jax.Array  # coverage in 0..1 (H, W)
    depth: jax.Array  # mean camera z of what is seen, sum w z / sum w [m] (H, W); 0 where alpha is 0
    features: jax.Array | None  # blended features sum w f (H, W, F), no background; None if none were given
    info: RenderInfo

    def check(self) -> Rendering:
        """Returns itself if the picture is complete; outside a trace.

        Raises:
            CapacityError: pairs were dropped.
            ValueError: the scene or the camera holds NaN or infinity.
        """
        bad = int(jnp.max(self.info.n_nonfinite))
        if bad:
            raise ValueError(
                f"{bad} Gaussians or camera numbers are NaN or infinite (in the frame with most); the motion has blown "
                "up, or a file is damaged: inspect mean, cov, opacity and sh with jnp.isfinite"
            )
        if int(jnp.max(self.info.dropped)):
            raise CapacityError(int(jnp.max(self.info.n_needed)), self.info.capacity)
        return self


def render(
    scene: Gaussians | Kernels,
    camera: Camera,
    *,
    background: jax.Array | float = 1.0,
    features: jax.Array | None = None,
    capacity: int | None = None,
    tile: int = 8,
    near: float = NEAR,
    on_overflow: Literal["raise", "report"] = "raise",
    gradient: Literal["reverse", "forward"] = "reverse",
) -> Rendering:
    """Renders one picture; differentiable in the scene, the features, the background and the camera.

    Image = sum_i w_i c_i + (1 - sum_i w_i) background with the weights of 3D Gaussian Splatting (Kerbl et al. 2023,
    eq. 3; constants in `jaxphys.splats.composite`). Pixels whose transmittance fell below 1e-4 stop early, so their
    alpha ends slightly below 1.

    No failure looks like a picture: called eagerly, overflow and non-finite input raise; inside a trace (jit, grad,
    vmap) every output becomes NaN, and so does every gradient. Map over views or frames with `lax.map` or
    `render_video`, not `vmap`, which would run every view as long as the slowest.

    Args:
        scene: Gaussians, or Kernels from `deform`.
        camera: one camera; its width and height need not be multiples of `tile`.
        background: RGB, scalar, (3,) or an image (H, W, 3).
        features: (N, F) further values per Gaussian to blend: masks, flow, semantic features.
        capacity: number of (tile, Gaussian) pairs to make room for; see `plan_capacity`. None plans it for this very
            picture, which is possible outside a trace only.
        tile: edge of a tile [pixel]; 8 is fastest on CPU.
        near: Gaussians closer than this to the camera plane are not drawn [m].
        on_overflow: "report" leaves the truncated picture and only reports `info.dropped`.
        gradient: the mode that will differentiate it; "forward" is for `jax.jvp` and `jax.jacfwd` over a few numbers.

    Returns:
        Rendering.

    Raises:
        CapacityError: `capacity` is too small (eager calls).
        ValueError: wrong shapes or options; non-finite input (eager calls); no capacity inside a trace.

    >>> ball = Gaussians.create([[0.0, 0.0, 0.0]], scale=0.2, color=(1.0, 0.0, 0.0))
    >>> camera = Camera.look_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0), width=17, height=17)
    >>> out = render(ball, camera, background=0.0)
    >>> [round(float(c), 2) for c in out.image[8, 8]], round(float(out.depth[8, 8]), 2)
    ([1.0, 0.0, 0.0], 2.0)
    """
    _check_options(camera, capacity, tile, near, on_overflow, gradient)
    check_shapes(scene)
    if camera.fx.ndim:
        raise ValueError("render takes one camera; use render_video for a camera with a leading axis")
    n = scene.mean.shape[0]
    if features is not None and (features.ndim != 2 or features.shape[0] != n):
        raise ValueError(f"features must have shape ({n}, F), got {features.shape}")
    background = jnp.asarray(background)
    if background.shape not in ((), (3,), (camera.height, camera.width, 3)):
        raise ValueError(
            f"background must be a scalar, (3,) or ({camera.height}, {camera.width}, 3), got {background.shape}"
        )
    if capacity is None:
        capacity = _plan_exact(_count(scene, camera, tile, near))
    result = _render(scene, camera, background, features, on_overflow == "raise", capacity, tile, near, gradient)
    if not isinstance(result.info.n_needed, jax.core.Tracer):
        if on_overflow == "raise" or int(result.info.n_nonfinite):
            result.check()
    return result


def render_video(
    gaussians: Gaussians,
    x: jax.Array,
    F: jax.Array | None,
    camera: Camera,
    *,
    background: jax.Array | float = 1.0,
    features: jax.Array | None = None,
    capacity: int | None = None,
    tile: int = 8,
    near: float = NEAR,
    on_overflow: Literal["raise", "report"] = "raise",
    gradient: Literal["reverse", "forward"] = "reverse",
) -> Rendering:
    """Renders a motion, one frame after the other; see `deform` and `render`.

    For the derivative each frame keeps its blended picture and recomputes its projection and its pair list, so memory
    grows with the pixels of the video and not with Gaussians times frames.

    Args:
        gaussians: the undeformed object.
        x: (T, N, 3) centres of each frame [m].
        F: (T, N, 3, 3) deformation gradients since the undeformed state; None keeps shapes and orientations.
        camera: one for all frames, or with leaves (T, ...).
        background, features, capacity, tile, near, on_overflow, gradient: as for `render`, the same for all frames.

    Returns:
        Rendering with arrays (T, ...).

    Raises:
        CapacityError, ValueError: as `render`.

    >>> ball = Gaussians.create([[0.0, 0.0, 0.0]], scale=0.2, color=1.0)
    >>> camera = Camera.look_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0), width=17, height=17)
    >>> render_video(ball, jnp.zeros((3, 1, 3)), None, camera, capacity=4096).image.shape
    (3, 17, 17, 3)
    """
    _check_options(camera, capacity, tile, near, on_overflow, gradient)
    check_shapes(gaussians)
    n = len(gaussians)
    x = jnp.asarray(x)
    if x.ndim != 3 or x.shape[1:] != (n, 3) or not x.shape[0]:
        raise ValueError(f"x must have shape (T, {n}, 3) with T >= 1, got {x.shape}")
    frames = x.shape[0]
    if F is not None and F.shape != (frames, n, 3, 3):
        raise ValueError(f"F must have shape ({frames}, {n}, 3, 3) to match x, got {F.shape}")
    moving = camera.fx.ndim == 1
    if moving and camera.fx.shape != (frames,):
        raise ValueError(f"the camera has {camera.fx.shape[0]} frames, x has {frames}")
    per_frame = (x, F, camera if moving else None)

    def scene_of(frame):
        x, F, moved = frame
        if F is None:
            kernels = dataclasses.replace(gaussians.kernels(), mean=x)
        else:
            kernels = deform(gaussians, x, F)
        return kernels, camera if moved is None else moved

    if capacity is None:
        counts = lax.map(lambda frame: _count(*scene_of(frame), tile, near), per_frame)
        capacity = _plan_exact(jnp.max(counts))

    @functools.partial(jax.checkpoint, policy=jax.checkpoint_policies.save_only_these_names(COMPOSITED))
    def one(frame):
        kernels, view = scene_of(frame)
        return _render(
            kernels, view, jnp.asarray(background), features, on_overflow == "raise", capacity, tile, near, gradient
        )

    result = lax.map(one, per_frame)
    if not isinstance(result.info.n_needed, jax.core.Tracer):
        if on_overflow == "raise" or int(jnp.max(result.info.n_nonfinite)):
            result.check()
    return result


def plan_capacity(
    scene: Gaussians | Kernels,
    cameras: Camera | Sequence[Camera],
    *,
    margin: float = 1.25,
    tile: int = 8,
    near: float = NEAR,
) -> int:
    """A capacity with which `scene` fits into the view of every camera; projects and counts only.

    Args:
        scene: the scene, or the most spread-out frame of a motion.
        cameras: a camera, one with leaves (T, ...), or several.
        margin: factor on the count, for a scene that will spread.
        tile, near: as will be passed to `render`.

    Returns:
        Number of pairs, rounded up on a coarse scale so that similar scenes share one compiled program.

    >>> ball = Gaussians.create([[0.0, 0.0, 0.0]], scale=0.2, color=1.0)
    >>> plan_capacity(ball, Camera.look_at((0.0, -2.0, 0.0), (0.0, 0.0, 0.0)))
    4096
    """
    if not margin >= 1:
        raise ValueError(f"margin must be at least 1, got {margin}")
    check_shapes(scene)
    needed = 1
    for camera in [cameras] if isinstance(cameras, Camera) else list(cameras):
        _check_options(camera, None, tile, near)
        if camera.fx.ndim:
            counts = lax.map(lambda view: _count(scene, view, tile, near), camera)
        else:
            counts = _count(scene, camera, tile, near)
        needed = max(needed, _plan_exact(jnp.max(counts), rounded=False))
    return _round_capacity(math.ceil(needed * margin))


def _round_capacity(needed: int) -> int:
    """The next of 4096, 8192, 12288, 16384, 20480, 28672, ...: steps of a quarter, multiples of 4096."""
    capacity = 4096
    while capacity < needed:
        capacity = -(-capacity * 5 // (4 * 4096)) * 4096
    return capacity


def _plan_exact(needed: jax.Array, rounded: bool = True) -> int:
    if isinstance(needed, jax.core.Tracer):
        raise ValueError(
            "inside jit, grad or vmap the capacity must be a number: pass capacity=plan_capacity(scene, cameras), "
            "computed outside"
        )
    return _round_capacity(int(needed)) if rounded else int(needed)


def _check_options(camera, capacity, tile, near, on_overflow="raise", gradient="reverse") -> None:
    if not isinstance(camera, Camera):
        raise ValueError(f"expected a Camera, got {type(camera).__name__}")
    if capacity is not None and (
        isinstance(capacity, bool) or not isinstance(capacity, int) or not 0 < capacity < 2**31
    ):
        raise ValueError(f"capacity must be a positive int (static), got {capacity!r}")
    if not isinstance(tile, int) or not 1 <= tile <= 64:
        raise ValueError(f"tile must be an int from 1 to 64 pixels, got {tile!r}")
    if not near > 0:
        raise ValueError(f"near must be a positive distance in metres, got {near}")
    if on_overflow not in ("raise", "report"):
        raise ValueError(f"on_overflow must be 'raise' or 'report', got {on_overflow!r}")
    if gradient not in ("reverse", "forward"):
        raise ValueError(f"gradient must be 'reverse' or 'forward', got {gradient!r}")


def _promote(scene, camera, *others):
    """Everything in the widest float type among the scene's arrays."""
    kernels = scene.kernels() if isinstance(scene, Gaussians) else scene
    dtype = jnp.result_type(*jax.tree.leaves(kernels))
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), (kernels, camera, *others))


@functools.partial(jax.jit, static_argnames=("tile", "near"))
def _count(scene, camera, tile, near):
    kernels, camera = _promote(scene, camera)
    return count_pairs(project(kernels, camera, near), camera.width, camera.height, tile)


@jax.custom_vjp
def _poison_gradient(tree: Any, failed: jax.Array) -> Any:
    """`tree`; where `failed`, every gradient that comes back through it is NaN (a zero would look like an answer)."""
    return tree


_poison_gradient.defvjp(
    lambda tree, failed: (tree, failed),
    lambda failed, cotangents: (jax.tree.map(lambda g: jnp.where(failed, jnp.nan, g), cotangents), None),
)


@functools.partial(jax.jit, static_argnames=("capacity", "tile", "near", "gradient"))
def _render(scene, camera, background, features, strict, capacity, tile, near, gradient):
    inputs = _promote(scene, camera, background, features)
    width, height = camera.width, camera.height
    across, down = tile_counts(width, height, tile)

    # The pair list has no derivative. Nothing here costs twice: the compiler merges both projections.
    kernels, camera, _, _ = lax.stop_gradient(inputs)
    screen = project(kernels, camera, near)
    bins = bin_tiles(screen, width, height, tile, capacity)
    nonfinite = screen.nonfinite if features is None else screen.nonfinite | ~jnp.isfinite(features).all(-1)
    bad_camera = sum(jnp.sum(~jnp.isfinite(leaf), dtype=jnp.int32) for leaf in jax.tree.leaves(camera))
    info = RenderInfo(
        n_needed=bins.needed,
        dropped=jnp.maximum(bins.needed - capacity, 0),
        n_nonfinite=jnp.sum(nonfinite, dtype=jnp.int32) + bad_camera,
        capacity=capacity,
    )
    failed = (info.n_nonfinite > 0) | (strict & (info.dropped > 0))

    reverse = gradient == "reverse"
    kernels, camera, background, features = _poison_gradient(inputs, failed) if reverse else inputs
    projected = project(kernels, camera, near)
    blended = [projected.geometry, colors(kernels, camera), projected.depth[:, None]]
    table = jnp.concatenate(blended if features is None else [*blended, features], -1)
    # what is invisible must not poison a gradient: 0 * inf would
    table = jnp.where(screen.visible[:, None], table, 0.0)
    block = 4 if jax.default_backend() == "cpu" else 1024
    layout = Layout(across, across * down, tile, min(block, across * down))
    composited: Any = (composite if reverse else blend)(table[bins.order], bins.rank, bins.start, layout)
    value, coverage = composited
    sound = jnp.where(failed, jnp.nan, 1.0)  # a factor, so that a tangent is NaN too

    def untile(a):
        a = a.reshape(down, across, tile, tile, -1).transpose(0, 2, 1, 3, 4)
        return a.reshape(down * tile, across * tile, -1)[:height, :width] * sound

    value, alpha = untile(jnp.moveaxis(value, 1, -1)), untile(coverage)[..., 0]
    return Rendering(
        image=value[..., :3] + (1.0 - alpha)[..., None] * background,
        alpha=alpha,
        depth=value[..., 3] / jnp.where(alpha > 0, alpha, 1.0),
        features=None if features is None else value[..., 4:],
        info=info,
    )
