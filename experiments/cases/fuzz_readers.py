"""Five minutes of damaged files find no crash and no hang in any reader.

Each round takes a valid file, damages it (bytes flipped, cut, repeated, spliced with another file, numbers replaced by
extreme ones, values of a JSON replaced) and reads it. Allowed are: it is read, or it is refused with ValueError or
FileNotFoundError. Everything else is a crash: another exception, the death of the process, a refusal without a reason.
More than 20 seconds of processor time for one file, or 120 seconds in all, is a hang. The process that reads may use
6 GB more than it starts with.

    python -m experiments.validate fuzz_readers

Five minutes on one core, and the start of the process.
"""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

SECONDS, EXTRA_BYTES = 300.0, 6 * 2**30
HANG_CPU_SECONDS, HANG_SECONDS, START_SECONDS = 20.0, 120.0, 600.0
CLIP = Path(__file__).resolve().parents[2] / "tests/data/body/motions/deepmimic_jog.npz"
ALLOWED = (ValueError, FileNotFoundError)
EXTREMES = [
    b"nan",
    b"inf",
    b"-inf",
    b"1e400",
    b"-1",
    b"0",
    b"4294967296",
    b"99999999999999999999",
    b"1e-320",
    b"",
    b"x",
]
VALUES = [None, True, -1, 0, 1e308, float("nan"), 2**70, "", "x", [], {}, [[[]]], [1] * 1000, {"a": {"b": 1}}, 1e-300]


