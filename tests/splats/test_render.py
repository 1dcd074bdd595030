"""The renderer against a slow, obvious one: every Gaussian at every pixel, float64, plain automatic differentiation."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import splats
from jaxphys.camera import Camera

WIDTH, HEIGHT, N = 61, 45, 500  # no multiple of a tile
CAPACITY = 8192
FAST_COMPILE = {"xla_backend_optimization_level": 0}  # for programs that run once and whose last digits do not matter
AS_USERS = {"xla_backend_optimization_level": 3}
ROBOT = Path(__file__).parents[2] / "experiments" / "assets" / "playbot_8k.ply"


def scene(dtype=np.float32, seed=0):
    """Random Gaussians, moved and sheared: everything that a picture depends on, the same numbers in either dtype."""
    rng = np.random.default_rng(seed)
    F = np.eye(3) + 0.2 * rng.normal(size=(N, 3, 3))
    values = dict(
        x=0.5 * rng.normal(size=(N, 3)),
        F=F,
        opacity=rng.uniform(0.02, 0.99, N),
        sh=rng.normal(size=(N, 4, 3)) * 0.3,
        features=rng.normal(size=(N, 2)),
        background=np.array([0.2, 0.5, 0.9]),
        shift=np.array([0.03, -0.02, 0.05]),
        scale=0.06 * np.exp(0.5 * rng.normal(size=(N, 3))),
        quat=rng.normal(size=(N, 4)),
    )
    return {name: jnp.asarray(value.astype(np.float32), dtype) for name, value in values.items()}


def view(shift=0.0):
    camera = Camera.look_at((2.0, -1.0, 0.9), (0.1, 0.0, 0.05), fov_degrees=40.0, width=WIDTH, height=HEIGHT)
    camera = jax.tree.map(lambda a: a.astype(jnp.float32).astype(float), camera)
    return dataclasses.replace(camera, t=camera.t + shift)


def gaussians_of(values):
    return splats.Gaussians(*(values[name] for name in ("x", "scale", "quat", "opacity", "sh")))


def ours(values, tile=8):
    kernels = splats.deform(gaussians_of(values), values["x"], values["F"])
    rendering = splats.render(
        kernels,
        view(values["shift"]),
        background=values["background"],
        features=values["features"],
        capacity=CAPACITY,
        tile=tile,
    )
    return rendering.image, rendering.alpha, rendering.depth, rendering.features


def dense(values):
    """The definition of the picture, without tiles, lists, early stops or custom derivatives."""
    camera = view(values["shift"])
    w, x, y, z = (values["quat"] / jnp.linalg.norm(values["quat"], axis=-1, keepdims=True)).T
    K = jnp.array([[0 * w, -z, y], [z, 0 * w, -x], [-y, x, 0 * w]]).transpose(2, 0, 1)
    Q = jnp.eye(3) + 2 * w[:, None, None] * K + 2 * K @ K  # Rodrigues' formula in quaternion form
    A = values["F"] @ Q * values["scale"][:, None, :]
    cov = A @ A.transpose(0, 2, 1)
    U, _, Vt = jnp.linalg.svd(values["F"])
    eye = -camera.R.T @ camera.t
    d = values["x"] - eye
    d = d / jnp.linalg.norm(d, axis=-1, keepdims=True)
    d = jnp.einsum("nij,ni->nj", U @ Vt, d)
    c0, c1 = np.sqrt(1 / (4 * np.pi)), np.sqrt(3 / (4 * np.pi))
    Y = jnp.stack([c0 + 0 * d[:, 0], -c1 * d[:, 1], c1 * d[:, 2], -c1 * d[:, 0]], -1)
    rgb = jnp.maximum(0.5 + jnp.einsum("nk,nkc->nc", Y, values["sh"]), 0.0)

    c = values["x"] @ camera.R.T + camera.t
    depth = c[:, 2]
    limits = [  # of x/z and y/z, 30 % of the half field of view beyond the picture
        (camera.cx / camera.fx + 0.15 * WIDTH / camera.fx, (WIDTH - camera.cx) / camera.fx + 0.15 * WIDTH / camera.fx),
        (
            camera.cy / camera.fy + 0.15 * HEIGHT / camera.fy,
            (HEIGHT - camera.cy) / camera.fy + 0.15 * HEIGHT / camera.fy,
        ),
    ]
    u, v = (jnp.clip(c[:, i] / depth, -limits[i][0], limits[i][1]) for i in range(2))
    zero = jnp.zeros_like(depth)
    J = jnp.array(
        [[camera.fx / depth, zero, -camera.fx * u / depth], [zero, camera.fy / depth, -camera.fy * v / depth]]
    )
    J = J.transpose(2, 0, 1) @ camera.R
    inverse = jnp.linalg.inv(J @ cov @ J.transpose(0, 2, 1) + 0.3 * jnp.eye(2))
    centre = jnp.stack([camera.fx * c[:, 0] / depth + camera.cx, camera.fy * c[:, 1] / depth + camera.cy], -1)

    order = jnp.argsort(depth)
    j, i = jnp.meshgrid(jnp.arange(HEIGHT) + 0.5, jnp.arange(WIDTH) + 0.5, indexing="ij")
    delta = jnp.stack([i, j], -1).reshape(-1, 1, 2) - centre[order]
    alpha = values["opacity"][order] * jnp.exp(-0.5 * jnp.einsum("pni,nij,pnj->pn", delta, inverse[order], delta))
    alpha = jnp.where((alpha >= 1 / 255) & (depth[order] > 0.01), jnp.minimum(alpha, 0.999), 0.0)
    after = jnp.cumprod(1 - alpha, axis=1)
    weight = alpha * jnp.concatenate([jnp.ones((len(alpha), 1)), after[:, :-1]], 1)
    weight = jnp.where(after > 1e-4, weight, 0.0)
    coverage = weight.sum(1)
    image = weight @ rgb[order] + (1 - coverage)[:, None] * values["background"]
    mean_depth = weight @ depth[order] / jnp.where(coverage > 0, coverage, 1.0)
    form = lambda a: a.reshape(HEIGHT, WIDTH, *a.shape[1:])
    return tuple(map(form, (image, coverage, mean_depth, weight @ values["features"][order])))


def objective(pictures):
    """A loss that weighs every output differently in every pixel."""
    image, alpha, depth, features = pictures
    i = jnp.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    a, b, c, d = (1 + 0.5 * jnp.sin(rate * i) for rate in (0.1, 0.2, 0.3, 0.4))
    loss = jnp.sum(a[..., None] * image**2) + jnp.sum(b * alpha**2)
    return loss + 0.1 * jnp.sum(c * depth**2) + jnp.sum(d[..., None] * features**2)


def with_gradient(render, options=FAST_COMPILE):
    def loss(values):
        pictures = render(values)
        return objective(pictures), pictures

    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=options)


@pytest.fixture(scope="module")
def reference():
    with jax.enable_x64(True):
        values = scene(np.float64)
        run = with_gradient(dense)
        results = [run(v) for v in (values, values | {"background": jnp.zeros(3)})]
        return jax.tree.map(np.asarray, [(pictures, gradient) for (_, pictures), gradient in results])


@pytest.fixture(scope="module")
def gradient_of():
    """Our picture and gradient, compiled once and as users compile it: float32, tile 8."""
    return with_gradient(ours, AS_USERS)


def compare(result, expected, image_tolerance, gradient_tolerance):
    ((_, pictures), gradient), (expected_pictures, expected_gradient) = result, expected
    for name, a, b in zip(("image", "alpha", "depth", "features"), pictures, expected_pictures):
        # depth is a quotient whose divisor, the coverage, may be as small as 1/255
        tolerance = image_tolerance * max(1.0, np.abs(b).max()) * (5.0 if name == "depth" else 1.0)
        assert np.abs(np.asarray(a) - b).max() < tolerance, name
    for name, b in expected_gradient.items():
        error = np.linalg.norm(np.asarray(gradient[name]) - b) / np.linalg.norm(b)
        # the camera's gradient sums the opposing pulls of all Gaussians, so its rounding is relatively larger
        assert error < gradient_tolerance * (5 if name == "shift" else 1), (name, error)


def test_matches_dense_reference(reference, gradient_of):
    values = scene()
    compare(gradient_of(values), reference[0], 2e-6, 1e-5)
    compare(gradient_of(values | {"background": jnp.zeros(3)}), reference[1], 2e-6, 1e-5)


def test_float64_and_tile_16_match_dense_reference_to_rounding(reference):
    with jax.enable_x64(True):
        result = with_gradient(lambda values: ours(values, tile=16))(scene(np.float64))
        assert result[0][1][0].dtype == jnp.float64
        compare(result, reference[0], 1e-12, 1e-11)


def edit(name, value, rows=slice(0, 50)):
    values = scene()
    return values | {name: values[name].at[rows].set(value)}


@pytest.mark.parametrize(
    "values",
    [
        edit("x", np.array([4.0, -2.0, 1.8])),  # behind the camera
        edit("x", np.array([2.0, -1.0, 0.9])),  # at the camera
        edit("x", 1e4, slice(None)),  # all out of sight
        edit("scale", 0.0),
        edit("opacity", 0.0),
        edit("opacity", 1.0),
        edit("opacity", 0.0, slice(None)),
        edit("F", np.eye(3), slice(None)),
        edit("F", 0.0),  # a point, and no polar rotation
        edit("F", np.diag([1.0, 1.0, 0.0])),  # a disc
        edit("F", np.diag([1.0, 1.0, -1.0])),  # turned inside out
    ],
    ids="behind,at_camera,all_out_of_sight,zero_scale,clear,opaque,all_clear,identity,point,disc,inverted".split(","),
)
def test_finite_at_bad_points(values, gradient_of):
    (_, pictures), gradient = gradient_of(values)
    assert all(np.isfinite(p).all() for p in pictures)
    assert all(np.isfinite(g).all() for g in gradient.values())
    image, alpha, depth, _ = pictures
    if not np.any(alpha):
        np.testing.assert_array_equal(image, np.broadcast_to(values["background"], image.shape))
        assert not np.any(depth)


def test_overflow_is_loud_in_a_trace(gradient_of):
    """Not one number of the picture or of the gradient is usable."""
    values = scene()
    (loss, pictures), gradient = gradient_of(values | {"scale": 4 * values["scale"]})
    assert np.isnan(loss) and all(np.isnan(p).all() for p in pictures)
    assert all(np.isnan(g).all() for g in gradient.values())


def test_capacity_is_planned_checked_and_exact():
    gaussians = gaussians_of(scene())
    full = splats.render(gaussians, view())
    needed, capacity = int(full.info.n_needed), full.info.capacity
    assert 1000 < needed < capacity == splats.plan_capacity(gaussians, [view(), view()], margin=1.0)
    exact = splats.render(gaussians, view(), capacity=needed)
    for name in ("image", "alpha", "depth"):
        np.testing.assert_array_equal(getattr(exact, name), getattr(full, name))

    spread = dataclasses.replace(gaussians, scale=3 * gaussians.scale)
    with pytest.raises(splats.CapacityError, match="plan_capacity") as error:
        splats.render(spread, view(), capacity=needed)
    assert error.value.capacity == needed
    assert needed < error.value.needed <= splats.plan_capacity(spread, view(), margin=1.0)

    short = splats.render(spread, view(), capacity=needed, on_overflow="report")
    assert int(short.info.dropped) == error.value.needed - needed and np.isfinite(short.image).all()
    with pytest.raises(splats.CapacityError):
        short.check()
    with pytest.raises(ValueError, match="plan_capacity"):
        jax.jit(lambda g: splats.render(g, view()).image)(gaussians)


@pytest.mark.parametrize("name", ["x", "F", "opacity", "sh", "features", "shift", "quat"])
def test_nonfinite_input_is_loud_in_a_trace(name, gradient_of):
    values = scene()
    values = values | {name: values[name].at[(3,) if values[name].ndim > 1 else 0].set(jnp.nan)}
    (_, pictures), gradient = gradient_of(values)
    assert all(np.isnan(p).all() for p in pictures)
    assert all(np.isnan(g).all() for g in gradient.values())


def test_nonfinite_input_raises_when_called_eagerly():
    gaussians = gaussians_of(scene())
    bad = dataclasses.replace(gaussians, opacity=gaussians.opacity.at[7].set(jnp.nan))
    with pytest.raises(ValueError, match="1 Gaussians or camera numbers are NaN"):
        splats.render(bad, view())
    huge = dataclasses.replace(gaussians, scale=gaussians.scale.at[0].set(1e18))  # its determinant overflows
    with pytest.raises(ValueError, match="NaN or infinite"):
        splats.render(huge, view())


def test_large_scene_takes_the_two_key_sort(monkeypatch):
    """A key of tile and depth rank that does not fit in 32 bits must give the same picture."""
    from jaxphys.splats import binning
    from jaxphys.splats.project import Screen

    rng = np.random.default_rng(1)
    geometry = np.concatenate([rng.uniform(0, 64, (300, 2)), np.ones((300, 4))], 1).astype(np.float32)
    depth, extent = rng.uniform(1, 2, 300).astype(np.float32), np.full((300, 2), 6.0, np.float32)
    screen = Screen(geometry, depth, extent, np.ones(300, bool), np.zeros(300, bool))
    packed = jax.jit(lambda s: binning.bin_tiles(s, 64, 64, 8, 4096))(screen)
    monkeypatch.setattr(binning, "KEY_BITS", 8)
    pairs = jax.jit(lambda s: binning.bin_tiles(s, 64, 64, 8, 4096))(screen)
    needed = int(packed.needed)
    np.testing.assert_array_equal(packed.start, pairs.start)
    np.testing.assert_array_equal(packed.rank[:needed], pairs.rank[:needed])
    assert packed.start[-1] == needed


def test_pair_count_saturates():
    """300k Gaussians over 16384 tiles are more pairs than an int32 counts: the number must not wrap around."""
    from jaxphys.splats.binning import count_pairs
    from jaxphys.splats.project import Screen

    n = 300_000
    screen = Screen(jnp.full((n, 6), 512.0), jnp.ones(n), jnp.full((n, 2), 2e3), jnp.ones(n, bool), jnp.zeros(n, bool))
    assert int(jax.jit(count_pairs, static_argnums=(1, 2, 3))(screen, 1024, 1024, 8)) == 2**31 - 1


def test_video_is_its_frames_with_the_same_gradient(gradient_of):
    """Two frames: another place, shape and camera in each."""
    first = scene()
    second = first | {"x": first["x"] + 0.1, "F": jnp.zeros((N, 3, 3)) + jnp.eye(3), "shift": first["shift"] + 0.1}
    moving = {name: jnp.stack([first[name], second[name]]) for name in ("x", "F")}
    cameras = jax.tree.map(lambda *a: jnp.stack(a), view(first["shift"]), view(second["shift"]))

    def video(moving):
        options = dict(background=first["background"], features=first["features"], capacity=CAPACITY)
        r = splats.render_video(gaussians_of(first), moving["x"], moving["F"], cameras, **options)
        pictures = r.image, r.alpha, r.depth, r.features
        return sum(objective([p[i] for p in pictures]) for i in range(2)), pictures

    (_, pictures), gradient = jax.jit(jax.value_and_grad(video, has_aux=True), compiler_options=FAST_COMPILE)(moving)
    for i, values in enumerate((first, second)):
        (_, expected), expected_gradient = gradient_of(values)
        for a, b in zip(pictures, expected):
            np.testing.assert_allclose(a[i], b, atol=2e-5)
        for name in ("x", "F"):
            error = np.linalg.norm(gradient[name][i] - expected_gradient[name])
            assert error < 1e-5 * np.linalg.norm(expected_gradient[name]), name


def test_bad_arguments_are_named():
    g = gaussians_of(scene())
    for options, message in (
        (dict(background=jnp.zeros(4)), "background"),
        (dict(features=jnp.zeros((3, 1))), "features"),
        (dict(capacity=0), "capacity"),
        (dict(tile=0), "tile"),
        (dict(near=-1.0), "near"),
        (dict(on_overflow="ignore"), "on_overflow"),
    ):
        with pytest.raises(ValueError, match=message):
            splats.render(g, view(), **options)
    wrong = dict(sh=jnp.zeros((N, 5, 3)), scale=jnp.zeros((N, 1)), mean=g.mean.astype(jnp.float16))
    for field, value in wrong.items():
        with pytest.raises(ValueError, match=field):
            splats.render(dataclasses.replace(g, **{field: value}), view())
    with pytest.raises(ValueError, match="x must"):
        splats.render_video(g, g.mean, None, view())


def test_robot_stands_upright():
    """The real asset: the white head is above the dark ground, and the scene fills the middle of the picture."""
    robot = splats.read_ply(ROBOT).transform(rotation=splats.Y_DOWN_TO_Z_UP)
    camera = Camera.orbit((0.0, 0.0, 0.45), 3.0, -90.0, 15.0, width=96, height=96)
    out = splats.render(robot, camera, background=jnp.array([0.0, 0.0, 1.0]), capacity=32768)
    image, alpha = np.asarray(out.image), np.asarray(out.alpha)
    head, ground, corner = image[22:30, 40:56], image[75:85, 30:66], alpha[:10, :10]
    assert alpha[24:30, 42:54].min() > 0.9 and corner.max() < 0.01
    assert head.mean() > 2 * ground.mean()
    assert 2.0 < out.depth[48, 48] < 3.2
    np.testing.assert_allclose(image[:5, :5], np.broadcast_to([0.0, 0.0, 1.0], (5, 5, 3)), atol=0.01)
