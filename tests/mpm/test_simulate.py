"""Conservation laws, exact solutions and bad input of the rollout."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import mpm
from jaxphys.tensor import Tensor3

GRID = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 16)
FREE = mpm.Scene(gravity=(0.0, 0.0, 0.0))
RUBBER = mpm.materials.NeoHookean(density=1000.0, E=1e5, nu=0.3)


def block(size=(0.25, 0.25, 0.25), corner=(0.375, 0.375, 0.375), dx=1 / 16, dtype=jnp.float32, **fields):
    """A block with two particles per cell and axis."""
    counts = [round(2 * s / dx) for s in size]
    axes = [c + s * (np.arange(n) + 0.5) / n for c, s, n in zip(corner, size, counts)]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return mpm.Particles.create(jnp.asarray(x, dtype), np.prod(size) / len(x), **fields)


def test_mass_and_momenta_over_1000_free_substeps():
    body = block()
    centre = body.x - body.x.mean(0)
    spin = jnp.array([0.0, 0.0, 4.0])
    velocity = jnp.array([0.3, -0.2, 0.1]) + jnp.cross(spin, centre) + 0.2 * jnp.sin(20 * centre)
    C = jnp.array([[0.0, -4.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    body = dataclasses.replace(body, v=velocity, C=jnp.broadcast_to(C, body.C.shape))
    config = mpm.Config(GRID, fps=2.0, frames=1, substeps=1000)
    end = mpm.simulate(RUBBER, body, FREE, config, save=("x", "v", "C"))
    m = 1000.0 * np.asarray(body.volume, np.float64)

    def momenta(x, v, C):
        x, v, C = (np.asarray(a, np.float64) for a in (x, v, C))
        # An APIC particle also carries the spin of its affine velocity, m dx^2/4 axial(C - C^T).
        axial = np.stack([C[:, 2, 1] - C[:, 1, 2], C[:, 0, 2] - C[:, 2, 0], C[:, 1, 0] - C[:, 0, 1]], -1)
        spins = 0.25 * GRID.dx**2 * axial
        return m @ v, m @ (np.cross(x, v) + spins)

    p0, l0 = momenta(body.x, body.v, body.C)
    p1, l1 = momenta(end.x[0], end.v[0], end.C[0])
    assert np.linalg.norm(p1 - p0) <= 1e-5 * np.linalg.norm(p0)
    assert np.linalg.norm(l1 - l0) <= 1e-5 * np.linalg.norm(l0)


def test_grid_mass_is_the_particles_mass():
    from jaxphys.mpm import transfer

    body = block(dtype=jnp.float32)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.uniform(0, 1, (3, 500)), jnp.float32)
    mass = jnp.asarray(rng.uniform(0.5, 2, 500), jnp.float32)
    *_, grid_mass = transfer.scatter(transfer.Geometry(GRID), x, x * 0, jnp.zeros((3, 3, 500)), mass)
    assert abs(np.sum(np.asarray(grid_mass, np.float64)) / np.sum(np.asarray(mass, np.float64)) - 1) < 1e-6
    assert body.count == 512


@pytest.mark.parametrize("variant", ["loop", "parts", "fused"])
def test_transfer_variants_agree_with_a_dense_sum(float64, variant, monkeypatch):
    from jaxphys.mpm import transfer

    if variant == "parts":
        monkeypatch.setattr(transfer, "_parts", lambda geometry, count: 3)
    rng = np.random.default_rng(1)
    n = 40
    x, q = (jnp.asarray(rng.uniform(0.1, 0.9, (3, n))) for _ in range(2))
    A, m = jnp.asarray(rng.normal(size=(3, 3, n))), jnp.asarray(rng.uniform(1, 2, n))
    geometry = transfer.Geometry(GRID)
    kernel = transfer._scatter_fused if variant == "fused" else transfer._scatter_loop
    got = np.stack(kernel(geometry, x, q, A, m))
    want = np.zeros((4, *GRID.shape))
    X = np.asarray(x) * 16 + 3
    for p in range(n):
        base = np.floor(X[:, p] - 0.5).astype(int)
        for o in np.ndindex(3, 3, 3):
            d = np.abs(X[:, p] - base - o)
            W = np.prod(np.where(d < 0.5, 0.75 - d**2, 0.5 * (1.5 - d) ** 2))
            want[(slice(0, 3), *(base + o))] += W * (np.asarray(q)[:, p] + np.asarray(A)[:, :, p] @ np.array(o))
            want[(3, *(base + o))] += W * float(m[p])
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1e-12, atol=1e-12)
    g = jnp.asarray(rng.normal(size=(3, geometry.size)))
    (u, M, _), slope = transfer.gather(geometry, x, tuple(g), (q, A, None))
    pulled = sum((jnp.asarray(a) * b).sum() for a, b in zip(kernel(geometry, x, u, M, None), g))
    assert abs(pulled / (jnp.sum(u**2) + jnp.sum(M**2)) - 1) < 1e-12  # the gather is the adjoint of the scatter
    along = lambda x: sum((a * b).sum() for a, b in zip(kernel(geometry, x, q, A, None), g))
    np.testing.assert_allclose(jax.jvp(along, (x,), (x,))[1], jnp.sum(slope * x), rtol=1e-12)


def test_free_fall_to_round_off(float64):
    body = block(dtype=jnp.float64, v=jnp.array([0.5, 0.0, 1.0]))
    config = mpm.Config(GRID, fps=10.0, frames=2, substeps=50)
    scene = mpm.Scene()
    path = mpm.simulate(RUBBER, body, scene, config, save=("x", "v", "F"))
    dt = 1 / 500
    for k, n in enumerate((50, 100)):
        fall = -9.81 * dt * dt * n * (n + 1) / 2  # the symplectic sum of the step
        expected = body.x + n * dt * body.v + jnp.array([0.0, 0.0, fall])
        assert jnp.max(jnp.abs(path.x[k] - expected)) < 1e-12
        assert jnp.max(jnp.abs(path.v[k] - body.v - jnp.array([0.0, 0.0, -9.81 * n * dt]))) < 1e-10
    assert jnp.max(jnp.abs(path.F - jnp.eye(3))) < 1e-10


def test_first_longitudinal_mode_of_a_free_bar():
    """f = c / (2 L) with c = sqrt(E / rho) for a slender free bar (Rayleigh's radius correction is below 1 %)."""
    dx, length, E, rho = 1 / 24, 0.75, 1e5, 1000.0
    bar = block((length, 3 * dx, 3 * dx), (0.125, 0.4375, 0.4375), dx)
    centred = (bar.x[:, 0] - 0.5) / length
    bar = dataclasses.replace(bar, v=jnp.stack([0.05 * jnp.sin(jnp.pi * centred), 0 * centred, 0 * centred], 1))
    law = mpm.materials.FixedCorotated(density=rho, E=E, nu=0.0)
    period = 2 * length / np.sqrt(E / rho)
    config = mpm.Config(mpm.Grid((0, 0, 0), (1, 1, 1), dx), fps=64 / period, frames=96, substeps=4)
    path = mpm.simulate(law, bar, FREE, config, save=("x",))
    stretch = np.asarray(((path.x - bar.x)[:, :, 0] * np.sin(np.pi * np.asarray(centred))).mean(1))
    t = np.asarray(path.times)
    crossings = [
        t[i] - stretch[i] * (t[i + 1] - t[i]) / (stretch[i + 1] - stretch[i])
        for i in range(95)
        if stretch[i] * stretch[i + 1] < 0
    ]
    # the first zero crossings are half a period apart; damping of APIC does not move them
    assert abs(crossings[0] / (period / 2) - 1) < 0.03
    assert abs((crossings[1] - crossings[0]) / (period / 2) - 1) < 0.03


def test_two_materials_in_one_scene_equal_each_alone():
    left, right = block(corner=(0.125, 0.375, 0.375)), block(corner=(0.625, 0.375, 0.375))
    metal = mpm.materials.Metal(density=2000.0, E=1e5, nu=0.3, yield_stress=1e3)
    config = mpm.Config(GRID, fps=20.0, frames=1, substeps=40)
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), left, right)
    both = dataclasses.replace(both, material=jnp.arange(2, dtype=jnp.int32).repeat(left.count), F=both.F * 1.02)
    together = mpm.simulate((RUBBER, metal), both, FREE, config)
    alone = [
        mpm.simulate(law, dataclasses.replace(body, F=body.F * 1.02), FREE, config)
        for law, body in ((RUBBER, left), (metal, right))
    ]
    np.testing.assert_allclose(together.x[0], jnp.concatenate([a.x[0] for a in alone]), atol=2e-6)
    np.testing.assert_allclose(together.F[0], jnp.concatenate([a.F[0] for a in alone]), atol=2e-5)


