"""The reward: what it ranks where, what it does not see, its gradient, many devices, and the published arithmetic."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.eval_phymotion import OUTSIDE, mid_stride_frame
from jaxphys.body import Motion, humanoid, motion_files, so3
from jaxphys.body.corrupt import freeze, mirrored
from jaxphys.body.scores import NAMES, calibration
from jaxphys.methods.phymotion import reward, rewards, score
from jaxphys.methods.phymotion_released import hinged_mjcf, outside, released
from jaxphys.sharding import make_mesh

BODY = humanoid()
T, FPS, HEIGHT = 31, 30.0, 1.75 * 0.578
UPRIGHT = jnp.zeros((T, 24, 3)).at[:, 0, 0].set(jnp.pi / 2).at[:, 16, 2].set(-1.2).at[:, 17, 2].set(1.2)
TIME = jnp.arange(T) / FPS
PLACE = jnp.zeros((T, 3)).at[:, 2].set(HEIGHT)
WAVE = UPRIGHT.at[:, 18, 1].set(-0.8 - 0.4 * jnp.sin(2 * jnp.pi * 1.5 * TIME))  # the left forearm
X, Z = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0])
FEW = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles sooner, runs slower


def yawed(motion, angle):
    turn = so3.exp(angle * Z)
    root = so3.log(so3.matmul(turn, so3.exp(motion.rotation[:, 0])))
    return Motion(motion.rotation.at[:, 0].set(root), motion.translation @ turn.T)


CLEAN = Motion(WAVE, PLACE)
CASES = {
    "clean": CLEAN,
    "still": Motion(UPRIGHT, PLACE),
    "hover": Motion(WAVE, PLACE + 0.3 * Z),
    "slide": Motion(WAVE, PLACE + 0.6 * TIME[:, None] * X),
    "sink": Motion(WAVE, PLACE - 0.15 * Z),
    "bend": Motion(WAVE.at[:, 19, 1].set(-1.0), PLACE),
    "shake": Motion(WAVE + 0.1 * jax.random.normal(jax.random.key(0), WAVE.shape), PLACE),
    "yaw": yawed(CLEAN, 0.7),
    "away": Motion(WAVE, PLACE + jnp.array([20.0, -9.0, 0.0])),
    "mirror": mirrored(BODY, CLEAN),
}
OWN = {
    "hover": "floating",
    "slide": "sliding",
    "sink": "penetration",
    "bend": "joint_limits",
    "shake": "angular_velocity",
}


def recorded():
    """A second of a recorded walk and its body, with the ground at 0."""
    clip = motion_files.read(Path(__file__).parents[1] / "data/body/motions/103_08_mjpc.npz")
    assert clip.fps == pytest.approx(FPS, abs=0.01)
    last = slice(clip.motion.frames - T, clip.motion.frames)
    motion = Motion(clip.motion.rotation[last], clip.motion.translation[last] + 0.0246 * Z)  # its ground, as estimated
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (clip.skeleton, motion))


@functools.cache
def recorded_cases():
    """The walk, and its pose farthest out of balance, held."""
    walker, walk = recorded()
    frame, away = mid_stride_frame(walker, walk, 0.0, FPS)
    assert away > OUTSIDE
    return {"walk": (walker, walk), "stopped": (walker, freeze(walk, frame))}


def taller(factor):
    return humanoid(1.75 * factor, 75.0 * factor**3), Motion(WAVE, factor * (PLACE + 0.05 * TIME[:, None] * X))


@functools.cache
def scored():
    cases = {name: (BODY, motion) for name, motion in CASES.items()} | recorded_cases()
    cases |= {f"height {factor}": taller(factor) for factor in (0.85, 1.0, 1.15)}
    skeletons, motions = jax.tree.map(lambda *a: jnp.stack([jnp.asarray(x) for x in a]), *cases.values())
    s = rewards(motions, FPS, skeleton=skeletons, ground=0.0)
    return {name: jax.tree.map(lambda a, k=k: a[k], s) for k, name in enumerate(cases)}


def test_each_fault_lowers_its_own_score_and_the_total():
    s = scored()
    assert float(s["clean"].total) > 0.95 and bool(s["clean"].valid)
    for fault, name in OWN.items():
        k = NAMES.index(name)
        assert float(s[fault].scores[k]) < 0.5 * float(s["clean"].scores[k]), fault
        assert float(s[fault].total) < float(s["clean"].total) - 0.1, fault


def test_standing_still_gains_nothing_and_hovering_loses_an_axis():
    s = scored()
    assert float(s["still"].total) < float(s["clean"].total) + 0.02
    assert float(s["hover"].axes[1]) < 0.05 and float(s["hover"].total) < 0.7
    assert float(s["still"].motion_amount) < 0.01 < float(s["clean"].motion_amount)


@pytest.mark.parametrize("change", ["yaw", "away", "mirror"])
def test_place_heading_and_side_do_not_matter(change):
    assert abs(float(scored()[change].total) - float(scored()["clean"].total)) < 0.005


@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_a_motion_is_worth_the_same_at_every_height(factor):
    """The same joint angles at the same times; what gravity decides keeps its own measure."""
    s, base = scored()[f"height {factor}"], scored()["height 1.0"]
    np.testing.assert_allclose(s.values, base.values, rtol=0.03, atol=2e-3)
    assert float(base.values[NAMES.index("sliding")]) > 0.03
    assert abs(float(s.total) - float(base.total)) < 0.002


def test_a_stride_that_stops_out_of_balance_is_worth_less_than_the_walk():
    walk, stopped = scored()["walk"], scored()["stopped"]
    assert float(walk.total) > 0.95
    assert float(stopped.scores[NAMES.index("balance")]) < 0.5 < 0.95 < float(walk.scores[NAMES.index("balance")])
    assert float(stopped.total) < float(walk.total) - 0.1


def test_one_clip_alone_has_the_same_score_and_a_table():
    one = reward(CLEAN, FPS, ground=0.0)
    assert float(one.total) == pytest.approx(float(scored()["clean"].total), abs=1e-4)
    text = one.table()
    assert "confidence" in text and all(name in text for name in NAMES)


def shaken(dtype):
    """Body, constants and the start of a motion that shakes."""
    body = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), humanoid())
    start = jax.tree.map(lambda a: a[:8], CASES["shake"])
    return jax.tree.map(lambda a: np.asarray(a, dtype), (body, calibration(body), start))


def total_and_gradient(body, constants):
    def total(motion):
        return jnp.sum(jnp.log(score(body, motion, FPS, constants, ground=0.02).scores))

    return jax.jit(jax.value_and_grad(total), compiler_options=FEW)


def test_gradient_is_that_of_differences(float64):
    body, constants, start = shaken(np.float64)
    both = total_and_gradient(body, constants)  # to differences too: one program to compile
    gradient = both(start)[1]
    direction = Motion(
        jax.random.normal(jax.random.key(1), start.rotation.shape, jnp.float64),
        jax.random.normal(jax.random.key(2), start.translation.shape, jnp.float64),
    )
    exact = sum(float(jnp.vdot(g, d)) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction)))

    def along(h):
        return float(both(jax.tree.map(lambda a, d: a + h * d, start, direction))[0])

    errors = [abs((along(h) - along(-h)) / (2 * h) - exact) / abs(exact) for h in (1e-4, 1e-5, 1e-6, 1e-7)]
    assert min(errors) < 1e-5, errors


@pytest.mark.long
def test_gradient_keeps_five_digits_in_single_precision(float64):
    """Without refinement of the contact forces' derivative it keeps two."""
    *given, start = shaken(np.float64)
    gradient = total_and_gradient(*given)(start)[1]
    *given, start = shaken(np.float32)
    with jax.enable_x64(False):
        rough = total_and_gradient(*given)(start)[1]
    for a, b in zip(jax.tree.leaves(rough), jax.tree.leaves(gradient)):
        assert a.dtype == jnp.float32
        assert float(jnp.max(jnp.abs(a - b))) < 5e-5 * float(jnp.max(jnp.abs(b)))


