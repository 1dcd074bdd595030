"""The wheel works outside the tree: it imports every part, loads its assets and runs the README's code."""

import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an empty venv that holds the wheel; third-party packages come from the tree's venv."""
    home = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(home), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = home.glob("jaxphys-*.whl")
    venv.create(home / "venv", with_pip=False)
    (site,) = (home / "venv/lib").glob("python*/site-packages")
    install = ["install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    # A .pth line adds a folder without reading the .pth files in it, so the tree's editable install does not leak in.
    (site / "third_party.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home / "venv/bin/python"


def run(python, code, cwd):
    done = subprocess.run([python, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_module_imports_from_the_wheel(python, tmp_path):
    code = (
        "import pkgutil, importlib, jaxphys\n"
        "for m in pkgutil.walk_packages(jaxphys.__path__, 'jaxphys.'):\n    importlib.import_module(m.name)\n"
        "print(jaxphys.__file__)"
    )
    assert "wheel" in run(python, code, tmp_path)


def test_assets_load_from_package_data(python, tmp_path):
    assert "rubber" in run(python, "from jaxphys import language; print(language.propose('soft rubber'))", tmp_path)


def test_readme_code_runs(python, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        run(python, block, tmp_path)
