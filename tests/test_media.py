"""Videos, pictures and plots: read back what was written, refuse what is no picture."""

import os

import numpy as np
import pytest

from jaxphys import media


def clip(frames=5, height=32, width=48):
    """Smooth colours that move: lossy formats keep them."""
    t, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in (frames, height, width)), indexing="ij")
    return np.stack([x, y, 0.5 + 0.4 * np.sin(3 * (x + t))], -1)


@pytest.mark.parametrize("suffix, error", [(".mp4", 0.03), (".gif", 0.08)])
def test_video_round_trip(tmp_path, suffix, error):
    path = tmp_path / f"a{suffix}"
    media.write_video(path, clip(), fps=10)
    video, fps = media.read_video(path)
    assert video.shape == (5, 32, 48, 3) and fps == pytest.approx(10)
    assert np.abs(video - clip()).mean() < error
    assert os.stat(path).st_mode & 0o044 == 0o044 & ~umask()


def umask():
    value = os.umask(0)
    os.umask(value)
    return value


def test_odd_sizes_are_padded_by_a_repeated_edge_only(tmp_path):
    media.write_video(tmp_path / "odd.mp4", clip(2, 31, 33), fps=8)
    video, _ = media.read_video(tmp_path / "odd.mp4")
    assert video.shape == (2, 32, 34, 3)
    assert np.abs(video[:, :31, :33] - clip(2, 31, 33)).mean() < 0.03
    media.write_video(tmp_path / "odd.gif", clip(2, 31, 33), fps=8)
    assert media.read_video(tmp_path / "odd.gif")[0].shape == (2, 31, 33, 3)


def test_image_round_trip_is_exact_in_png(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3)) / 255.0
    media.write_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(media.read_image(tmp_path / "a.png"), image.astype(np.float32))
    media.write_image(tmp_path / "mask.png", image[..., 0])
    np.testing.assert_array_equal(media.read_image(tmp_path / "mask.png")[..., 2], image[..., 0].astype(np.float32))


@pytest.mark.parametrize(
    "video, message",
    [
        (clip()[0], "shape"),
        (clip()[..., :2], "shape"),
        (clip()[:0], "shape"),
        ((clip() * 255).astype(np.uint8), "divide"),
        (np.where(clip() > 0.99, np.nan, clip()), "NaN"),
        (clip() * 255, "must lie in"),
        (clip() - 0.1, "must lie in"),
    ],
)
def test_bad_videos_are_refused_and_nothing_is_written(tmp_path, video, message):
    with pytest.raises(ValueError, match=message):
        media.write_video(tmp_path / "a.mp4", video, fps=10)
    assert not list(tmp_path.iterdir())


def test_bad_paths_rates_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="suffix"):
        media.write_video(tmp_path / "a.avi", clip(), fps=10)
    with pytest.raises(ValueError, match="suffix"):
        media.write_image(tmp_path / "a", clip()[0])
    with pytest.raises(ValueError, match="folder"):
        media.write_image(tmp_path / "missing" / "a.png", clip()[0])
    with pytest.raises(ValueError, match="fps"):
        media.write_video(tmp_path / "a.mp4", clip(), fps=0)
    with pytest.raises(FileNotFoundError):
        media.read_video(tmp_path / "none.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"bad\.mp4"):
        media.read_video(tmp_path / "bad.mp4")
    with pytest.raises(ValueError, match=r"bad\.png"):
        media.read_image(tmp_path / "bad.png")


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    media.write_image(path, clip()[0])
    before = path.read_bytes()
    monkeypatch.setattr("PIL.Image.Image.save", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        media.write_image(path, clip()[1])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_plot(tmp_path):
    x = np.linspace(0, 1, 20)
    media.plot_series(tmp_path / "p.png", x, {"sine": np.sin(x), "line": x}, "time [s]", "height [m]")
    image = media.read_image(tmp_path / "p.png")
    assert image.shape[0] > 200 and image.std() > 0.01
    with pytest.raises(ValueError, match="line"):
        media.plot_series(tmp_path / "q.png", x, {"line": x[:3]}, "time [s]", "height [m]")
    with pytest.raises(ValueError, match="series"):
        media.plot_series(tmp_path / "q.png", x, {}, "time [s]", "height [m]")