def test_eight_devices_give_the_scores_of_one():
    motions = jax.tree.map(lambda *a: jnp.stack(a), *list(CASES.values())[:8])
    spread = rewards(motions, FPS, ground=0.0, mesh=make_mesh(devices=jax.devices()[:8]))
    expected = [float(scored()[name].total) for name in list(CASES)[:8]]
    np.testing.assert_allclose(spread.total, expected, atol=1e-4)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="fps must be one positive number"):
        reward(CLEAN, None)
    with pytest.raises(ValueError, match="5 joints and the skeleton 24"):
        reward(Motion(WAVE[:, :5], PLACE), FPS)
    with pytest.raises(ValueError, match="needs at least 3 frames"):
        reward(Motion(WAVE[:1], PLACE[:1]), FPS)
    with pytest.raises(ValueError, match="not finite"):
        reward(Motion(WAVE.at[3, 2, 1].set(jnp.nan), PLACE), FPS)
    with pytest.raises(ValueError, match="needs an MJCF"):
        reward(CLEAN, FPS, variant="released")
    with pytest.raises(ValueError, match="ground is a height"):
        reward(CLEAN, FPS, ground="floor")
    with pytest.raises(ValueError, match=r"takes rotation \(B, T, 24, 3\)"):
        rewards(CLEAN, FPS)
    with pytest.raises(ValueError, match="cannot be judged"):
        dataclasses.replace(scored()["clean"], valid=jnp.asarray(False)).check()


