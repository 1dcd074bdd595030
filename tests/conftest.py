"""Eight virtual devices, a persistent compile cache, and a time budget per part that the run itself checks."""

import os
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Most of the time here is compilation: without LLVM's optimisation and with XLA's older emitters it takes half as long,
# for the same mathematics; `make validate` and the benchmarks measure what users run.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_cpu_use_fusion_emitters=false"
FLAGS += " --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax  # noqa: E402
import pytest  # noqa: E402

collect_ignore_glob = ["golden/*"]  # programs that make goldens, in an environment of their own

# Seconds that a part takes, cold, on two cores with two workers: test time summed, over the number of workers.
BUDGET = {"mpm": 300, "splats": 60, "diffusion": 300, "body": 180, "rest": 360}
spent: Counter = Counter()


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the tests marked long and no others")


def pytest_collection_modifyitems(config, items):
    wanted = bool(config.getoption("--long"))
    sides: dict[bool, list] = {True: [], False: []}
    for item in items:
        sides[bool(item.get_closest_marker("long")) == wanted].append(item)
    config.hook.pytest_deselected(items=sides[False])
    items[:] = sides[True]


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def wall(config, part: str) -> float:
    return spent[part] / max(1, getattr(config.option, "numprocesses", None) or 1)


def part_of(nodeid: str) -> str:
    parts = nodeid.split("::")[0].split("/")
    return next((p for p in parts if p in BUDGET), "rest")


def pytest_runtest_logreport(report):
    spent[part_of(report.nodeid)] += report.duration


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line("seconds per part (budget on two cores):")
    for part, budget in BUDGET.items():
        terminalreporter.write_line(f"  {part:10s} {wall(terminalreporter.config, part):6.1f} of {budget}")


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workerinput"):
        return
    over = [part for part, budget in BUDGET.items() if wall(session.config, part) > budget]
    if over and exitstatus == 0:
        print(f"\nover the time budget: {over}")
        session.exitstatus = 1
