"""Motion files: positions against another reader, axes and units found out, and an error for all that is wrong."""

import gzip
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.body import Motion, forward, humanoid, motion_files, so3
from jaxphys.body.joint_names import find_family
from jaxphys.body.recording import choose_unit, choose_up, turn, up_matrix
from jaxphys.body.smpl import read_model_joints

DATA = Path(__file__).parent.parent / "data" / "body"
RAW = DATA / "raw"
GVHMR = Path(__file__).parent.parent / "golden" / "gvhmr_like.pt"


def upright(T=6):
    """Rotation vectors (T, 24, 3) of a person who stands in a Z-up world and turns a little."""
    pose = np.zeros((T, 24, 3))
    pose[:, 0, 0] = np.pi / 2
    pose[:, 16, 2] = np.linspace(-1.0, -1.2, T)
    return pose


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


# Parity: positions.npz was made from the same recordings by a reader that shares no code with ours.


@pytest.mark.parametrize(
    "clip, file, unit, rows, yup",
    [
        ("02_01", "02_01.amc", 0.0254 / 0.45, [0, 30], True),
        ("131_01", "131_01.bvh", 0.0254 / 0.45, [0, 10], True),
        ("88_07", "88_07.xml", 1.0, [0, 19], False),
    ],
)
def test_positions_agree_with_another_reader(clip, file, unit, rows, yup):
    recording = motion_files._parse(RAW / file, None)
    stored = np.load(RAW / "positions.npz")
    names = [str(n) for n in stored[f"{clip}_names"]]
    common = [n for n in names if n in recording.names]
    assert len(common) >= 16
    ours = recording.position[rows][:, [recording.names.index(n) for n in common]] * unit
    if yup:
        ours = ours @ up_matrix("y").T
    theirs = stored[f"{clip}_position"][:, [names.index(n) for n in common]]
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_bvh_channels_are_read_in_their_order(tmp_path):
    """One joint, rotations Z X Y: the end of its bone is where three plain rotation matrices put it."""
    path = tmp_path / "a.bvh"
    path.write_text(
        "HIERARCHY\nROOT a {\n OFFSET 0 0 0\n CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
        " JOINT b { OFFSET 0 1 2 CHANNELS 1 Xrotation End Site { OFFSET 0 0 3 } }\n}\n"
        "MOTION\nFrames: 1\nFrame Time: 0.04\n10 20 30 40 50 60 70\n"
    )
    recording = motion_files._parse(path, None)
    R = turn("Z", 40) @ turn("X", 50) @ turn("Y", 60)
    b = np.array([10, 20, 30]) + R @ [0, 1, 2]
    np.testing.assert_allclose(recording.position[0], [[10, 20, 30], b, b + R @ turn("X", 70) @ [0, 0, 3]], atol=1e-12)
    assert recording.names == ("a", "b", "b_end") and recording.fps == pytest.approx(25.0)


@pytest.mark.long
def test_an_asf_recording_becomes_the_stored_motion(tmp_path):
    """From the packed original to the skeleton and the motion that the benchmark uses."""
    with open(RAW / "02_01.amc", "rb") as source, gzip.open(tmp_path / "02_01.amc.gz", "wb") as packed:
        shutil.copyfileobj(source, packed)
    shutil.copy(RAW / "02.asf", tmp_path)
    clip = motion_files.read(tmp_path / "02_01.amc.gz", 120.0, frames=slice(None, None, 2))
    assert clip.fps == 60.0 and clip.motion.frames == 16 and clip.name == "02_01"
    assert clip.error_m.max() < 0.02 and 1.6 < clip.height < 1.8
    stored = motion_files.read(DATA / "motions" / "02_01.npz")
    assert stored.fps == 60.0
    here, there = (
        np.asarray(forward(c.skeleton, c.motion.matrices()[:8], c.motion.translation[:8])[1]) for c in (clip, stored)
    )
    assert np.abs(here - there).max() < 0.01
    np.testing.assert_allclose(stored.skeleton.offset, clip.skeleton.offset, atol=5e-3)


def test_stored_motions_fit_their_recordings():
    index = json.loads((DATA / "motions" / "index.json").read_text())
    assert len(index) == 40 and all(row["rms_mm"] < 40 for row in index.values())
    assert {p.stem for p in (DATA / "motions").glob("*.npz")} == set(index)
    assert sum(p.stat().st_size for p in (DATA / "motions").iterdir()) < 6e6


# SMPL


