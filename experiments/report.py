"""One report format for every script: flat keys with the unit in the name, plus where and with what it ran."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import jax


def device_name() -> str:
    """The accelerator, or the processor model and its cores."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{device.device_kind} x{jax.device_count()}"
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def git_commit() -> str:
    """Short commit of the working tree, with '+changes' when it is not clean; 'unknown' outside a checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*args):
        return subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance() -> dict:
    """Device, versions, commit and date."""
    versions = {f"version_{name}": metadata.version(name) for name in ("jax", "jaxlib", "jaxphys", "numpy")}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"device": device_name(), "commit": git_commit(), "date": now, "version_python": platform.python_version()} | versions


def write_json(path: str | Path, values: dict) -> None:
    """Writes atomically, so a reader never sees half a file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(values, indent=1, sort_keys=False, default=float) + "\n")
    os.replace(temporary, path)


def write_report(workdir: str | Path, **values) -> Path:
    """Writes `report.json` into the workdir: the given flat keys, then provenance."""
    path = Path(workdir) / "report.json"
    write_json(path, values | provenance())
    return path
