"""Writes BUILD.md's tables from experiments/results/*.json, between `<!-- table -->` and `<!-- /table -->`.

    python -m experiments.tables            rewrites BUILD.md
    python -m experiments.tables --check    fails when BUILD.md differs from the results
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- table -->\n).*?(<!-- /table -->)", re.S)


def table() -> str:
    """One row per checked figure."""
    rows = ["| case | figure | value | bar | met | commit | device |", "|---|---|---|---|---|---|---|"]
    for path in sorted((ROOT / "experiments/results").glob("*.json")):
        result = json.loads(path.read_text())
        for key, check in result.get("checks", {}).items():
            met = "yes" if check["met"] else "**no**"
            rows.append(
                f"| {path.stem} | {key} | {result[key]:.4g} | {check['bar']} | {met} | {result['commit']} | {result['device']} |"
            )
    return "\n".join(rows) + "\n"


def main(argv: list[str]) -> int:
    path = ROOT / "BUILD.md"
    old = path.read_text()
    new = MARK.sub(lambda m: m[1] + table() + m[2], old)
    if "--check" in argv:
        if new != old:
            print("BUILD.md differs from experiments/results: run `make tables`")
        return int(new != old)
    path.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
