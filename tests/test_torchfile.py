"""Reading what torch.save wrote: parity with torch's own file, and refusal of everything else."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxphys.torchfile import read_torch

SAVED = Path(__file__).parent / "golden" / "torch_saved.pt"


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def archive(path: Path, pickled: bytes, compression=zipfile.ZIP_STORED, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        for key, value in storages.items():
            file.writestr(f"archive/data/{key.removeprefix('s')}", value)
    return path


def tensor(count: int, offset: int, size: tuple, stride: tuple, kind: str = "FloatStorage") -> bytes:
    """The opcodes torch.save writes for one tensor."""

    def numbers(values):
        return b"(" + b"".join(b"J" + int(v).to_bytes(4, "little", signed=True) for v in values) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\n" + kind.encode() + b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
    storage += b"J" + count.to_bytes(4, "little", signed=True) + b"tQ"
    where = b"J" + offset.to_bytes(4, "little", signed=True)
    hooks = b"ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + where
        + numbers(size)
        + numbers(stride)
        + b"\x89"
        + hooks
        + b"tR"
    )


def test_reads_what_torch_wrote():
    content = read_torch(SAVED)
    model = content["model"]
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(model["weight"], whole)
    np.testing.assert_array_equal(model["t"], whole.T)
    np.testing.assert_array_equal(model["part"], whole[1:, 2:])
    np.testing.assert_array_equal(model["expanded"], np.full((5, 1), 7.0))
    assert model["bf"].dtype == ml_dtypes.bfloat16 and model["bf"][:2].tolist() == [1.5, -2.25]
    assert model["half"].dtype == np.float16 and model["c"].tolist() == [1 + 2j]
    assert model["n"].shape == () and int(model["n"]) == 3
    assert model["flag"].dtype == bool and model["flag"].tolist() == [True, False]
    assert model["empty"].shape == (0, 3)
    assert content["meta"] == {"name": "x", "list": [1, 2.5, None], "tuple": (1, "a")}
    assert type(model) is dict and type(model["weight"]) is np.ndarray
    assert not any(a.flags.writeable for a in model.values())


def test_own_archive_matches_the_layout_of_torch(tmp_path):
    path = archive(tmp_path / "a.pt", program(tensor(6, 1, (2, 2), (1, 2))), s0=np.arange(6, dtype="<f4").tobytes())
    np.testing.assert_array_equal(read_torch(path), [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    "body",
    [
        b"cposix\nsystem\n(X\x0a\x00\x00\x00touch HACKtR",
        b"cbuiltins\neval\n(X\x03\x00\x00\x001+1tR",
        b"cbuiltins\ngetattr\n",
        b"cnumpy\nload\n",
        b"ctorch\nload\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"ccollections\ndefaultdict\n",
        b"ccollections\nOrderedDict.__init__\n",
    ],
)
def test_a_malicious_pickle_is_refused_and_never_runs(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "bad.pt", program(body.replace(b"HACK", b"hack")))
    with pytest.raises(ValueError, match=r"refused: its pickle asks for"):
        read_torch(path)
    assert os.listdir(tmp_path) == ["bad.pt"]


def test_what_the_allowed_names_cannot_be_made_to_do(tmp_path):
    attributes = program(b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00ak\x00b".replace(b"k\x00", b"K\x01s"))
    with pytest.raises(ValueError):
        read_torch(archive(tmp_path / "a.pt", attributes))
    with pytest.raises(ValueError, match="neither a tensor nor"):
        read_torch(archive(tmp_path / "b.pt", program(b"ctorch\nFloatStorage\n")))
    with pytest.raises(ValueError, match="contains itself"):
        read_torch(archive(tmp_path / "c.pt", program(b"]q\x00h\x00a")))
    laughs: list = []
    for _ in range(60):  # 2^60 leaves if it were unfolded
        laughs = [laughs, laughs]
    read_torch(archive(tmp_path / "d.pt", pickle.dumps(laughs, 2)))


@pytest.mark.parametrize(
    "count, offset, size, stride, match",
    [
        (6, 0, (7,), (1,), "reaches element 6"),
        (6, 5, (2,), (1,), "reaches element 6"),
        (6, 0, (2, 2), (100, 1), "reaches element 101"),
        (6, -1, (2,), (1,), "storage offset -1"),
        (6, 0, (2,), (-1,), "stride"),
        (7, 0, (2,), (1,), "should hold 7"),
        (6, 0, (2**31 - 1,), (0,), "repeats a storage"),
    ],
)
def test_tensors_stay_within_their_storage(tmp_path, count, offset, size, stride, match):
    path = archive(tmp_path / "a.pt", program(tensor(count, offset, size, stride)), s0=bytes(24))
    with pytest.raises(ValueError, match=match):
        read_torch(path)


def test_damaged_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch(tmp_path / "none.pt")
    legacy = tmp_path / "legacy.pt"
    legacy.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    with pytest.raises(ValueError, match=r"older|before"):
        read_torch(legacy)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(SAVED.read_bytes()[:-300])
    with pytest.raises(ValueError):
        read_torch(cut)
    with pytest.raises(ValueError, match="compressed"):
        read_torch(archive(tmp_path / "deflated.pt", program(b"N"), zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="missing from the archive"):
        read_torch(archive(tmp_path / "lost.pt", program(tensor(6, 0, (6,), (1,)))))
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("hello.txt", "hello")
    (tmp_path / "other.pt").write_bytes(other.getvalue())
    with pytest.raises(ValueError, match="another archive"):
        read_torch(tmp_path / "other.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        read_torch(archive(tmp_path / "short.pt", b"\x80\x02]q"))