def seeds(folder: Path) -> list[tuple[str, Path, Callable]]:
    """(name, a valid file, its reader) for every reader."""
    from jaxphys import language, splats
    from jaxphys.body import motion_files
    from jaxphys.body.bvh import parse_bvh
    from jaxphys.camera_files import read_cameras_json, read_colmap
    from jaxphys.mesh import read_mesh
    from jaxphys.scenes import read_scene
    from jaxphys.scenes.export import read_motion, write_motion
    from jaxphys.splats.formats import read_points
    from jaxphys.torchfile import read_torch

    rng = np.random.default_rng(0)
    n = 40
    d = rng.normal(size=(n, 3))
    ball = splats.Gaussians.create(0.4 * d / np.linalg.norm(d, axis=1, keepdims=True), 0.1, color=0.5, opacity=0.9)
    shiny = splats.Gaussians.create(d, 0.1, sh=rng.normal(size=(n, 4, 3)), opacity=0.5)
    out: list[tuple[str, Path, Callable]] = []

    def add(name: str, reader: Callable, data: bytes | str | None = None) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is not None:
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        out.append((name, path, reader))
        return path

    splats.write_ply(folder / "shiny.ply", shiny)
    add("shiny.ply", splats.read)
    add("points.ply", read_points, (folder / "shiny.ply").read_bytes())
    header = (
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    add("ascii.ply", read_points, header + "0 0 0\n1 0 0\n0 1 0\n")
    for version in (1, 2):
        splats.sog.write_sog(folder / f"v{version}.sog", shiny, version=version)
        add(f"v{version}.sog", splats.read)
    splats.write(folder / "a.splat", ball)
    add("a.splat", splats.read)
    camera = dict(id=0, img_name="0", width=40, height=30, position=[0, -3, 0], fx=30, fy=30)
    camera["rotation"] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    add("cameras.json", read_cameras_json, json.dumps([camera]))
    for suffix in ("bin", "txt"):
        (folder / suffix).mkdir(exist_ok=True)
    lens = struct.pack("<QiiQQ4d", 1, 3, 1, 640, 480, 500, 510, 320, 240)
    pose = struct.pack("<Qi7di", 1, 1, 1, 0, 0, 0, 0, 0, 3, 3) + b"b.png\0" + struct.pack("<Qddq", 1, 1.0, 2.0, -1)
    texts = ("3 PINHOLE 640 480 500 510 320 240\n", "1 1 0 0 0 0 0 3 3 b.png\n1.0 2.0 -1\n")
    for suffix, pair in (("bin", (lens, pose)), ("txt", texts)):
        for name, data in zip(("cameras", "images"), pair):
            add(f"{suffix}/{name}.{suffix}", lambda path: read_colmap(path.parent), data)
    corners = [[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    lines = ["v {} {} {}".format(*c) for c in corners] + ["f {} {} {}".format(*np.add(t, 1)) for t in triangles]
    add("cube.obj", read_mesh, "\n".join(lines) + "\n")
    record = np.zeros(12, np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    record["v"] = np.array(corners)[triangles]
    add("cube.stl", read_mesh, bytes(80) + np.uint32(12).tobytes() + record.tobytes())
    facets = [
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*corners[i]) for i in t)
        + "endloop\nendfacet\n"
        for t in triangles
    ]
    add("ascii.stl", read_mesh, "solid a\n" + "".join(facets) + "endsolid a\n")
    head = header.replace("vertex 3", "vertex 8").replace("end_header\n", "element face 12\n")
    head += "property list uchar int vertex_indices\nend_header\n"
    body = ["{} {} {}".format(*c) for c in corners] + ["3 {} {} {}".format(*t) for t in triangles]
    add("cube.ply", read_mesh, head + "\n".join(body) + "\n")
    box = {"type": "cuboid", "point": [1, 1, 0.2], "size": [1, 1, 0.1], "velocity": [0, 0, 0], "end_time": 1.0}
    plane = {"type": "surface_collider", "point": [1, 1, 0.3], "normal": [0, 0, 1], "surface": "slip", "friction": 0.0}
    family = dict(material="metal", E=2e4, nu=0.3, yield_stress=1e3, density=200, n_grid=16, substep_dt=1e-3)
    family |= dict(
        frame_dt=2e-2, frame_num=3, g=[0, 0, -9.8], rotation_degree=[30], rotation_axis=[1], opacity_threshold=0.02
    )
    family |= dict(sim_area=[-1, 1, -1, 1, -1, 1], particle_filling={"n_grid": 16}, default_camera_index=-1)
    family |= dict(
        init_azimuthm=30, init_elevation=10, init_radius=3, boundary_conditions=[{"type": "bounding_box"}, box, plane]
    )
    family |= dict(additional_material_params=[dict(point=[1, 1, 1], size=[1, 1, 1], E=1e4, nu=0.3)])
    add("family.json", lambda path: read_scene(path, ball), json.dumps(family))
    moving = {k: v for k, v in family.items() if k not in ("substep_dt", "frame_dt", "yield_stress")}
    moving |= dict(
        material="jelly",
        E=0.01,
        additional_material_params=[],
        substep_perframe=20,
        total_time=0.1,
        grid_lim=1.0,
        prompt="a ball",
    )
    add("motion.json", lambda path: read_scene(path, ball), json.dumps(moving))
    law = {"law": "neo_hookean", "density": 1000, "E": 1e4, "nu": 0.3}
    one = {
        "name": "a",
        "splats": "ball.ply",
        "select": {"box_m": [[-1, -1, -1], [1, 1, 1]], "mask": "mask.npy"},
        "material": law,
    }
    two = {
        "name": "b",
        "shape": {"type": "sphere", "center_m": [2, 0, 0], "radius_m": 0.4},
        "material": {"prompt": "jelly"},
    }
    native = dict(
        format="jaxphys-scene", version=1, objects=[one, two], grid={"dx_m": 0.2}, time={"seconds": 0.1, "fps": 20}
    )
    native |= dict(boundaries=[{"type": "walls"}, {"type": "ground", "height_m": -1}], gravity_m_s2=[0, 0, -9.81])
    native |= dict(forces=[{"type": "drag", "rate_1_s": 1.0}], camera={"eye_m": [0, -3, 0], "target_m": [0, 0, 0]})
    splats.write_ply(folder / "ball.ply", ball)
    np.save(folder / "mask.npy", np.ones(n, bool))
    native_path = add("native.json", read_scene, json.dumps(native))
    for name in ("ball.ply", "mask.npy"):
        add(name, lambda path: read_scene(native_path))
    x = rng.normal(size=(2, 3, 3)).astype(np.float32)
    motion = {
        "times": np.array([0.1, 0.2]),
        "x": x,
        "volume": np.ones(3, np.float32),
        "material": np.zeros(3, np.int32),
    }
    for name in ("motion.npz", "motion.h5"):
        write_motion(folder / name, motion)
        add(name, read_motion)
    joint = "OFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
    joint += "End Site\n{\nOFFSET 0 1 0\n}"
    bvh = f"HIERARCHY\nROOT Hips\n{{\n{joint}\n}}\nMOTION\nFrames: 3\nFrame Time: 0.033\n" + "0 1 0 0 0 0\n" * 3
    add("a.bvh", lambda path: parse_bvh(path.read_bytes().decode("utf-8", "replace"), str(path)), bvh)
    add("clip.npz", motion_files.read, CLIP.read_bytes())
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/version", b"3\n")
    add("a.pt", read_torch, zipped.getvalue())
    proposal = {"material": "rubber", "model": "elastic", "density_kg_m3": {"mean": 950, "lo": 900, "hi": 1000}}
    proposal |= {"parameters": {"E_Pa": {"mean": 2e6, "lo": 1e6, "hi": 5e6}}, "confidence": 0.8, "reasons": ["soft"]}
    answers = {"answers": [{"prompt": "a ball", "proposal": proposal}]}
    ask = lambda path: language.propose("a ball", provider=language.File(path))
    add("answers.json", ask, json.dumps(answers))
    return out


def damage_json(data: bytes, rng: np.random.Generator) -> bytes:
    """A JSON with one value replaced, removed or put beside a new key."""
    content = json.loads(data)
    places: list = []

    def visit(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)) and node[key]:
                visit(node[key])

    visit(content)
    for _ in range(rng.integers(1, 4)):
        node, key = places[rng.integers(len(places))]
        what = rng.integers(4)
        if what == 0 and isinstance(node, dict):
            node.pop(key, None)
        elif what == 1 and isinstance(node, dict):
            node["".join(rng.choice(list("abE_")) for _ in range(4))] = VALUES[rng.integers(len(VALUES))]
        elif what == 2 and isinstance(node, dict) and isinstance(node.get(key), (int, float)):
            node[key] = node[key] * float(10.0 ** rng.uniform(-12, 12)) * rng.choice([-1, 1, 1])
        elif isinstance(node, dict) or key < len(node):
            node[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(content).encode()


def damage_zip(data: bytes, rng: np.random.Generator) -> bytes:
    """A zip whose members are damaged, its own structure being whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = sorted(files)[rng.integers(len(files))]
    files[name] = (
        damage_json(files[name], rng) if name.endswith(".json") else damage_bytes(files[name], b"\0" * 64, rng)
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in files.items():
            archive.writestr(key, value)
    return out.getvalue()


def damage_bytes(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to four of: bytes changed, cut off, removed, repeated, spliced with `other`, a number made extreme."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        n = len(out)
        at = int(rng.integers(n)) if n else 0
        length = int(min(n - at, 2 ** rng.integers(0, 8)))
        match int(rng.integers(7)):
            case 0 if n:
                out[at] = int(rng.integers(256))
            case 1:
                del out[at:]
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length] * int(rng.integers(1, 20))
            case 4:
                start = int(rng.integers(len(other))) if other else 0
                out[at : at + length] = other[start : start + length]
            case 5:
                numbers = list(re.finditer(rb"-?\d+\.?\d*", bytes(out)))
                if numbers:
                    found = numbers[rng.integers(len(numbers))]
                    out[found.start() : found.end()] = EXTREMES[rng.integers(len(EXTREMES))]
            case _ if length >= 4:
                word = rng.choice([0, 1, 2**31 - 1, 2**32 - 1, 0x7FC00000, 0x7F800000, 0xFF7FFFFF])
                out[at : at + 4] = int(word).to_bytes(4, "little")
    return bytes(out)


def child(folder: str, first: int, seconds: float, report) -> None:
    """Reads damaged files, one number after the other, and reports ("try", k, name), then ("done", k, outcome)."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    files = seeds(Path(folder))
    originals = [path.read_bytes() for _, path, _ in files]
    for _, path, reader in files:  # whatever is compiled at the first use is no hang
        reader(path)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + EXTRA_BYTES, resource.RLIM_INFINITY))
    before = sorted(p.name for p in Path(folder).rglob("*"))
    k = first
    report.send(("ready", k, len(files)))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rng = np.random.default_rng(k)
        index = k % len(files)
        name, path, reader = files[index]
        data = originals[index]
        kind = rng.integers(3)
        if kind and name.endswith(".json"):
            damaged = damage_json(data, rng)
        elif kind and zipfile.is_zipfile(io.BytesIO(data)):
            damaged = damage_zip(data, rng)
        else:
            damaged = damage_bytes(data, originals[rng.integers(len(files))], rng)
        path.write_bytes(damaged)
        report.send(("try", k, name))
        try:
            reader(path)
            outcome = "read"
        except ALLOWED as error:
            outcome = (
                "refused" if len(str(error)) > 10 else f"crash: {type(error).__name__} without a reason: {error!r}"
            )
        except BaseException:
            outcome = "crash: " + traceback.format_exc(limit=-4)
        path.write_bytes(data)
        report.send(("done", k, outcome))
        k += 1
    left = sorted(p.name for p in Path(folder).rglob("*"))
    report.send(("end", k, [name for name in left if name not in before]))


