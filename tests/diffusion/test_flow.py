"""Laws of the straight path, of the training times and of the loss."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxphys.diffusion.flow import TimeLaw, clean, flow_loss, interpolate, shift_time, velocity_of_clean
from jaxphys.diffusion.protocol import Condition, hold

TEXT = Condition(text=jnp.zeros((1, 1)))
CLIP = np.random.default_rng(0).normal(size=(4, 2, 3, 2))


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Knows the clean clip, wrong by `error`; predicts it, or the velocity."""

    error: float = 0.0
    floor: float | None = None
    see: Callable = lambda x, t: None

    def velocity(self, params, x, t, cond, *, taps=()):
        x, t, free = hold(x, t, cond)
        jax.debug.callback(self.see, x, t)
        x0 = jnp.asarray(CLIP, x.dtype) + self.error * params
        each = t.reshape(t.shape + (1,) * 3) if t.ndim else t
        v = (x - x0) / each if self.floor is None else velocity_of_clean(x, x0, t, self.floor)
        return v if free is None else v * free


def test_path_its_derivative_and_its_inverse(float64):
    x0, noise = jnp.asarray(CLIP), jax.random.normal(jax.random.key(0), CLIP.shape)
    t = jnp.array([0.0, 0.3, 0.7, 1.0])
    x, v = jax.jvp(lambda t: interpolate(x0, noise, t), (t,), (jnp.ones(4),))
    np.testing.assert_allclose(v, noise - x0, atol=1e-12)
    np.testing.assert_allclose(clean(x, v, t), x0, atol=1e-12)
    np.testing.assert_array_equal(x[0], x0[0])
    np.testing.assert_array_equal(x[3], noise[3])
    np.testing.assert_allclose(velocity_of_clean(x, x0, t, 0.05)[1:], v[1:], atol=1e-12)


@pytest.mark.parametrize("law", [TimeLaw("uniform", shift=3.0), TimeLaw("logit_normal", 2.0, 1.5)])
def test_times_follow_their_law(law):
    t = np.asarray(law.sample(jax.random.key(1), (2000,)), np.float64)
    if law.kind == "uniform":
        t = t / (law.shift - (law.shift - 1.0) * t)  # shift undone
        assert stats.kstest(t, "uniform").pvalue > 0.01
    else:
        assert stats.kstest(np.log(t / (1 - t)), "norm", (law.mean, law.std)).pvalue > 0.01
    assert shift_time(1.0, 5.0) == 1.0 and shift_time(0.0, 5.0) == 0.0


@pytest.mark.parametrize("floor", [None, 0.05])
def test_the_true_velocity_has_no_loss(float64, floor):
    loss = flow_loss(
        0.0, jnp.asarray(CLIP), TEXT, Oracle(floor=floor), floor=floor or 0.0, time=TimeLaw(mean=-3.0),
        frame_times=True, key=jax.random.key(2),
    )  # fmt: skip
    assert float(loss) < 1e-20


@pytest.mark.parametrize("frame_times", [False, True])
def test_an_error_of_the_clean_clip_weighs_one_over_time_squared(float64, frame_times):
    """loss = E (e / max(t, floor))^2 in velocity space and e^2 in data space, and its gradient is 2 loss / e."""
    times, floor = [], 0.3
    denoiser = Oracle(0.1, floor, lambda x, t: times.append(np.array(t)))
    value = {
        space: jax.value_and_grad(flow_loss)(
            1.0, jnp.asarray(CLIP), TEXT, denoiser, floor=floor, space=space, frame_times=frame_times,
            key=jax.random.key(3),
        )
        for space in ("velocity", "data")
    }  # fmt: skip
    jax.effects_barrier()
    assert times[0].shape == ((4,) if frame_times else ())
    expected = np.mean((0.1 / np.maximum(times[0], floor)) ** 2)
    np.testing.assert_allclose(value["velocity"], (expected, 2 * expected), rtol=1e-9)
    np.testing.assert_allclose(value["data"], (0.01, 0.02), rtol=1e-9)


def test_held_frames_are_seen_clean_and_do_not_count(float64):
    mask = jnp.array([1.0, 0.0, 0.0, 1.0])
    cond = dataclasses.replace(TEXT, known=jnp.asarray(CLIP), mask=mask)
    seen = []
    denoiser = Oracle(0.1, 0.3, lambda x, t: seen.append((np.array(x), np.array(t))))
    loss = flow_loss(1.0, jnp.asarray(CLIP), cond, denoiser, floor=0.3, key=jax.random.key(4))
    jax.effects_barrier()
    x, t = seen[0]
    np.testing.assert_array_equal(x[[0, 3]], CLIP[[0, 3]])
    np.testing.assert_array_equal(t[[0, 3]], 0.0)
    np.testing.assert_allclose(loss, (0.1 / max(t[1], 0.3)) ** 2, rtol=1e-9)


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda: TimeLaw("normal"), "kind must be one of"),
        (lambda: TimeLaw(std=0.0), "std and shift must be greater"),
        (lambda: velocity_of_clean(CLIP, CLIP, 0.5, 0.0), "floor must be greater"),
        (lambda: flow_loss(1.0, jnp.asarray(CLIP), TEXT, Oracle(), space="noise", key=None), "space must be one of"),
    ],
)
def test_nonsense_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
