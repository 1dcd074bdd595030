"""Files that `torch.save` wrote, read without torch and without running what they say.

Such a file is a zip archive: `NAME/data.pkl`, a pickle of the containers, and one member `NAME/data/KEY` per storage. A
pickle is a program, and `pickle.load` runs it. Here the program may name three things only: ordered dictionaries,
torch's rebuilding of a plain tensor (done here, in NumPy) and the kinds of storage. Any other name is refused before
anything is called.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
}
_MOST_EXPANDED = 1 << 28  # elements of a tensor that repeats its storage (stride 0): 1 GiB of float32
_UNFINISHED = object()
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def read_torch(path: str | os.PathLike) -> Any:
    """The tensors and plain containers of a `.pt` or `.pth` file.

    Tensors become read-only NumPy arrays that view the file on disk (a large checkpoint is not read until it is used;
    do not change the file meanwhile); bfloat16 keeps its type, by `ml_dtypes`. Ordered dictionaries become plain ones.

    Args:
        path: a file of torch.save (torch 1.6 or later).

    Returns:
        What was saved: arrays within dictionaries, lists and tuples, and plain values.

    Raises:
        ValueError: a file of the older format, a damaged file, a pickle that names anything else (a class, a function),
            a tensor that reaches outside its storage.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        zipped = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it looks for the end of the archive, and may find a damaged one
        zipped = False
    if not zipped:
        raise ValueError(
            f"{path}: not a zip archive, so either damaged or of torch's format before 1.6, which is a bare pickle. "
            "Where you trust it, open it with torch and write it again: torch.save(torch.load(old), new)"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            program, members = _members(archive, path)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(f"{path}: a damaged zip archive ({error}); copy or download it again") from error
    data = np.memmap(path, np.uint8, "r")
    try:
        content = _Reader(io.BytesIO(program), data, members, path).load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ValueError(f"{path}: data.pkl cannot be read ({type(error).__name__}: {error})") from error
    try:
        return _plain(content, path, {})
    except RecursionError:
        raise ValueError(f"{path}: containers nested deeper than Python can follow") from None


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The pickle, and offset and size of every storage by its key."""
    infos = {info.filename: info for info in archive.infolist()}
    pickles = [name for name in infos if name.endswith("/data.pkl") and name.count("/") == 1]
    root = pickles[0].removesuffix("data.pkl") if len(pickles) == 1 else None
    if root is None or f"{root}constants.pkl" in infos:
        kind = "a TorchScript program" if any(name.endswith("/constants.pkl") for name in infos) else "another archive"
        raise ValueError(f"{path}: {kind}, not a file of torch.save; save the state_dict with torch.save instead")
    packed = [name for name, info in infos.items() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"{path}: member {packed[0]} is compressed, which torch.save never does; not read")
    if f"{root}byteorder" in infos and archive.read(f"{root}byteorder") != b"little":
        raise ValueError(f"{path}: written on a big-endian machine; save it again on a little-endian one")
    members, size = {}, path.stat().st_size
    with open(path, "rb") as file:
        for name, info in infos.items():
            if not name.startswith(f"{root}data/"):
                continue
            file.seek(info.header_offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise ValueError(f"{path}: member {name} has no header where the archive says; the file is damaged")
            start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:30]))
            if start + info.file_size > size:
                raise ValueError(f"{path}: truncated: member {name} ends after the file; copy or download it again")
            members[name.removeprefix(f"{root}data/")] = (start, info.file_size)
    return archive.read(pickles[0]), members


class _Kind:
    """The type of a storage, a name that the pickle passes about."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype


class _Rebuild:
    """Stands for torch._utils._rebuild_tensor_v2. Without a __dict__, so the pickle cannot set attributes on it."""

    __slots__ = ("path",)

    def __init__(self, path: Path):
        self.path = path

    def __call__(self, storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None) -> np.ndarray:
        numbers = (offset, *size, *stride)
        if (
            not isinstance(storage, np.ndarray)
            or storage.ndim != 1
            or len(size) != len(stride)
            or any(type(n) is not int or n < 0 for n in numbers)
        ):
            raise ValueError(f"{self.path}: a tensor with storage offset {offset}, size {size}, stride {stride}")
        count, last = 1, offset
        for n, step in zip(size, stride):
            count *= n
            last += (n - 1) * step
        if count and last >= len(storage):
            raise ValueError(
                f"{self.path}: a tensor of size {tuple(size)}, stride {tuple(stride)} and offset {offset} reaches "
                f"element {last} of a storage of {len(storage)}"
            )
        if count > max(len(storage), _MOST_EXPANDED):
            raise ValueError(
                f"{self.path}: a tensor of size {tuple(size)} repeats a storage of {len(storage)} elements"
            )
        if not count:
            return np.lib.stride_tricks.as_strided(np.zeros(0, storage.dtype), size, [0] * len(size), writeable=False)
        steps = [step * storage.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


class _Reader(pickle.Unpickler):
    """The allow-list, and storages as views of the file."""

    def __init__(self, file, data: np.ndarray, members: dict[str, tuple[int, int]], path: Path):
        super().__init__(file)
        self.data, self.members, self.path = data, members, path

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild(self.path)
        if module == "torch" and name in _DTYPES:
            return _Kind(_DTYPES[name])
        raise ValueError(
            f"{self.path}: refused: its pickle asks for {module}.{name}. Only tensors, dictionaries, lists, tuples and "
            "plain values are read, since anything else can run code. Where you trust the file, open it with torch and "
            "save its tensors alone, for example torch.save({k: v.cpu() for k, v in model.state_dict().items()}, new)"
        )

    def persistent_load(self, pid):
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and isinstance(pid[1], _Kind)):
            raise ValueError(f"{self.path}: its pickle refers to something that is no storage")
        _, kind, key, _, count = pid
        if key not in self.members:
            raise ValueError(f"{self.path}: storage {key!r} is missing from the archive")
        start, size = self.members[key]
        if type(count) is not int or count < 0 or count * kind.dtype.itemsize > size:
            raise ValueError(f"{self.path}: storage {key} should hold {count} of {kind.dtype}, it has {size} bytes")
        return self.data[start : start + count * kind.dtype.itemsize].view(kind.dtype)


def _plain(value: Any, path: Path, done: dict[int, Any]) -> Any:
    """The same without ordered dictionaries and memory-map arrays; refuses everything that is no plain value.

    `done` holds what was converted, by identity, so that a value which is shared ten thousand times is converted once.
    """
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if type(value) in _PLAIN:
        return value
    if id(value) in done:
        if done[id(value)] is _UNFINISHED:
            raise ValueError(f"{path}: a container that contains itself")
        return done[id(value)]
    done[id(value)] = _UNFINISHED
    if type(value) in (dict, collections.OrderedDict):
        result = {_plain(k, path, done): _plain(v, path, done) for k, v in value.items()}
    elif type(value) in (list, tuple, set, frozenset):
        result = type(value)(_plain(v, path, done) for v in value)
    else:
        raise ValueError(
            f"{path}: holds a value that is neither a tensor nor a plain container: {type(value).__name__}"
        )
    done[id(value)] = result
    return result
