"""Pictures of the body: it is where it should be, and what is wrong is red."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.body import Motion, humanoid
from jaxphys.body.draw import Marks, draw_motion

SIZE = 96


def standing(T=2):
    w = jnp.zeros((T, 24, 3)).at[:, 0, 0].set(jnp.pi / 2).at[:, 16, 2].set(-1.2).at[:, 17, 2].set(1.2)
    return Motion(w, jnp.zeros((T, 3)).at[..., 2].set(0.93))


def redness(picture):
    return np.clip(picture[..., 0] - np.maximum(picture[..., 1], picture[..., 2]), 0.0, 1.0).sum()


def test_the_body_stands_in_the_middle_of_every_frame():
    body, motion = humanoid(), standing()
    far = Motion(motion.rotation, motion.translation + jnp.array([50.0, -20.0, 0.0]))
    video = draw_motion(body, far, width=SIZE, height=SIZE)
    assert video.shape == (2, SIZE, SIZE, 3) and video.dtype == np.float32
    assert 0.0 <= video.min() and video.max() <= 1.0
    dark = video[0].min(-1) < 0.62  # the body is darker than ground and sky
    rows, columns = np.nonzero(dark)
    assert 0.35 * SIZE < np.ptp(rows) < 0.95 * SIZE and abs(columns.mean() - 0.5 * SIZE) < 0.12 * SIZE
    # on the ground the camera follows exactly: the same picture, but for the tiles
    near = draw_motion(body, motion, ground=None, width=SIZE, height=SIZE)
    there = draw_motion(body, far, ground=None, width=SIZE, height=SIZE)
    assert np.abs(near - there).mean() < 2e-3


def test_marks_are_seen():
    body, motion = humanoid(), standing()
    plain = draw_motion(body, motion, width=SIZE, height=SIZE)
    wrong = np.zeros((2, 24))
    wrong[1, [4, 5]] = 1.0  # both shanks, in the second frame only
    red = draw_motion(body, motion, marks=Marks(wrong=wrong), width=SIZE, height=SIZE)
    np.testing.assert_array_equal(red[0], plain[0])
    assert redness(red[1]) > redness(plain[1]) + 20
    middle = np.nonzero(np.abs(red[1] - plain[1]).sum(-1))[0].mean()
    assert middle > 0.55 * SIZE  # below the middle of the picture, where shanks are
    push = Marks(point=np.zeros((2, 1, 3)), force=np.tile([0.0, 0.0, 1.0], (2, 1, 1)))
    green = draw_motion(body, motion, marks=push, width=SIZE, height=SIZE)[0] - plain[0]
    assert (green[..., 1] - green[..., 0]).sum() > 5
    missing = Marks(missing=np.tile([0.0, 0.0, 1.0], (2, 1)), lines=[[("low", 1.0)], []])
    shown = draw_motion(body, motion, marks=missing, width=SIZE, height=SIZE)
    assert np.abs(shown[0, : SIZE // 4, : SIZE // 4] - plain[0, : SIZE // 4, : SIZE // 4]).sum() > 5  # the text


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="retarget it first"):
        draw_motion(humanoid(), Motion(jnp.zeros((2, 23, 3)), jnp.zeros((2, 3))))
    with pytest.raises(ValueError, match=r"marks.wrong has 3 frames"):
        draw_motion(humanoid(), standing(), marks=Marks(wrong=np.zeros((3, 24))))
    with pytest.raises(ValueError, match=r"marks.lines has 1"):
        draw_motion(humanoid(), standing(), marks=Marks(lines=[[]]))
