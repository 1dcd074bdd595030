"""SOG files: round trips within the quantisation of each field, a decoder written from the format's text, damage."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxphys import splats
from jaxphys.splats.sog import _palette, best_codebook, nearest, read_sog, write_sog

ROBOT = Path(__file__).parents[2] / "experiments" / "assets" / "playbot_8k.ply"


def gaussians(n=300, count=4, seed=0):
    rng = np.random.default_rng(seed)
    return splats.Gaussians.create(
        rng.normal(size=(n, 3)) * [1.0, 5.0, 0.1],
        np.exp(rng.normal(size=(n, 3)) - 3),
        quat=rng.normal(size=(n, 4)),
        opacity=rng.uniform(0.02, 0.98, size=n),
        sh=0.5 * rng.normal(size=(n, count, 3)),
    )


def unit(quat):
    quat = np.asarray(quat, np.float64)
    return quat / np.linalg.norm(quat, axis=1, keepdims=True)


def signed_log(x):
    x = np.asarray(x, np.float64)
    return np.sign(x) * np.log1p(np.abs(x))


def assert_within_quantisation(back, g, version):
    x, y = signed_log(g.mean), signed_log(back.mean)
    assert (np.abs(x - y) <= 0.51 * np.ptp(x, axis=0) / 65535 + 1e-6).all()
    a, b = unit(back.quat), unit(g.quat)
    apart = np.sort(np.abs(a * np.sign((a * b).sum(1, keepdims=True)) - b), axis=1)
    assert apart[:, :3].max() <= 0.51 * np.sqrt(2) / 255 + 1e-6
    assert apart.max() <= 3 * 0.51 * np.sqrt(2) / 255  # the largest component follows from the other three
    if version == 2:
        assert np.abs(np.asarray(back.opacity) - np.asarray(g.opacity)).max() <= 0.51 / 255
    for name in ("scale", "sh"):
        a, b = np.asarray(getattr(g, name), np.float64), np.asarray(getattr(back, name), np.float64)
        a, b = (np.log(a), np.log(b)) if name == "scale" else (a, b)
        step = np.ptp(a) / 255
        assert np.abs(a - b).max() <= (0.51 if version == 1 else 1.5) * step, name
        assert np.sqrt(np.mean((a - b) ** 2)) <= 0.3 * step, name  # even steps would give step / sqrt(12)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_round_trip_within_quantisation(tmp_path, version, count):
    g = gaussians(count=count)
    write_sog(tmp_path / "a.sog", g, version=version)
    back = read_sog(tmp_path / "a.sog")
    assert back.sh.shape == g.sh.shape
    assert_within_quantisation(back, g, version)
    (tmp_path / "folder").mkdir()
    write_sog(tmp_path / "folder" / "meta.json", g, version=version)
    for path in (tmp_path / "folder", tmp_path / "folder" / "meta.json"):
        for a, b in zip(dataclasses.astuple(read_sog(path)), dataclasses.astuple(back)):
            np.testing.assert_array_equal(a, b)


def test_a_second_round_trip_changes_nothing_but_round_off(tmp_path):
    write_sog(tmp_path / "a.sog", gaussians())
    once = read_sog(tmp_path / "a.sog")
    write_sog(tmp_path / "b.sog", once)
    twice = read_sog(tmp_path / "b.sog")
    np.testing.assert_allclose(twice.mean, once.mean, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(twice.scale, once.scale, rtol=1e-5)
    np.testing.assert_allclose(twice.sh, once.sh, atol=1e-5)
    np.testing.assert_array_equal(twice.opacity, once.opacity)


def test_a_decoder_written_from_the_text_of_the_format_agrees(tmp_path):
    """Version 2, pixel by pixel, without anything of the reader."""
    g = gaussians(n=70)
    write_sog(tmp_path / "a.sog", g)
    archive = zipfile.ZipFile(tmp_path / "a.sog")
    meta = json.loads(archive.read("meta.json"))
    assert meta["version"] == 2 and meta["count"] == 70

    def pixel(section, k, i):
        picture = Image.open(io.BytesIO(archive.read(meta[section]["files"][k])))
        assert picture.format == "WEBP"
        return picture.convert("RGBA").getpixel((i % picture.width, i // picture.width))

    back = read_sog(tmp_path / "a.sog")
    for i in (0, 17, 69):
        low, high = pixel("means", 0, i), pixel("means", 1, i)
        for k in range(3):
            lo, hi = meta["means"]["mins"][k], meta["means"]["maxs"][k]
            n = lo + (hi - lo) * ((high[k] << 8) | low[k]) / 65535
            assert back.mean[i, k] == pytest.approx(np.sign(n) * (np.exp(abs(n)) - 1), rel=1e-6)
            scale = np.exp(meta["scales"]["codebook"][pixel("scales", 0, i)[k]])
            assert back.scale[i, k] == pytest.approx(scale, rel=1e-6)
            assert back.sh[i, 0, k] == pytest.approx(meta["sh0"]["codebook"][pixel("sh0", 0, i)[k]], rel=1e-6)
        assert back.opacity[i] == pytest.approx(pixel("sh0", 0, i)[3] / 255)
        *abc, mode = pixel("quats", 0, i)
        rest = [(c / 255 - 0.5) * 2 / np.sqrt(2) for c in abc]
        quat = [*rest[: mode - 252], np.sqrt(1 - sum(c * c for c in rest)), *rest[mode - 252 :]]
        np.testing.assert_allclose(back.quat[i], quat, atol=1e-6)
        label = pixel("shN", 1, i)
        label = label[0] + (label[1] << 8)
        palette = Image.open(io.BytesIO(archive.read(meta["shN"]["files"][0]))).convert("RGB")
        for term in range(3):
            entry = palette.getpixel((label % 64 * 3 + term, label // 64))
            expected = [meta["shN"]["codebook"][c] for c in entry]
            np.testing.assert_allclose(back.sh[i, 1 + term], expected, rtol=1e-6)


def test_real_asset_round_trips(tmp_path):
    g = splats.read_ply(ROBOT)
    write_sog(tmp_path / "robot.sog", g)
    back = read_sog(tmp_path / "robot.sog")
    assert_within_quantisation(back, g, 2)
    assert (tmp_path / "robot.sog").stat().st_size < 0.25 * ROBOT.stat().st_size


def test_few_values_are_kept_exactly_and_many_are_near():
    rng = np.random.default_rng(0)
    few = rng.normal(size=100)[rng.integers(0, 100, 5000)]
    codebook = best_codebook(few)
    np.testing.assert_array_equal(codebook[nearest(codebook, few)], few)
    many = rng.normal(size=20000)
    codebook = best_codebook(many)
    error = codebook[nearest(codebook, many)] - many
    best = np.sqrt(np.sqrt(3) * np.pi / 2) / 256  # of any 256 values for a normal distribution (Panter and Dite 1951)
    assert np.sqrt(np.mean(error**2)) < 1.1 * best


def test_a_palette_of_more_rows_than_it_may_hold_merges_the_nearest():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(70_000, 2)) * [10.0, 1.0]
    palette, label = _palette(rows)
    assert len(palette) <= 65_536 and label.max() < len(palette)
    error = palette[label] - rows
    assert np.mean(error**2) < 1e-4 * np.mean(rows**2)


def archive_without(name):
    def change(files):
        del files[name]

    return change


def replaced(name, data):
    def change(files):
        files[name] = data

    return change


def meta(**changes):
    def change(files):
        content = json.loads(files["meta.json"])
        for path, value in changes.items():
            *parents, last = path.split("__")
            target = content
            for key in parents:
                target = target[key]
            if value is None:
                del target[last]
            else:
                target[last] = value
        files["meta.json"] = json.dumps(content).encode()

    return change


def picture(size, color):
    buffer = io.BytesIO()
    Image.new("RGBA", size, color).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "change, message",
    [
        (archive_without("meta.json"), "meta.json cannot be read"),
        (archive_without("quats.webp"), "quats.webp"),
        (replaced("meta.json", b"{"), "not JSON"),
        (replaced("meta.json", b"[" * 100_000), "not JSON"),
        (replaced("meta.json", b"[]"), "must hold an object"),
        (replaced("means_l.webp", b"RIFFxxxx"), "no readable picture"),
        (replaced("means_u.webp", picture((1, 1), (0, 0, 0, 255))), "1 pixels for 40"),
        (replaced("quats.webp", picture((8, 8), (0, 0, 0, 255 - 9))), "252..255"),
        (replaced("shN_labels.webp", picture((8, 8), (255, 255, 0, 255))), "beyond the palette"),
        (replaced("shN_centroids.webp", picture((65, 1), (0, 0, 0, 255))), "65 pixels wide"),
        (meta(version=3), "version 3"),
        (meta(count=0), "number of Gaussians"),
        (meta(count=True), "number of Gaussians"),
        (meta(means=None), "no object 'means'"),
        (meta(means__mins=[0.0, 1.0]), "means.mins must hold 3"),
        (meta(means__maxs=[0.0, 1.0, "x"]), "means.maxs must hold 3"),
        (meta(means__maxs=[1e9, 1.0, 1.0]), "not finite"),
        (meta(scales__codebook=[0.0] * 255), "256 finite numbers"),
        (meta(quats__files=["../quats.webp"]), "plain file names"),
        (meta(sh0__files=[]), "must name 1"),
        (meta(shN__bands=2), "bands is 2"),
    ],
)
def test_damaged_files_are_refused(tmp_path, change, message):
    path = tmp_path / "a.sog"
    write_sog(path, gaussians(40))
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=message) as error:
        read_sog(path)
    assert "a.sog" in str(error.value)


def test_what_is_no_zip_and_what_cannot_be_written(tmp_path):
    write_sog(tmp_path / "a.sog", gaussians(40))
    whole = (tmp_path / "a.sog").read_bytes()
    for data in (b"", b"PK", whole[:200], whole[:-30]):
        (tmp_path / "b.sog").write_bytes(data)
        with pytest.raises(ValueError, match=r"b\.sog"):
            read_sog(tmp_path / "b.sog")
    with pytest.raises(ValueError, match=r"NAME\.sog"):
        write_sog(tmp_path / "a.zip", gaussians(4))
    with pytest.raises(ValueError, match="versions 1 and 2"):
        write_sog(tmp_path / "c.sog", gaussians(4), version=3)
    bad = dataclasses.replace(gaussians(4), opacity=gaussians(4).opacity + 1)
    with pytest.raises(ValueError, match="opacity"):
        write_sog(tmp_path / "c.sog", bad)
    assert not (tmp_path / "c.sog").exists()