def test_gvhmr_result_stands_up_and_keeps_its_rotations():
    clip = motion_files.read(GVHMR, 25.0)
    assert clip.fps == 25.0 and clip.motion.joints == 24 and any("up: y" in note for note in clip.notes)
    _, p = forward(clip.skeleton, clip.motion.matrices(), clip.motion.translation)
    assert (np.asarray(p)[:, 15, 2] > np.asarray(p)[:, 7, 2] + 1.0).all()  # the head is above the ankle
    np.testing.assert_allclose(clip.motion.translation[:, 0], 0.1 * np.arange(5), atol=1e-6)
    np.testing.assert_allclose(clip.motion.translation[:, 2], 1.2, atol=1e-6)


@pytest.mark.parametrize("width, rate", [(66, "mocap_framerate"), (72, "mocap_frame_rate"), (156, "mocap_framerate")])
def test_amass_and_smpl_widths_and_spellings(tmp_path, width, rate):
    pose = np.zeros((6, width))
    pose[:, :66] = upright()[:, :22].reshape(6, 66)
    path = save(tmp_path / "a.npz", poses=pose, trans=np.ones((6, 3)), betas=np.zeros(16), **{rate: 120.0})
    clip = motion_files.read(path)
    assert clip.fps == 120.0
    np.testing.assert_allclose(clip.motion.rotation[:, :22], upright()[:, :22], atol=1e-6)
    parts = dict(root_orient=pose[:, :3], pose_body=pose[:, 3:66], trans=np.ones((6, 3)), mocap_frame_rate=60.0)
    other = motion_files.read(save(tmp_path / "b.npz", **parts))
    np.testing.assert_allclose(other.motion.rotation, clip.motion.rotation, atol=1e-6)


def test_axis_of_smpl_parameters_is_found_from_the_poses(tmp_path):
    pose = np.zeros((6, 72))  # SMPL's own frame: y up
    path = save(tmp_path / "a.npz", global_orient=pose[:, :3], body_pose=pose[:, 3:], transl=np.zeros((6, 3)))
    clip = motion_files.read(path, 30.0)
    np.testing.assert_allclose(clip.motion.rotation[:, 0], np.tile([np.pi / 2, 0, 0], (6, 1)), atol=1e-5)
    turned = motion_files.read(path, 30.0, up="-y")
    np.testing.assert_allclose(np.abs(np.asarray(turned.motion.rotation[:, 0, 0])), np.pi / 2, atol=1e-5)
    assert float(so3.exp(turned.motion.rotation[0, 0])[2, 1]) == pytest.approx(-1.0, abs=1e-5)


def test_proportions_from_the_users_smpl_model(tmp_path):
    """A made-up model of 24 vertices that are its joints: the skeleton gets exactly these."""
    body = humanoid(1.9)
    rest = np.asarray(forward(body, jnp.broadcast_to(jnp.eye(3), (24, 3, 3)), jnp.zeros(3))[1], np.float64)
    rest = rest + [0.0, -0.24, 0.03]
    shapes = np.zeros((24, 3, 2))
    shapes[:, 1, 0] = 0.01 * rest[:, 1]
    model = save(tmp_path / "model.npz", v_template=rest, shapedirs=shapes, J_regressor=np.eye(24))
    path = save(
        tmp_path / "a.npz", poses=upright().reshape(6, 72), trans=np.zeros((6, 3)), betas=[2.0], mocap_framerate=60
    )
    clip = motion_files.read(path, smpl_model=model)
    J = rest * [1.0, 1.02, 1.0]
    np.testing.assert_allclose(clip.skeleton.offset[4], J[4] - J[1], atol=1e-6)
    np.testing.assert_allclose(clip.motion.translation[0], J[0], atol=1e-6)
    assert clip.height == pytest.approx(1.02 * 1.9, rel=1e-4)
    with pytest.raises(ValueError, match="joints"):
        read_model_joints(save(tmp_path / "b.npz", v_template=rest, shapedirs=shapes, J_regressor=np.eye(24)[:5]), [])


# Our own form


def test_write_and_read_back(tmp_path):
    stored = motion_files.read(DATA / "motions" / "deepmimic_walk.npz")
    motion_files.write(tmp_path / "a.npz", stored)
    again = motion_files.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.motion.rotation, stored.motion.rotation)
    np.testing.assert_allclose(again.skeleton.inertia, stored.skeleton.inertia, rtol=1e-6)
    assert again.fps == stored.fps and again.height == stored.height and again.notes[:3] == stored.notes[:3]


# What is found out


def test_units_that_give_a_human_leg():
    for name, metres in (("metres", 1.0), ("centimetres", 0.01), ("millimetres", 0.001), ("CMU units", 0.0254 / 0.45)):
        unit, why = choose_unit("BVH", None, None, 0.85 / metres)
        assert unit == metres and name in why
    with pytest.raises(ValueError, match="no usual unit"):
        choose_unit("BVH", None, None, 0.2)
    with pytest.raises(ValueError, match="no person"):
        choose_unit("ASF/AMC", None, 1.0, 15.0)


