"""Every notebook runs from top to bottom, in an empty folder.

The install cell of a notebook first asks `importlib.util.find_spec('jaxphys')` and calls pip only where that is None;
here, and on a machine that has jaxphys, the cell does nothing.
"""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # an install cell that reaches for the network fails at once
    monkeypatch.setenv("MPLBACKEND", "agg")
    if path.stem == "motionphysics":  # it runs for longer than it compiles
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
    notebook = nbformat.read(path, as_version=4)
    installs = [c.source for c in notebook.cells if c.cell_type == "code" and "pip install" in c.source]
    assert all("find_spec" in source for source in installs), "the install cell must ask find_spec('jaxphys') first"
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
