"""Triangle meshes: OBJ, PLY and STL files, volume, points on the surface, which voxels lie inside."""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np

_SUFFIXES = (".obj", ".ply", ".stl")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Triangles over shared vertices; equal vertices are one."""

    vertices: np.ndarray  # [m], (V, 3) float64
    faces: np.ndarray  # indices of vertices, counter-clockwise seen from outside, (F, 3)

    def __post_init__(self):
        vertices, faces = np.asarray(self.vertices, np.float64), np.asarray(self.faces)
        if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
            raise ValueError(
                f"mesh: needs vertices (V, 3) and at least one triangle (F, 3), got {vertices.shape} and {faces.shape}"
            )
        if not np.issubdtype(faces.dtype, np.integer) or faces.min() < 0 or faces.max() >= len(vertices):
            raise ValueError(
                f"mesh: faces must hold indices 0..{len(vertices) - 1} of vertices, got {faces.dtype} from "
                f"{faces.min()} to {faces.max()}"
            )
        if not np.isfinite(vertices[faces]).all() or np.abs(vertices[faces]).max() > 1e15:
            raise ValueError("mesh: a vertex is not finite, or beyond 1e15 m; repair the mesh")
        object.__setattr__(self, "vertices", vertices)
        object.__setattr__(self, "faces", faces.astype(np.int64))

    @property
    def open_edges(self) -> int:
        """Edges that an odd number of triangles share; 0 in a closed mesh."""
        edges = np.sort(self.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        return int((np.unique(edges, axis=0, return_counts=True)[1] % 2).sum())

    @property
    def volume(self) -> float:
        """Enclosed volume [m^3] by the divergence theorem, sum of a . (b x c) / 6; for a closed, oriented mesh.

        >>> tetrahedron = Mesh(np.eye(4, 3), np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]))
        >>> round(tetrahedron.volume, 6)
        0.166667
        """
        a, b, c = np.moveaxis((self.vertices - self.vertices[self.faces[0, 0]])[self.faces], 1, 0)
        return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6.0)

    def transform(self, rotation=None, translation=(0.0, 0.0, 0.0), scale: float = 1.0) -> Mesh:
        """The mesh moved by x -> scale R x + translation."""
        R = np.eye(3) if rotation is None else np.asarray(rotation, np.float64)
        return Mesh(scale * self.vertices @ R.T + np.asarray(translation, np.float64), self.faces)

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """Points (count, 3) spread evenly over the surface, stratified by area.

        Raises:
            ValueError: count < 1, or a mesh without area.
        """
        a, b, c = np.moveaxis(self.vertices[self.faces], 1, 0)
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        if count < 1 or not area.sum() > 0:
            raise ValueError(f"mesh: sample needs count >= 1 and a surface, got {count} and area {area.sum() / 2}")
        rng = np.random.default_rng(seed)
        at = (np.arange(count) + rng.random(count)) / count * area.sum()
        face = np.minimum(np.searchsorted(np.cumsum(area), at), len(area) - 1)
        u, w = rng.random((2, count, 1))
        u = np.sqrt(u)
        return (1 - u) * a[face] + u * (1 - w) * b[face] + u * w * c[face]

    def inside(self, origin, spacing: float, shape: tuple[int, int, int]) -> np.ndarray:
        """Which voxel centres origin + (index + 1/2) spacing lie inside, bool of `shape`.

        A vertical line is followed through every column of voxels: each triangle that it crosses counts +1 or -1 by
        its orientation, and a centre is inside where those above it do not cancel (winding number). All triangles and
        columns are treated at once. The lines stand 1e-7 of a voxel off the centres, so none meets an edge.

        Raises:
            ValueError: the mesh is not closed.
        """
        if self.open_edges:
            raise ValueError(
                f"mesh: {self.open_edges} open edges, so it has no inside; close its holes, or sample its surface and "
                "fill that"
            )
        nx, ny, nz = shape
        corners = (self.vertices[self.faces] - np.asarray(origin)) / spacing - 0.5  # in voxels; centres at integers
        corners[..., :2] += (1.1e-7, 1.7e-7)
        xy = corners[..., :2]
        lo = np.clip(np.ceil(xy.min(1)), 0, (nx, ny)).astype(int)
        hi = np.clip(np.floor(xy.max(1)), -1, (nx - 1, ny - 1)).astype(int)
        size = np.maximum(hi - lo + 1, 0)
        crossings = np.zeros((nx * ny, nz + 1), np.int32)
        e, g = xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0]
        area = e[:, 0] * g[:, 1] - e[:, 1] * g[:, 0]
        count = np.where(area != 0, size[:, 0] * size[:, 1], 0)
        block = np.cumsum(count) // 4_000_000  # pairs of triangle and column in parts that fit into memory
        for part in np.unique(block[count > 0]):
            faces = np.flatnonzero((block == part) & (count > 0))
            face = np.repeat(faces, count[faces])
            within = np.arange(len(face)) - np.repeat(np.cumsum(count[faces]) - count[faces], count[faces])
            i = lo[face, 0] + within // size[face, 1]
            j = lo[face, 1] + within % size[face, 1]
            d = np.stack([i, j], 1) - xy[face, 0]
            u = (d[:, 0] * g[face, 1] - d[:, 1] * g[face, 0]) / area[face]
            w = (e[face, 0] * d[:, 1] - e[face, 1] * d[:, 0]) / area[face]
            hit = (u >= 0) & (w >= 0) & (u + w <= 1)
            face, u, w = face[hit], u[hit], w[hit]
            z = corners[face, 0, 2]
            z = z + u * (corners[face, 1, 2] - z) + w * (corners[face, 2, 2] - z)
            below = np.clip(np.ceil(z), 0, nz).astype(int)  # number of centres below the crossing
            np.add.at(crossings, (i[hit] * ny + j[hit], below), np.where(area[face] > 0, 1, -1).astype(np.int32))
        above = np.cumsum(crossings[:, ::-1], axis=1)[:, ::-1][:, 1:]  # crossings at or above each centre
        return (above != 0).reshape(shape)


def read_mesh(path: str | os.PathLike) -> Mesh:
    """Reads an OBJ, PLY or STL file; equal vertices are merged, polygons are cut into triangles.

    Raises:
        ValueError: another suffix, a damaged file, no triangle, a face that names a vertex which is not there.
        FileNotFoundError: no such file.
    """
    import trimesh

    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(f"{path}: meshes are read from {', '.join(_SUFFIXES)}, got {path.suffix!r}")
    data = path.read_bytes()
    try:
        loaded = trimesh.load_mesh(io.BytesIO(data), file_type=suffix[1:], process=False, skip_materials=True)
        vertices, faces = np.asarray(loaded.vertices), np.asarray(loaded.faces)
        if suffix == ".stl" and len(data) != 84 + 50 * len(faces) and b"endsolid" not in data[-1000:]:
            raise ValueError("truncated: an ascii STL ends with endsolid")
    except Exception as error:  # each loader has its own ways to fail
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as a {suffix[1:].upper()} mesh ({reason})") from None
    try:
        mesh = Mesh(vertices, faces)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    distinct, index = np.unique(mesh.vertices, axis=0, return_inverse=True)
    merged = index.reshape(-1)[mesh.faces]
    whole = (merged[:, 0] != merged[:, 1]) & (merged[:, 1] != merged[:, 2]) & (merged[:, 2] != merged[:, 0])
    if not whole.any():
        raise ValueError(f"{path}: every triangle has two equal corners, so there is no surface")
    return Mesh(distinct, merged[whole])