def test_released_arithmetic_on_exact_constructions():
    mujoco = pytest.importorskip("mujoco")
    model = mujoco.MjModel.from_xml_string(hinged_mjcf(BODY))
    still = Motion(UPRIGHT, PLACE)
    frozen = released(model, still)
    terms = frozen.terms
    # a frozen body: nothing slips or sinks, every foot "floats", and neither height nor hovering matters
    assert (terms["v_slip"], terms["v_float"]) == (0.0, 1.0) and terms["v_pen"] < 1e-12
    assert (terms["s_tau"], terms["s_grf"], terms["s_met"]) == (1.0, 1.0, 1.0)
    assert frozen.contact == pytest.approx(1 - (1 + terms["v_bal"]) / 4)
    assert frozen.dynamic == pytest.approx(1 - terms["v_bal"] / 4)
    assert released(model, Motion(UPRIGHT, PLACE + Z)).contact == pytest.approx(frozen.contact, abs=1e-9)
    flight = Motion(UPRIGHT, PLACE + (3.0 * TIME - 0.5 * 9.81 * TIME**2)[:, None] * Z)
    flown = released(model, flight)
    assert flown.contact == pytest.approx(0.5) and flown.terms["v_bal"] == 1.0
    # the first step from rest to 3 m/s is the one jump that its backward differences see
    assert flown.terms["s_grf"] == pytest.approx(1 - 0.5 / T * 1, abs=0.5 / T + 1e-6)
    assert "kinematic" in frozen.flags[0]


def test_distance_outside_of_a_hull():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    assert outside(np.array([0.5, 0.5]), square) == 0.0
    assert outside(np.array([1.5, 1.5]), square) == pytest.approx(np.sqrt(0.5))
    assert outside(np.array([0.5, 1.0]), square[:2]) == pytest.approx(1.0)
    assert outside(np.array([3.0, 4.0]), square[:1]) == pytest.approx(5.0)


def test_paper_variant_counts_frames():
    s = reward(CLEAN, FPS, ground=0.0, variant="paper")
    assert float(s.total) > 0.9
    hover = reward(CASES["hover"], FPS, ground=0.0, variant="paper")
    assert float(hover.scores[NAMES.index("floating")]) == 0.0
    assert float(hover.axes[1]) == pytest.approx(float(jnp.mean(hover.scores[3:7])), abs=1e-6)