def test_a_rollout_resumes_exactly_from_its_state():
    body = block(v=jnp.array([0.2, 0.0, 0.5]))
    body = dataclasses.replace(body, F=body.F * 1.05)
    config = mpm.Config(GRID, fps=50.0, frames=4, substeps=20)
    whole = mpm.simulate(RUBBER, body, mpm.Scene(), config)
    half = dataclasses.replace(config, frames=2)
    first = mpm.simulate(RUBBER, body, mpm.Scene(), half)
    second = mpm.simulate(RUBBER, body, mpm.Scene(), half, state=first.state)
    np.testing.assert_array_equal(whole.x[2:], second.x)
    np.testing.assert_allclose(whole.times[2:], second.times, rtol=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(save=("colour",)), "save must name"),
        (dict(config=mpm.Config(GRID, fps=10.0, frames=1, substeps=2)), "use substeps="),
        (dict(config=mpm.Config(GRID, fps=10.0, frames=1, max_substeps=3)), "more than max_substeps"),
        (dict(materials=mpm.materials.NeoHookean(density=jnp.ones(3), E=1e5, nu=0.3)), "one value per particle"),
        (dict(particles=block(material=1)), "1 materials were given"),
        (dict(particles=block(corner=(0.9, 0.3, 0.3))), "outside the domain"),
    ],
)
def test_bad_input_is_refused_with_advice(change, message):
    arguments = dict(materials=RUBBER, particles=block(), scene=FREE, config=mpm.Config(GRID), save=("x",)) | change
    save = arguments.pop("save")
    with pytest.raises(ValueError, match=message):
        mpm.simulate(*arguments.values(), save=save)


