"""What the repository promises about itself."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in out.splitlines() if (ROOT / line).exists()]


def test_tables_of_build_md_agree_with_the_results():
    run = subprocess.run([sys.executable, "-m", "experiments.tables", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_constraints_are_plain_pins():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+_]+", line), line


def test_no_machine_paths_in_tracked_text():
    pattern = re.compile(r"(^|[^A-Za-z0-9_.~])/(work|root|tmp|home)/")
    for path in tracked("*.py", "*.md", "*.toml", "*.txt", "*.ipynb", "Makefile", "NOTICE"):
        if path != Path(__file__):
            hits = [line for line in path.read_text().splitlines() if pattern.search(line)]
            assert not hits, f"{path.name}: {hits[0]}"


def test_the_data_of_tests_is_small():
    assert sum(p.stat().st_size for p in tracked("tests/data", "experiments/assets")) < 10e6
