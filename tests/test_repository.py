"""What the repository promises about itself."""

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTION = {
    "PIL": "pillow",
    "absl": "absl-py",
    "ml_collections": "ml-collections",
    "orbax": "orbax-checkpoint",
}  # import name -> name to install
PARTS = {"mpm", "splats", "body", "drop", "diffusion", "perception", "language"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_names(requirements):
    return {normal(re.match(r"[\w.-]+", r)[0]) for r in requirements}


def files(*patterns):
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return sorted({ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()})


def imports(path):
    """Dotted names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_tables_of_the_documents_agree_with_the_results():
    command = [sys.executable, "-m", "experiments.tables", "--check"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_constraints_are_plain_pins_of_everything_installed_for_the_tests():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    bad = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)]
    assert not bad, f"constraints.txt takes name==version lines only, without local versions or addresses: {bad}"
    pinned = {normal(line.split("==")[0]) for line in lines}
    todo = requirement_names(
        PROJECT["dependencies"]
        + PROJECT["optional-dependencies"]["dev"]
        + PROJECT["optional-dependencies"]["notebooks"]
    )
    seen = set()
    while todo:
        name = todo.pop()
        seen.add(name)
        plain = [r for r in metadata.requires(name) or [] if "extra ==" not in r]
        todo |= {n for n in requirement_names(plain) if n not in seen and installed(n)}
    assert not seen - pinned, f"not pinned: {sorted(seen - pinned)}"


def installed(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def test_declared_dependencies_are_the_imported_ones():
    extras = PROJECT["optional-dependencies"]
    optional = requirement_names(r for name in ("viewer", "convert", "parity", "bench") for r in extras[name])
    optional |= {"warp"}  # the module of warp-lang
    own = {"jaxphys", "experiments"}
    used = set()
    for path in files("jaxphys/*.py", "experiments/*.py"):
        names = set(imports(path))
        tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - own
        tops |= {"mujoco-mjx"} & {"-".join(name.split(".")[:2]) for name in names}
        used |= {normal(DISTRIBUTION.get(top, top)) for top in tops}
    declared = requirement_names(PROJECT["dependencies"])
    assert used - optional <= declared, f"imported but not declared: {sorted(used - optional - declared)}"
    assert declared <= used, f"declared but not imported: {sorted(declared - used)}"


def test_imports_go_one_way():
    """methods -> scenes -> parts -> the modules at the top; parts do not import one another."""
    for path in files("jaxphys/*.py"):
        layer = path.relative_to(ROOT / "jaxphys").parts[0].removesuffix(".py")
        for name in imports(path):
            target = (name.split(".") + [""])[1] if name.startswith("jaxphys.") else ""
            forbidden = {"methods"} if layer == "scenes" else {"methods", "scenes"}
            if layer not in ("methods", "scenes"):
                forbidden |= PARTS
            if layer == "methods":
                forbidden = set()
            assert target not in forbidden - {layer}, f"{path.relative_to(ROOT)} imports {name}"


def test_importing_the_package_leaves_the_configuration_of_jax_alone():
    """Only a function that its caller asks for may change it: `sharding.start_processes`."""
    found = []
    for path in files("jaxphys/*.py"):
        tree = ast.parse(path.read_text())
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        covered = {id(n) for function in functions for n in ast.walk(function)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.config.update":
                found.append((path.name, id(node) in covered))
    assert found == [("sharding.py", True)], found


def test_no_machine_paths_or_registries_in_tracked_text():
    paths = re.compile(r"(?<![\w.~/$-])/(work|root|tmp|home|Users|opt)/\w")
    registries = re.compile(r"--(extra-)?index-url|--find-links|\bgit\+https|\.whl\b.*https?:|https?:\S*\.whl\b")
    for path in files():
        if path == Path(__file__) or b"\0" in path.read_bytes()[:4096]:  # binary
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not paths.search(line) and not registries.search(line), f"{path.relative_to(ROOT)}:{number}: {line}"


def test_no_large_file_lies_where_none_belongs():
    homes = ("tests", "docs", "experiments/assets", "jaxphys/pretrained")
    large = [p.relative_to(ROOT) for p in files(".") if p.stat().st_size > 500_000]
    assert not [str(p) for p in large if not str(p).startswith(homes)]


def test_data_is_small_single_and_credited():
    data = files("tests/data", "experiments/assets")
    assert sum(p.stat().st_size for p in data) <= 10e6
    digests = [hashlib.sha256(p.read_bytes()).digest() for p in data]
    assert len(set(digests)) == len(digests), "the same file twice under tests/data and experiments/assets"
    notice = (ROOT / "NOTICE").read_text()
    for path in files("experiments/assets/*.ply", "tests/data/*.ply"):
        assert str(path.relative_to(ROOT)) in notice, f"NOTICE does not say whose {path.name} is"
