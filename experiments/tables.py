"""Writes the tables and figures of the documents from experiments/results/*.json.

    python -m experiments.tables            rewrites them
    python -m experiments.tables --check    fails when a figure in them differs from its JSON

`<!-- table:mpm_* -->` to `<!-- /table -->` holds the results whose names match: one row per checked figure of a
validated case, or, for a pattern that begins with bench_, one per comparison of a benchmark. In a sentence, one number
stands between `<!-- figure:dam_break.front_rms_percent -->` and `<!-- /figure -->`. A result with keys
made of what was measured on and of what was measured is shown as a matrix:
`<!-- matrix:pac_nerf:relative_error,seconds -->` has one row for each `X` with `X_relative_error` and `X_seconds`,
`<!-- matrix:motionphysics/loop_training_elastic:median,mean -->` only those that begin like this.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments/results"
DOCUMENTS = ("*.md", "docs/*.md", "jaxphys/pretrained/*.md")
TABLE = re.compile(r"(<!-- table:(\S+) -->\n).*?(<!-- /table -->)", re.S)
MATRIX = re.compile(r"(<!-- matrix:(\w+)/?(\w*):([\w,.]+) -->\n).*?(<!-- /matrix -->)", re.S)
FIGURE = re.compile(r"(<!-- figure:(\w+)\.([\w.]+) -->).*?(<!-- /figure -->)", re.S)
CASE_HEAD = ("case", "figure", "value", "bar", "met", "commit", "device")
BENCH_HEAD = ("benchmark", "ours", "peer", "ratio", "bar", "met", "commit", "device")


def show(value) -> str:
    """Four digits of a number; yes or no; '-' for what was not measured."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def rows_of(name: str, result: dict) -> tuple[tuple[str, ...], list[tuple]]:
    where = (result["commit"], result["device"])
    if "rows" not in result:
        return CASE_HEAD, [
            (name, key, result[key], check["bar"], check["met"], *where) for key, check in result["checks"].items()
        ]
    rows = []
    for r in result["rows"]:
        peer = f"{show(r['peer'])} {r['unit']} ({r['peer_name']})" if r["peer_name"] else None
        rows.append((r["what"], f"{show(r['ours'])} {r['unit']}", peer, r["ratio"], r["bar"], r["met"], *where))
    return BENCH_HEAD, rows


def table(pattern: str) -> str:
    """A Markdown table of the results that match."""
    head, rows = (), []
    for path in sorted(RESULTS.glob(f"{pattern}.json")):
        if path.stem.startswith("bench_") != pattern.startswith("bench_"):
            continue  # so that `*` means the validated cases
        head, more = rows_of(path.stem, json.loads(path.read_text()))
        rows += more
    return markdown(head, rows)


def matrix(name: str, prefix: str, columns: list[str]) -> str:
    """A Markdown table of one result, one row for each beginning of a key that all columns complete."""
    path = RESULTS / f"{name}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    begins = [key.removesuffix(f"_{columns[0]}") for key in result if key.endswith(f"_{columns[0]}")]
    rows = [
        (begin.removeprefix(f"{prefix}_"), *(result[f"{begin}_{column}"] for column in columns))
        for begin in begins
        if begin.startswith(prefix) and all(f"{begin}_{column}" in result for column in columns)
    ]
    return markdown(("", *columns), rows)


def markdown(head: tuple[str, ...], rows: list[tuple]) -> str:
    if not rows:
        return "Not measured yet.\n"
    cells = [[name.replace("_", " ") for name in head], ("---",) * len(head), *(map(show, row) for row in rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def figure(name: str, key: str) -> str:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "(not measured yet)"
    return show(json.loads(path.read_text())[key])


def render(text: str) -> str:
    text = TABLE.sub(lambda m: m[1] + table(m[2]) + m[3], text)
    text = MATRIX.sub(lambda m: m[1] + matrix(m[2], m[3], m[4].split(",")) + m[5], text)
    return FIGURE.sub(lambda m: m[1] + figure(m[2], m[3]) + m[4], text)


def main(argv: list[str]) -> int:
    differing = []
    for path in sorted(path for where in DOCUMENTS for path in ROOT.glob(where)):
        old = path.read_text()
        new = render(old)
        if new != old:
            differing.append(path.name)
            if "--check" not in argv:
                path.write_text(new)
    if differing and "--check" in argv:
        print(f"{', '.join(differing)} differ from experiments/results: run `make tables`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
