"""Runs the benchmarks against peers, each in a process of its own, and names the peers that this machine lacks.

    python -m experiments.bench.run          all
    python -m experiments.bench.run mpm      one

A benchmark is a module of this folder with a docstring, `PEERS = ("warp", "taichi")` (modules that it imports inside
functions only; empty: it has none), and a command line `python -m experiments.bench.NAME --out PATH` that writes its
rows with `report.write_bench`; here PATH is experiments/results/bench_NAME.json. A comparison whose peer is missing
is recorded as not measured; a missed bar is recorded as missed, and the exit status is 1.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from experiments.report import ROOT

FOLDER = Path(__file__).resolve().parent
RESULTS = ROOT / "experiments/results"


def peers_of(path: Path) -> tuple[str, ...] | None:
    """The PEERS of a benchmark, read without importing it; None: the module is none."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "PEERS" for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return None


def main(argv: list[str]) -> int:
    # a benchmark says PEERS; other modules of the folder are what benchmarks share
    known = {p.stem: peers for p in sorted(FOLDER.glob("*.py")) if (peers := peers_of(p)) is not None}
    unknown = set(argv) - set(known)
    if unknown:
        print(f"unknown benchmarks {sorted(unknown)}; known: {sorted(known)}")
        return 2
    failed = []
    for name in argv or known:
        missing = [peer for peer in known[name] if importlib.util.find_spec(peer) is None]
        note = f" (missing peers: {', '.join(missing)}; their comparisons are left out)" if missing else ""
        print(f"{name}{note}", flush=True)
        out = RESULTS / f"bench_{name}.json"
        command = [sys.executable, "-m", f"experiments.bench.{name}", "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT)
        if done.returncode:
            failed.append(f"{name} (stopped with exit status {done.returncode})")
            continue
        rows = json.loads(out.read_text())["rows"]
        failed += [f"{name}: {row['what']} ({row['bar']})" for row in rows if row["met"] is False]
    print("\n".join(["missed:", *failed]) if failed else "every measured bar is met")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