def cpu_seconds(pid: int | None) -> float:
    """Processor time of a process so far [s]; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(seconds: float = SECONDS, first: int = 0) -> dict:
    context = multiprocessing.get_context("spawn")
    folder = Path(tempfile.mkdtemp())
    started, counts, failures, files, left = None, dict(read=0, refused=0), [], 0, []
    slowest, k = 0.0, first
    try:
        while started is None or time.monotonic() < started + seconds:
            ours, theirs = context.Pipe()
            rest = seconds if started is None else started + seconds - time.monotonic()
            process = context.Process(target=child, args=(str(folder), k, rest, theirs), daemon=True)
            process.start()
            theirs.close()
            trying, since, spent, what = "the seeds", time.monotonic(), 0.0, ""
            while True:
                if not ours.poll(1.0):
                    wall, busy = time.monotonic() - since, cpu_seconds(process.pid) - spent
                    start = trying == "the seeds"
                    if wall > (START_SECONDS if start else HANG_SECONDS) or (busy > HANG_CPU_SECONDS and not start):
                        os.kill(process.pid, signal.SIGKILL)
                        failures.append(f"hang: {trying}, number {k}")
                        break
                    continue
                try:
                    what, k, value = ours.recv()
                except EOFError:
                    failures.append(f"death of the process: {trying}, number {k}")
                    if trying == "the seeds":
                        raise RuntimeError("the process that reads cannot start; see its error above") from None
                    break
                if what == "ready":
                    files, started = value, started or time.monotonic()
                elif what == "try":
                    trying, since, spent = value, time.monotonic(), cpu_seconds(process.pid)
                elif what == "done":
                    slowest = max(slowest, time.monotonic() - since)
                    if value in counts:
                        counts[value] += 1
                    else:
                        failures.append(f"{value} in {trying}, number {k}")
                elif what == "end":
                    left = value
                    break
            process.join(5)
            if what == "end":
                break
            k += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for failure in failures[:20]:
        print(failure)
    return dict(
        seconds_fuzzed=time.monotonic() - (started or time.monotonic()),
        readers=files,
        files_read=counts["read"],
        files_refused=counts["refused"],
        crashes_and_hangs=len(failures),
        failures=failures[:20],
        files_left_behind=len(left),
        slowest_seconds=slowest,
    )


CHECKS = {
    "crashes_and_hangs": ("<=", 0),
    "files_left_behind": ("<=", 0),
    "seconds_fuzzed": (">=", 295),
    "files_refused": (">=", 500),
}
