"""One report format for every script: flat keys with the unit in the name, plus where and with what it ran."""

from __future__ import annotations

import datetime
import json
import math
import operator
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jaxphys

ROOT = Path(__file__).resolve().parent.parent
RELATIONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


def device_name() -> str:
    """The accelerator and how many, or the processor model and the cores that this process may use."""
    import jax  # not at the top: whoever lists cases or missing peers need not wait for it

    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.device_kind} x{jax.device_count()}"
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} core{'s' if cores != 1 else ''}"


def git_commit() -> str:
    """Short commit, with '+changes' when the code is not that of the commit; 'unknown' outside a checkout.

    Untracked code counts as a change. Results and documents do not, or the second of two cases would seem changed.
    """

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "--short=10", "HEAD")
        changes = git("status", "--porcelain", "--", ".", ":!experiments/results", ":!*.md")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")


def provenance() -> dict[str, str]:
    """Device, commit, date and versions."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    where = {"device": device_name(), "commit": git_commit(), "date": now, "version_python": platform.python_version()}
    versions = {f"version_{name}": metadata.version(name) for name in ("jax", "jaxlib", "numpy")}
    return where | versions | {"version_jaxphys": jaxphys.__version__}


def check(value: Any, relation: str, bound: float) -> dict[str, Any]:
    """The bar as text and whether the value meets it; a value that is not finite meets no bar."""
    finite = not (isinstance(value, float) and not math.isfinite(value))
    return {"bar": f"{relation} {bound:g}", "met": bool(finite and RELATIONS[relation](value, bound))}


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the strings 'nan' and 'inf'; array scalars become numbers."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Writes whole or not at all, and makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(_plain(values), indent=1, allow_nan=False) + "\n")
    temporary.replace(path)


def read_json(path: str | Path) -> Any:
    """What `write_json` wrote, with numbers that are not finite as numbers again."""

    def whole(value):
        if isinstance(value, dict):
            return {k: whole(v) for k, v in value.items()}
        if isinstance(value, list):
            return [whole(v) for v in value]
        return float(value) if value in ("nan", "inf", "-inf") else value

    return whole(json.loads(Path(path).read_text()))


def write_report(workdir: str | Path, **values: Any) -> Path:
    """Writes `report.json` into the workdir: the given flat keys (seeds among them), then provenance.

    Raises:
        ValueError: a value is a dictionary; flat keys read better in a table and in a diff.
    """
    nested = [key for key, value in values.items() if isinstance(value, Mapping)]
    if nested:
        raise ValueError(f"write_report takes flat keys, {nested} are dictionaries: write their items as separate keys")
    path = Path(workdir) / "report.json"
    write_json(path, values | provenance())
    return path


def bench_row(
    what: str, unit: str, ours: float, peer: float | None = None, *, peer_name="", bar=None
) -> dict[str, Any]:
    """One comparison of a benchmark.

    Args:
        what: the measured thing with its size, such as "forward, neo-Hookean, 100k particles, 64^3".
        unit: unit of `ours` and `peer`, such as "ms".
        ours: measured value.
        peer: the peer's value in the same run; None where the peer is missing on this machine.
        peer_name: the peer and its version.
        bar: (relation, bound) that the ratio ours / peer must meet; without a peer name, the bar is on `ours`.

    Returns:
        A row for `write_bench`; without the peer's value the ratio and `met` are None: not measured.
    """
    row = {"what": what, "unit": unit, "ours": ours, "peer": peer, "peer_name": peer_name}
    row["ratio"] = None if peer is None else ours / peer
    tested = row["ratio"] if peer_name else ours
    row |= {"bar": "", "met": None} if bar is None else {"bar": f"{bar[0]} {bar[1]:g}", "met": None}
    if bar is not None and tested is not None:
        row |= check(tested, *bar)
    return row


def write_bench(path: str | Path, rows: list[dict[str, Any]], **values: Any) -> None:
    """Writes the rows of a benchmark, further flat values and provenance."""
    write_json(path, {"rows": rows} | values | provenance())
