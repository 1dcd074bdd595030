"""Produces the long figures: one JSON per case under experiments/results/.

    python -m experiments.validate            every case that has no result yet
    python -m experiments.validate dam_break  this case, again

A case is a module of experiments/cases with a docstring (claim, source of the expected figure, minutes), `run() -> dict` of
flat figures with the unit in the key, and `CHECKS = {key: (relation, bound)}`. A missed check is recorded, not hidden.
"""

from __future__ import annotations

import importlib
import operator
import pkgutil
import sys
import time
from pathlib import Path

from experiments import cases
from experiments.report import provenance, write_json

RESULTS = Path(__file__).resolve().parent / "results"
RELATIONS = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


def main(argv: list[str]) -> int:
    known = [m.name for m in pkgutil.iter_modules(cases.__path__)]
    unknown = set(argv) - set(known)
    if unknown:
        print(f"unknown cases {sorted(unknown)}; known: {known}")
        return 2
    missed = []
    for name in argv or known:
        path = RESULTS / f"{name}.json"
        if path.exists() and not argv:
            print(f"{name}: has a result, skipped")
            continue
        case = importlib.import_module(f"experiments.cases.{name}")
        print(f"{name}: {(case.__doc__ or '').strip().splitlines()[0]}", flush=True)
        start = time.time()
        figures = case.run()
        checks = {
            key: {"bar": f"{relation} {bound}", "met": bool(RELATIONS[relation](figures[key], bound))}
            for key, (relation, bound) in case.CHECKS.items()
        }
        write_json(path, figures | {"seconds": round(time.time() - start, 1), "checks": checks} | provenance())
        for key, check in checks.items():
            print(f"  {key} = {figures[key]:.4g} ({check['bar']}): {'met' if check['met'] else 'MISSED'}", flush=True)
            missed += [] if check["met"] else [f"{name}.{key}"]
    if missed:
        print("missed:", ", ".join(missed))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