def test_the_number_of_substeps_that_the_error_names_works():
    config = mpm.Config(GRID, fps=10.0, frames=1, substeps=2)
    with pytest.raises(ValueError) as error:
        mpm.simulate(RUBBER, block(), FREE, config)
    number = int(str(error.value).split("use substeps=")[1].split()[0])
    mpm.simulate(RUBBER, block(), FREE, dataclasses.replace(config, substeps=number))
    with pytest.raises(ValueError, match="use substeps="):
        mpm.simulate(RUBBER, block(), FREE, dataclasses.replace(config, substeps=number - 1))


def test_bad_particles_are_refused():
    for arguments, message in [
        ((jnp.zeros((4, 2)), 1.0), r"shape \(N, 3\)"),
        ((jnp.zeros((4, 3), jnp.int32), 1.0), "floating"),
        ((jnp.full((4, 3), jnp.nan), 1.0), "non-finite"),
        ((jnp.zeros((4, 3)), -1.0), "positive"),
        ((jnp.zeros((4, 3)), jnp.ones(3)), "does not broadcast"),
    ]:
        with pytest.raises(ValueError, match=message):
            mpm.Particles.create(*arguments)


def test_failures_inside_a_trace_are_reported_not_hidden():
    config = mpm.Config(GRID, fps=10.0, frames=3, substeps=30)

    @jax.jit
    def run(speed, stretch):
        body = block()
        body = dataclasses.replace(body, v=body.v.at[:, 0].set(speed), F=body.F.at[0, 0, 0].multiply(stretch))
        return mpm.simulate(RUBBER, body, FREE, config).status

    for speed, stretch, code in ((0.0, 1.0, 0), (3.0, 1.0, 2), (80.0, 1.0, 3), (0.0, -1.0, 1)):
        status = run(speed, stretch)
        assert int(status.code) == code
        if code:
            with pytest.raises(mpm.SimulationError, match="substep"):
                status.check()
    assert int(run(3.0, 1.0).substep) == pytest.approx(0.375 / 3.0 * 300, abs=20)


def test_bounded_memory_of_20000_substeps_of_20000_particles():
    """Reverse mode fits in 4 GiB, by XLA's own memory analysis of the compiled gradient."""
    n, substeps, frames = 20_000, 400, 50
    body = mpm.Particles.create(jnp.full((n, 3), 0.5), 1e-6)
    config = mpm.Config(mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 32), fps=24.0, frames=frames, substeps=substeps)

    def loss(E):
        return jnp.sum(mpm.simulate(dataclasses.replace(RUBBER, E=E), body, FREE, config, save=("x",)).x[-1])

    memory = jax.jit(jax.grad(loss)).lower(1e5).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 2**30


def test_saved_energy_is_that_of_each_law_and_its_state():
    """Two laws in one scene: an elastic particle's energy by its formula, a softened one's with its damage."""
    soft = mpm.materials.Plasticine(density=1000.0, E=1e5, nu=0.3, yield_stress=2e3, softening=3.0, damage=2.0)
    stretch = jnp.diag(jnp.array([1.1, 1.0, 1.0]))
    body = mpm.Particles.create(
        jnp.array([[0.25, 0.5, 0.5], [0.75, 0.5, 0.5]]), 1e-3, material=jnp.array([0, 1]), F=stretch
    )
    config = mpm.Config(mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 8), fps=1e3, frames=1, substeps=4)
    path = mpm.simulate((RUBBER, soft), body, FREE, config, save=("energy", "F_elastic"))
    F = Tensor3.from_array(jnp.moveaxis(path.F_elastic[0], 0, -1))
    damaged = soft.energy(F, path.state.internal[1])[1]
    np.testing.assert_allclose(path.energy[0], [RUBBER.energy(F)[0], damaged], rtol=1e-6)
    assert damaged < 0.95 * soft.energy(F)[1]
