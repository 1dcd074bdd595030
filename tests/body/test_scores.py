"""Measures in their physical units on motions whose values are known, and the arithmetic of the scores."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.body import Motion, humanoid
from jaxphys.body.scores import (
    AXES,
    NAMES,
    calibration,
    clip_values,
    frame_values,
    from_table,
    measure,
    power_mean,
    to_score,
)

BODY = humanoid()
CONSTANTS = calibration(BODY)
T, FPS = 31, 30.0
FEW = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles sooner, runs slower
UPRIGHT = jnp.zeros((T, 24, 3)).at[:, 0, 0].set(jnp.pi / 2).at[:, 16, 2].set(-1.2).at[:, 17, 2].set(1.2)
HEIGHT = 1.75 * 0.578
STAND = Motion(UPRIGHT, jnp.zeros((T, 3)).at[:, 2].set(HEIGHT))
TIME = jnp.arange(T) / FPS


@functools.cache
def compiled():
    def one(motion):
        q = measure(BODY, motion, FPS, CONSTANTS, ground=0.0)
        return q, clip_values(frame_values(q, CONSTANTS))

    return jax.jit(one, compiler_options=FEW)


def moved(shift):
    return compiled()(Motion(UPRIGHT, STAND.translation + shift))


def test_a_standing_body_bears_its_weight_and_has_no_fault():
    q, x = compiled()(STAND)
    np.testing.assert_allclose(q.force[3:-3], np.tile([0, 0, 1], (T - 6, 1)), atol=1e-3)
    assert float(q.missing[5:-5].max()) < 0.02 and float(q.power.max()) < 0.05
    for name in ("sliding", "floating", "balance", "self_penetration"):
        assert float(x[NAMES.index(name)]) < 2e-3, name
    assert float(to_score(x, CONSTANTS).min()) > 0.98


def test_floating_is_the_force_that_nothing_gives():
    q, _ = moved(jnp.array([0.0, 0.0, 0.3]))
    np.testing.assert_allclose(q.unsupported[3:-3], 1.0, atol=1e-3)
    fall = jnp.stack([0 * TIME, 0 * TIME, 1.0 + 3.0 * TIME - 0.5 * 9.81 * TIME**2 * 0.2], -1)
    q, _ = moved(fall)  # a fifth of gravity: four fifths of the weight are carried by nothing
    np.testing.assert_allclose(q.unsupported[5:-5], 0.8, atol=0.01)
    fall = jnp.stack([0 * TIME, 0 * TIME, 2.0 + 3.0 * TIME - 0.5 * 9.81 * TIME**2], -1)
    q, _ = moved(fall)  # free flight needs no ground
    assert float(q.unsupported[5:-5].max()) < 0.01 and float(q.slip.max()) < 1e-3


def test_sliding_and_depth_have_their_units():
    q, x = moved(0.3 * TIME[:, None] * jnp.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(q.slip[5:-5], 0.3, atol=0.01)
    assert float(x[NAMES.index("sliding")]) == pytest.approx(0.3, abs=0.01)
    q, _ = moved(jnp.array([0.0, 0.0, -0.05]))
    assert float(q.depth[10]) == pytest.approx(
        0.05 * 2**0.25, rel=0.03
    )  # two feet, each 5 cm deep, in the norm of order 4
    toes = UPRIGHT.at[:, 10:12, 0].set(0.8)
    q, _ = compiled()(Motion(toes, STAND.translation))
    deepest = -float(q.contact.clearance[10].min())
    assert deepest > 0.02 and float(q.depth[10]) < 0.5 * deepest  # toes alone: a third of the points of a foot


def test_a_force_that_no_landing_explains_counts_more():
    jump = lambda height: height * jnp.exp(-(((TIME - 0.5) / 0.06) ** 2))[:, None] * jnp.array([0.0, 0.0, 1.0])
    up, x_up = moved(jump(0.3))
    air = np.flatnonzero(np.asarray(up.contact.airborne) > 0.5)
    assert 12 <= air[0] <= air[-1] <= 18
    assert float(up.planted[air[0] - 3 : air[-1] + 7].max()) < 0.5  # 0.1 s before to 0.2 s after
    assert float(up.planted[: air[0] - 4].min()) > 0.9 and float(up.planted[air[-1] + 8 :].min()) > 0.9
    down, x_down = moved(-jump(0.03))
    assert float(down.planted.min()) > 0.99
    k = NAMES.index("ground_force")
    near_landing = lambda q: clip_values(frame_values(dataclasses.replace(q, planted=0.0 * q.planted), CONSTANTS))[k]
    assert float(x_down[k]) > 1.5 * float(near_landing(down))  # both feet stand: muscles cannot do that
    assert float(x_up[k]) < 1.02 * float(near_landing(up))  # ten times the force, but of a leap and a landing


def test_a_body_that_leans_too_far_tips():
    lean = UPRIGHT.at[:, 0, 0].set(jnp.pi / 2 + 0.25)
    y, z = -HEIGHT * jnp.sin(0.25), HEIGHT * jnp.cos(0.25)
    ankles = lean.at[:, 7, 0].set(-0.25).at[:, 8, 0].set(-0.25)
    q, _ = compiled()(Motion(ankles, jnp.broadcast_to(jnp.array([0.0, y, z]), (T, 3))))
    assert 0.02 < float(q.tipping[15]) < 0.3
    assert float(compiled()(STAND)[0].tipping[15]) < 1e-3


def test_a_shaking_root_needs_a_force_that_changes_fast():
    sine = 0.005 * jnp.sin(2 * jnp.pi * 10.0 * TIME + 0.5)  # 10 Hz, of which 1 / (1 + (10 / 6)^6) is left in the curve
    q, x = moved(sine[:, None] * jnp.array([1.0, 0.0, 0.0]))
    rms = 0.955 * float(jnp.sqrt(jnp.mean(sine**2)))
    assert float(q.root_jitter) == pytest.approx(rms, rel=0.1)
    rate = (2 * np.pi * 6.0) ** 3 * rms / 9.81 / 40.0  # over the rate that weighs as much as a body weight missing
    assert float(x[NAMES.index("ground_force")]) > 0.9 * rate
    assert float(moved(jnp.zeros(3))[1][NAMES.index("ground_force")]) < 0.3 * rate


def test_order_of_scores_and_power_means():
    assert len(NAMES) == 10 and [len(n) for n in AXES.values()] == [3, 4, 3]
    x = jnp.array([0.0, 1.0, 3.0])
    for order in (1, 2, 4, 8):
        assert float(power_mean(x, order)) == pytest.approx(
            float(np.mean(np.asarray(x) ** order) ** (1 / order)), rel=1e-5
        )
        assert np.all(np.isfinite(jax.grad(lambda y, n=order: power_mean(y, n))(x * 0)))
    s = to_score(CONSTANTS.half, CONSTANTS)
    np.testing.assert_allclose(s, 0.5, atol=1e-6)
    assert float(to_score(jnp.zeros(10), CONSTANTS).min()) == 1.0


def test_the_table_is_laid_out_for_both_sides():
    import importlib.resources
    import json

    table = json.loads((importlib.resources.files("jaxphys.body") / "assets/phymotion.json").read_text())
    assert set(table["half"]) == set(NAMES) and table["provenance"]["windows"] > 30 and table["version"] >= 1
    left, right = BODY.index("left_knee"), BODY.index("right_knee")
    assert float(CONSTANTS.rate[left]) == float(CONSTANTS.rate[right]) == pytest.approx(table["rate_rad_s"]["knee"])
    pair = from_table(table | {"overlap_m": {"left_hip|left_wrist": 0.05}}, BODY).overlap_allowance
    hip, wrist = BODY.index("right_hip"), BODY.index("right_wrist")
    assert float(pair[hip, wrist]) == float(pair[wrist, hip]) == pytest.approx(0.05)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="fps must be one positive number"):
        measure(BODY, STAND, None, CONSTANTS)
    with pytest.raises(ValueError, match="7 joints and the skeleton 24"):
        measure(BODY, Motion(UPRIGHT[:, :7], STAND.translation), FPS, CONSTANTS)
    with pytest.raises(ValueError, match="needs at least 3 frames"):
        measure(BODY, Motion(UPRIGHT[:1], STAND.translation[:1]), FPS, CONSTANTS)
    with pytest.raises(ValueError, match=r'a height \[m\], "estimate" or None'):
        measure(BODY, STAND, FPS, CONSTANTS, ground="flat")
    with pytest.raises(ValueError, match="fps fixes the number of samples"):
        jax.jit(lambda f: measure(BODY, STAND, f, CONSTANTS))(FPS)
