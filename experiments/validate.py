"""Produces the long figures: one JSON per case under experiments/results/.

    python -m experiments.validate              every case without a result, or with one of older code
    python -m experiments.validate dam_break    this case, in any event
    python -m experiments.validate --list       what there is, and whether its result is current

A case is a module of experiments/cases with a docstring (first line: the claim; then the source of the expected figure
and the minutes), `run() -> dict` of flat figures with the unit in the key, and `CHECKS = {key: (relation, bound)}`. It
runs in a process of its own, so it may set XLA_FLAGS at its top. A missed check is recorded, not hidden: the JSON says
so, BUILD.md shows it, and the exit status is 1.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from experiments.report import ROOT, check, provenance, write_json

CASES = ROOT / "experiments/cases"
RESULTS = ROOT / "experiments/results"


def imported_files(path: Path) -> Iterator[Path]:
    """The files of this repository that a file imports, packages' `__init__` included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for end in range(1, len(parts) + 1):
                stem = ROOT.joinpath(*parts[:end])
                yield from (f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f.is_file())


def source_hash(path: Path) -> str:
    """Hash of a file, of everything it imports here, blind to comments, docstrings and layout, and of their assets."""
    files, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in files:
            files.add(file)
            todo += imported_files(file)
    digest = hashlib.sha256()
    for file in sorted(files):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
            ):
                body[0] = ast.Pass()
        digest.update(f"{file.relative_to(ROOT)}\n{ast.unparse(tree)}\n".encode())
    for folder in sorted({file.parent / "assets" for file in files}):
        for asset in sorted(a for a in folder.glob("*") if a.is_file()):
            digest.update(f"{asset.relative_to(ROOT)}\n".encode() + asset.read_bytes())
    return digest.hexdigest()[:16]


def state(name: str) -> str:
    """'none', 'old' (of other code), 'missed' or 'met'."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "none"
    result = json.loads(path.read_text())
    if result.get("source") != source_hash(CASES / f"{name}.py"):
        return "old"
    return "met" if all(c["met"] for c in result["checks"].values()) else "missed"


def run_here(name: str) -> None:
    """Runs one case in this process and writes its JSON."""
    source = source_hash(CASES / f"{name}.py")
    case = importlib.import_module(f"experiments.cases.{name}")
    start = time.perf_counter()
    figures = case.run()
    absent = set(case.CHECKS) - set(figures)
    if absent:
        raise ValueError(f"case {name} checks {sorted(absent)}, which run() did not return: name the figures alike")
    checks = {key: check(figures[key], *bar) for key, bar in case.CHECKS.items()}
    seconds = round(time.perf_counter() - start, 1)
    about = {"claim": claim(name), "seconds": seconds, "source": source, "checks": checks}
    write_json(RESULTS / f"{name}.json", figures | about | provenance())
    for key, result in checks.items():
        print(f"  {key} = {figures[key]:.4g} ({result['bar']}): {'met' if result['met'] else 'MISSED'}", flush=True)


def claim(name: str) -> str:
    doc = ast.get_docstring(ast.parse((CASES / f"{name}.py").read_text())) or ""
    return doc.partition("\n")[0]


def main(argv: list[str]) -> int:
    known = sorted(p.stem for p in CASES.glob("*.py") if p.stem != "__init__")
    names = [a for a in argv if not a.startswith("-")]
    unknown = set(names) - set(known)
    if unknown:
        print(f"unknown cases {sorted(unknown)}; known: {known}")
        return 2
    if "--list" in argv:
        for name in known:
            print(f"{state(name):6s} {name}: {claim(name)}")
        return 0
    if "--here" in argv:
        run_here(names[0])
        return 0
    failed = []
    todo = names or known
    for number, name in enumerate(todo, 1):
        if not names and state(name) in ("met", "missed"):
            print(f"[{number}/{len(todo)}] {name}: result is current, skipped")
        else:
            print(f"[{number}/{len(todo)}] {name}: {claim(name)}", flush=True)
            done = subprocess.run([sys.executable, "-m", "experiments.validate", "--here", name], cwd=ROOT)
            if done.returncode:
                failed.append(f"{name} (stopped with exit status {done.returncode})")
                continue
        if state(name) != "met":
            failed.append(f"{name} ({state(name)})")
    print(f"{len(todo) - len(failed)} of {len(todo)} cases met" + (": not " + ", ".join(failed) if failed else ""))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