def test_a_body_that_lies_does_not_decide_what_is_up():
    lying = np.tile([1.0, 0.0, 0.0], (5, 1))
    assert choose_up("BVH", None, "y", False, lying, np.array([0.0, 1.0, 0.0]))[0] == "y"
    assert choose_up("BVH", None, "y", False, np.tile([0.0, 0.0, 1.0], (5, 1)), np.array([0.0, 0.0, 1.0]))[0] == "z"
    with pytest.raises(ValueError, match="pass up="):
        choose_up("npz", None, None, False, np.zeros((5, 3)))
    with pytest.raises(ValueError, match="up must be one of"):
        choose_up("npz", "upwards", None, False, lying)


# Bad input: each with its file, what was expected and what to do


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def bad_files(folder: Path) -> dict[str, tuple[Path, dict, str]]:
    good = dict(poses=upright().reshape(6, 72), trans=np.zeros((6, 3)), mocap_framerate=60.0)
    hole = good["poses"].copy()
    hole[3, 5] = np.nan
    joints = dict(joint_names=["hip_1", "knee_1"], joint_pos=np.zeros((5, 2, 3)), fps=30.0)
    own = dict(rotation=np.zeros((5, 24, 3)), translation=np.zeros((5, 3)), fps=30.0)
    with zipfile.ZipFile(folder / "hostile.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Hostile(), 2))
    (folder / "hostile.pkl").write_bytes(pickle.dumps(Hostile()))
    np.savez(folder / "hostile.npz", poses=np.array([Hostile()], object), trans=np.zeros((6, 3)))
    (folder / "cut.npz").write_bytes(save(folder / "whole.npz", **own).read_bytes()[:300])
    (folder / "text.bvh").write_text("hello")
    (folder / "lonely.amc").write_text(":FULLY-SPECIFIED\n1\nroot 0 0 0 0 0 0\n")
    (folder / "bad.json").write_text('{"Frames": [[1, 2, 3]]}')
    (folder / "bad.xml").write_text('<mujoco><keyframe><key mpos="1 2 3"/></keyframe></mujoco>')
    (folder / "bomb.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><mujoco/>')
    (folder / "a.fbx").write_text("")
    (folder / "broken.bvh.gz").write_bytes(b"\x1f\x8b\x08nonsense")
    nan = own | dict(rotation=np.full((5, 24, 3), np.nan))
    cases = {
        "no fps": (save(folder / "a.npz", poses=good["poses"], trans=good["trans"]), {}, "pass fps="),
        "no fps of GVHMR": (GVHMR, {}, "pass fps=.*GVHMR"),
        "no fps of AMC": (RAW / "02_01.amc", {}, "pass fps=.*120"),
        "fps 0": (GVHMR, dict(fps=0.0), "fps must be one positive number"),
        "joints": (
            save(folder / "b.npz", **(good | dict(poses=np.zeros((6, 99 - 3 * 11 - 3))))),
            {},
            "not the joints of",
        ),
        "joints of ours": (save(folder / "c.npz", **(own | dict(rotation=np.zeros((5, 23, 3))))), {}, "24, 3"),
        "lengths": (save(folder / "d.npz", **(good | dict(trans=np.zeros((5, 3))))), {}, "6 frames"),
        "NaN": (save(folder / "e.npz", **(good | dict(poses=hole))), {}, "first: frame 3"),
        "scale of ours": (save(folder / "s.npz", **own, scale=np.ones((24, 0))), {}, "scale must be numbers above 0"),
        "offset of ours": (save(folder / "o.npz", **own, offset=np.ones(3)), {}, "offset must be finite numbers"),
        "height of ours": (save(folder / "q.npz", **own, height=np.ones(3)), {}, "height must be one number"),
        "NaN of ours": (save(folder / "f.npz", **nan), {}, "NaN"),
        "one frame": (
            save(folder / "g.npz", **{k: v[:1] if np.ndim(v) else v for k, v in good.items()}),
            {},
            "at least 3",
        ),
        "unknown skeleton": (save(folder / "h.npz", **joints), {}, "unknown skeleton.*joints="),
        "wrong table": (folder / "h.npz", dict(joints={"elbow": "left_elbow"}), "not in the file"),
        "unknown arrays": (save(folder / "i.npz", x=np.zeros(3)), {}, "found arrays"),
        "hostile pt": (folder / "hostile.pt", dict(fps=30.0), "refused"),
        "hostile pkl": (folder / "hostile.pkl", dict(fps=30.0), "refused"),
        "hostile npz": (folder / "hostile.npz", dict(fps=30.0), "plain arrays"),
        "cut": (folder / "cut.npz", {}, "plain arrays"),
        "text": (folder / "text.bvh", {}, "HIERARCHY"),
        "no asf": (folder / "lonely.amc", dict(fps=120.0), "ASF file"),
        "deepmimic": (folder / "bad.json", {}, "numbers"),
        "keyframes": (folder / "bad.xml", dict(fps=30.0), "48"),
        "entities": (folder / "bomb.xml", dict(fps=30.0), "entities"),
        "suffix": (folder / "a.fbx", {}, "unknown suffix"),
        "gzip": (folder / "broken.bvh.gz", {}, "unpacked"),
    }
    return cases


def test_bad_files_are_refused_and_nothing_in_them_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (path, options, message) in bad_files(tmp_path).items():
        with pytest.raises(ValueError, match=message) as error:
            motion_files.read(path, **options)
        assert path.name in str(error.value) or name == "wrong table", f"{name}: the message names no file"
    assert not (tmp_path / "hacked").exists()
    with pytest.raises(FileNotFoundError):
        motion_files.read(tmp_path / "none.bvh")


def test_damaged_files_give_value_errors_only(tmp_path):
    """Bytes changed, cut, repeated: each reader either reads what is left or says what is wrong."""
    rng = np.random.default_rng(0)
    shutil.copy(RAW / "02.asf", tmp_path)
    save(tmp_path / "whole.npz", poses=upright().reshape(6, 72), trans=np.zeros((6, 3)), mocap_framerate=60.0)
    refused = 0
    for source in (*(RAW / n for n in ("02.asf", "131_01.bvh", "88_07.xml", "humanoid3d_jog.txt")), GVHMR,
                   tmp_path / "whole.npz"):  # fmt: skip
        for _ in range(25):
            data = bytearray(source.read_bytes())
            at, there, length = (int(n) for n in rng.integers(0, [len(data), len(data), 80]))
            match rng.integers(4):
                case 0:
                    data[at] = rng.integers(256)
                case 1:
                    del data[at : at + length]
                case 2:
                    data[at:at] = data[there : there + length]
                case 3:
                    data[at : at + 1] = b"nan"
            path = tmp_path / f"damaged{source.suffix}"
            path.write_bytes(data)
            try:
                if source.suffix == ".asf":
                    motion_files._parse(RAW / "02_01.amc", path)
                else:
                    motion_files._parse(path, None)
            except ValueError as error:
                refused += 1
                assert "damaged" in str(error)
    assert refused > 75
    path = tmp_path / "dof.asf"
    path.write_text((RAW / "02.asf").read_text().replace("dof rx ry rz", "dof rx q rz", 1))
    with pytest.raises(ValueError, match="degrees of freedom"):
        motion_files._parse(RAW / "02_01.amc", path)


def test_a_table_of_names_replaces_a_family():
    names = ("Hüfte", "L1", "L2", "L3", "R1", "R2", "R3")
    ours = ("pelvis", *(f"{s}_{p}" for s in ("left", "right") for p in ("hip", "knee", "ankle")))
    family = find_family(names, dict(zip(names, ours)))
    assert family is not None and family.leg("left") == ("L1", "L2", "L3")
    with pytest.raises(ValueError, match="missing: right_ankle"):
        find_family(names, dict(zip(names[:-1], ours[:-1])))


def test_motion_type_refuses_what_is_no_motion():
    with pytest.raises(ValueError, match="same T"):
        Motion(np.zeros((5, 24, 3)), np.zeros((4, 3)))


def test_sources_of_the_stored_motions(tmp_path):
    """Every kind of file is found, doubled frames are dropped and faulty ends are cut at the stored rate."""
    from experiments.make_motions import sources

    for name in ("raw/asfamc/03_02.amc.gz", "raw/bvh/05_01.bvh.gz", "raw/bvh/131_01.bvh.gz", "npz/amp_run.npz",
                 "raw/mjpc_keyframes/CMU-CMU-88-88_07_poses.xml.gz"):  # fmt: skip
        (tmp_path / "cmu_mocap" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cmu_mocap" / name).touch()
    found = {name: options for name, (_, options) in sources(tmp_path).items()}
    assert found == {
        "03_02": dict(fps=120.0, frames=slice(52, None, 2)),
        "05_01": dict(frames=slice(1, None, 1)),
        "131_01": dict(frames=slice(None, None, 2)),
        "88_07_mjpc": dict(fps=30.0),
        "amp_run": dict(frames=slice(None, None, 2)),
    }
    with pytest.raises(ValueError, match="neither"):
        sources(tmp_path / "elsewhere")
