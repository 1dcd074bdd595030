"""The wheel works outside the tree: it imports every part, holds its assets and runs the README's code.

The wheel goes into a new virtual environment that sees its declared dependencies and nothing else. They are linked
from the environment of the tests instead of downloaded, so the test takes seconds and needs no network; pip still
checks that every requirement in the wheel's metadata is met.
"""

import re
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def closure(name, extras=()):
    """Names of the distributions that `name[extras]` needs, itself excluded."""
    from packaging.requirements import Requirement

    done, todo = set(), [(name, frozenset(extras))]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        for text in metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras | {""}):
                todo.append((need.name, frozenset(need.extras)))
    return {re.sub(r"[-_.]+", "-", n).lower() for n, _ in done} - {"jaxphys"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel and the interpreter of the environment that holds it."""
    home = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home), str(ROOT)]
    subprocess.run(pip + build, check=True)
    (wheel,) = home.glob("jaxphys-*.whl")
    venv.create(home / "venv", with_pip=False)
    (site,) = (home / "venv/lib").glob("python*/site-packages")
    for name in closure("jaxphys"):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            link, target = site / top, Path(str(distribution.locate_file(top)))
            if not link.exists() and target.exists():
                link.symlink_to(target)
    python = home / "venv/bin/python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-index", str(wheel)], check=True)
    return wheel, python


def run(python, code, cwd):
    """Runs code in an empty folder, with the package's own modules only from the wheel."""
    done = subprocess.run([python, "-I", "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{code}\n{done.stderr[-3000:]}"
    return done.stdout


def test_every_module_imports_from_the_wheel(wheel, tmp_path):
    code = (
        "import pkgutil, importlib, jaxphys\n"
        "for m in pkgutil.walk_packages(jaxphys.__path__, 'jaxphys.'):\n    importlib.import_module(m.name)\n"
        "print(jaxphys.__file__)"
    )
    location = Path(run(wheel[1], code, tmp_path).strip())
    assert location.is_relative_to(wheel[1].parent.parent), location


def test_the_wheel_holds_every_data_file(wheel):
    names = set(zipfile.ZipFile(wheel[0]).namelist())
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "jaxphys"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    kept = {line for line in listed.stdout.splitlines() if (ROOT / line).is_file()}
    assert kept and kept <= names, f"not in the wheel: {sorted(kept - names)}"
    licences = {Path(n).name for n in names if "dist-info/licenses" in n}
    assert licences >= {"LICENSE", "NOTICE"}


def test_assets_load_from_package_data(wheel, tmp_path):
    assert "rubber" in run(wheel[1], "from jaxphys import language; print(language.propose('soft rubber'))", tmp_path)


def test_readme_code_runs(wheel, tmp_path):
    """Each block has names of its own: a reader copies one, into an empty folder."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert blocks
    run(wheel[1], "\n".join(f"exec({block!r}, {{'__name__': '__main__'}})" for block in blocks), tmp_path)
