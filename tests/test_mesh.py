"""Triangle meshes: volume, inside, surface points; files in three formats; what cannot be repaired is refused."""

import numpy as np
import pytest

from jaxphys.mesh import Mesh, read_mesh

# A cube of side 2 about the origin, outward.
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
QUADS = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE = Mesh(CORNERS, np.array([t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]))


def torus(n=48, m=24, R=1.0, r=0.4):
    u, w = np.meshgrid(np.arange(n) / n * 2 * np.pi, np.arange(m) / m * 2 * np.pi, indexing="ij")
    ring = R + r * np.cos(w)
    x = np.stack([ring * np.cos(u), ring * np.sin(u), r * np.sin(w)], -1).reshape(-1, 3)
    index = np.arange(n * m).reshape(n, m)
    a, b = index, np.roll(index, -1, 0)
    c, d = np.roll(b, -1, 1), np.roll(index, -1, 1)
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return Mesh(x, faces)


def rotation(seed=0):
    Q, R = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return Q * np.sign(np.diag(R)) * np.sign(np.linalg.det(Q * np.sign(np.diag(R))))


def test_volume_of_known_solids_wherever_they_stand():
    assert CUBE.volume == pytest.approx(8.0, rel=1e-12) and CUBE.open_edges == 0
    moved = CUBE.transform(rotation(), (100.0, -50.0, 3.0), 0.5)
    assert moved.volume == pytest.approx(1.0, rel=1e-9)
    fine = torus(192, 96)
    assert fine.volume == pytest.approx(2 * np.pi**2 * 0.4**2, rel=2e-3)
    assert Mesh(CUBE.vertices, CUBE.faces[:, ::-1]).volume == pytest.approx(-8.0)


def test_points_lie_on_the_surface_evenly():
    x = CUBE.sample(6000)
    np.testing.assert_allclose(np.abs(x).max(1), 1.0, atol=1e-12)
    per_face = [np.sum(np.abs(x[:, k] - s) < 1e-9) for k in range(3) for s in (-1, 1)]
    np.testing.assert_allclose(per_face, 1000, atol=10)
    assert np.abs(x.mean(0)).max() < 0.05
    np.testing.assert_array_equal(x, CUBE.sample(6000))


@pytest.mark.parametrize("mesh", [CUBE, torus()], ids=["cube", "torus"])
def test_inside_agrees_with_the_solid_angle(mesh):
    """The winding number by solid angles (Van Oosterom and Strackee 1983), at voxel centres off the surface."""
    mesh = mesh.transform(rotation(1))
    spacing, shape = 0.31, (10, 11, 9)
    origin = -0.5 * spacing * np.array(shape)
    inside = mesh.inside(origin, spacing, shape)
    centres = origin + (np.argwhere(np.ones(shape, bool)) + 0.5) * spacing
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces][None] - centres[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    dot = lambda p, q: (p * q).sum(-1)
    triple = dot(a, np.cross(b, c))
    angle = 2 * np.arctan2(triple, la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb)
    winding = angle.sum(1) / (4 * np.pi)
    np.testing.assert_array_equal(inside.reshape(-1), winding > 0.5)
    assert 0 < inside.sum() < inside.size


def test_axis_aligned_faces_through_voxel_centres_do_not_confuse_the_count():
    """Vertices, edges and faces of the cube lie exactly on the lines of centres."""
    inside = CUBE.inside((-2.25, -2.25, -2.25), 0.5, (9, 9, 9))  # centres at -2, -1.5, ..., 2
    assert inside[3:6, 3:6, 3:6].all() and not inside[[0, 1, -2, -1]].any() and not inside[:, :, [0, 1, -2, -1]].any()


def write_obj(path, mesh):
    lines = ["# by hand", "o thing"] + ["v {} {} {}".format(*map(repr, map(float, v))) for v in mesh.vertices]
    lines += ["f {}//1 {}//1 {}//1".format(*(f + 1)) for f in mesh.faces]
    path.write_text("\n".join([*lines[:2], "vn 0 0 1", *lines[2:]]) + "\n")


def write_ply(path, mesh):
    head = f"ply\nformat ascii 1.0\nelement vertex {len(mesh.vertices)}\nproperty float x\nproperty float y\n"
    head += f"property float z\nelement face {len(mesh.faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    body = [" ".join(map(repr, map(float, v))) for v in mesh.vertices] + ["3 {} {} {}".format(*f) for f in mesh.faces]
    path.write_text(head + "\n".join(body) + "\n")


def write_stl(path, mesh):
    record = np.zeros(len(mesh.faces), np.dtype([("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")]))
    record["v"] = mesh.vertices[mesh.faces]
    path.write_bytes(bytes(80) + np.uint32(len(record)).tobytes() + record.tobytes())


def write_ascii_stl(path, mesh):
    text = "solid a\n"
    for f in mesh.faces:
        corners = "".join("vertex {} {} {}\n".format(*mesh.vertices[i]) for i in f)
        text += f"facet normal 0 0 0\nouter loop\n{corners}endloop\nendfacet\n"
    path.write_text(text + "endsolid a\n")


WRITERS = {"a.obj": write_obj, "a.ply": write_ply, "a.stl": write_stl, "b.STL": write_ascii_stl}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_closed_mesh(tmp_path, name):
    """An STL repeats the corners of its triangles; equal ones become one vertex again."""
    mesh = torus(12, 8)
    WRITERS[name](tmp_path / name, mesh)
    back = read_mesh(tmp_path / name)
    assert len(back.vertices) == len(mesh.vertices) and len(back.faces) == len(mesh.faces) and back.open_edges == 0
    assert back.volume == pytest.approx(mesh.volume, rel=1e-6)


def test_polygons_are_cut_into_triangles(tmp_path):
    lines = ["v {} {} {}".format(*v) for v in CORNERS] + ["f " + " ".join(str(i + 1) for i in q) for q in QUADS]
    (tmp_path / "a.obj").write_text("\n".join(lines) + "\n")
    assert read_mesh(tmp_path / "a.obj").volume == pytest.approx(8.0)


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.fbx", b"", "read from .obj"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "cannot be read|at least one triangle"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "a.obj"),
        ("a.obj", b"v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n", "a.obj"),
        ("a.obj", b"v 0 0 0\nv 0 0 0\nv 0 1 0\nf 1 2 3\n", "two equal corners"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "a.ply"),
        ("a.stl", b"", "a.stl"),
        ("a.stl", bytes(80) + b"\x05\0\0\0" + bytes(60), "a.stl"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_mesh(tmp_path / name)


def test_nonsense_is_refused():
    with pytest.raises(FileNotFoundError):
        read_mesh("nowhere.obj")
    with pytest.raises(ValueError, match=r"indices 0\.\.7"):
        Mesh(CORNERS, np.array([[0, 1, 8]]))
    with pytest.raises(ValueError, match="at least one triangle"):
        Mesh(CORNERS, np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="not finite"):
        Mesh(CORNERS * np.inf, CUBE.faces)
    hole = Mesh(CORNERS, CUBE.faces[1:])
    assert hole.open_edges == 3
    with pytest.raises(ValueError, match="3 open edges"):
        hole.inside((-2, -2, -2), 0.5, (8, 8, 8))
    with pytest.raises(ValueError, match="count >= 1"):
        CUBE.sample(0)
