"""The skeleton: published proportions, symmetry, scaling, and the model that MuJoCo reads."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxphys.body import Motion, humanoid, mjcf
from jaxphys.body.motion import check_motion


def test_segments_have_the_published_masses():
    body = humanoid(1.80, 80.0)
    share = dict(zip(body.names, np.asarray(body.mass) / 80.0))
    assert sum(share.values()) == pytest.approx(1.0, abs=1e-6)
    # de Leva 1996, table 4, males
    assert share["left_hip"] == pytest.approx(0.1416) and share["left_knee"] == pytest.approx(0.0433)
    assert share["left_ankle"] + share["left_foot"] == pytest.approx(0.0137)
    assert share["left_wrist"] + share["left_hand"] == pytest.approx(0.0061)
    trunk = [share[n] for n in ("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar")]
    assert sum(trunk) == pytest.approx(0.4346, abs=2e-3)
    assert share["head"] + share["neck"] == pytest.approx(0.0694)
    assert float(body.leg_length) / 1.80 == pytest.approx(0.491, abs=1e-3)  # Drillis and Contini


def test_sides_are_mirror_images():
    body = humanoid()
    mirror = np.array([-1.0, 1.0, 1.0])
    for name in (n for n in body.names if n.startswith("left_")):
        a, b = body.index(name), body.index(name.replace("left", "right"))
        np.testing.assert_allclose(body.offset[a] * mirror, body.offset[b])
        np.testing.assert_allclose(body.com[a] * mirror, body.com[b])
        np.testing.assert_allclose(body.inertia[a], body.inertia[b])
    half = len(body.sole) // 2
    np.testing.assert_allclose(body.sole[:half] * mirror, body.sole[half:])
    assert np.all(np.linalg.eigvalsh(np.asarray(body.inertia, np.float64)) > 0)


def test_scaling_with_height_and_mass(float64):
    small, large = humanoid(1.5, 50.0), humanoid(1.8, 80.0)
    np.testing.assert_allclose(large.sole, 1.2 * small.sole, rtol=1e-12)
    np.testing.assert_allclose(large.inertia, 1.6 * 1.44 * small.inertia, rtol=1e-12)
    slope = jax.grad(lambda h: humanoid(h, 70.0).inertia[4, 0, 0])(1.75)
    assert float(slope) == pytest.approx(2.0 * float(humanoid(1.75, 70.0).inertia[4, 0, 0]) / 1.75)


def test_mujoco_reads_the_same_body(float64):
    body = humanoid(1.83, 71.0)
    model = mujoco.MjModel.from_xml_string(mjcf(body))
    assert model.nv == 3 + 3 * body.count and model.body_mass.sum() == pytest.approx(71.0, rel=1e-12)
    for j, name in enumerate(body.names):
        b = model.body(name)
        np.testing.assert_allclose(b.pos, body.offset[j], atol=1e-15)
        np.testing.assert_allclose(b.ipos, body.com[j], atol=1e-15)
        R = np.zeros(9)
        mujoco.mju_quat2Mat(R, b.iquat)
        R = R.reshape(3, 3)
        np.testing.assert_allclose(R @ np.diag(b.inertia) @ R.T, body.inertia[j], rtol=1e-9, atol=1e-12)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon == 0


@pytest.mark.parametrize("height, mass", [(0.0, 70.0), (-1.7, 70.0), (1.7, float("nan")), (1.7, [70.0, 80.0])])
def test_sizes_are_refused(height, mass):
    with pytest.raises(ValueError, match="must be one number greater than"):
        humanoid(height, mass)


def test_names_and_tracers_are_refused():
    body = humanoid()
    with pytest.raises(ValueError, match="no joint is called 'nose'"):
        body.index("nose")
    with pytest.raises(ValueError, match="outside of jit"):
        jax.jit(lambda h: jnp.zeros(len(mjcf(humanoid(h)))))(1.7)


def test_motions_are_checked():
    with pytest.raises(ValueError, match=r"got \[5, 24, 3\] and \[4, 3\]"):
        Motion(jnp.zeros((5, 24, 3)), jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"translation has 1 entries that are not finite, first at index \[2, 1\]"):
        Motion(jnp.zeros((5, 24, 3)), jnp.zeros((5, 3)).at[2, 1].set(jnp.nan))
    motion = Motion(jnp.zeros((2, 22, 3)), jnp.zeros((2, 3)))
    with pytest.raises(ValueError, match="22 joints and the skeleton 24"):
        check_motion("score", motion, 24)
    with pytest.raises(ValueError, match="at least 3 frames"):
        check_motion("score", motion, 22)
    # a gradient is a Motion too, whatever its values
    assert dataclasses.is_dataclass(jax.grad(lambda m: jnp.sum(m.rotation) / 0.0)(motion))
