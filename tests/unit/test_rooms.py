"""The order of the rooms: who may import whom, and which room alone knows which library."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pipeline" / "mms_regions"

# Each room imports only from those above it.
ROOMS = """
    arrays clock errors files crash lock stopping
    catalogue settings pools frames archive recorded integrity traffic web servers staging transfer manifest fetch
    burst physics samples features saved published corrected native card model label plan receipts labelled layout
    sensitivity store labelling
    tasks cluster credentials slurm allocation clusters observe trace status verify prepare inputs prestage forecast
    outstanding redo provenance showing line run reading cautions stretches netcdf strips pictures overviews tplot
    export ions opened facts efficiency pages event_page report scores layer crossing level2 instruments
    synthetic faults shelf loopback train demo findings probe libraries queues places doctor
    options cli_config cli_models cli_fetch cli_demo cli_status cli_report cli_doctor cli __main__
""".split()

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
RNN_FILES = [path for path in FILES if path.stem in {"model", "label"}]


def names_imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Full dotted names of what these nodes import, `from a import b` as `a.b`, relative ones resolved."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = ".".join(filter(None, ["mms_regions" if node.level else "", node.module]))
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def nodes_run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside functions and `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        only_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not only_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from nodes_run_at_import(node)


def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in names_imported(ast.walk(ast.parse(path.read_text())))}


def rooms_among(names: set[str]) -> set[str]:
    """The rooms behind `mms_regions.<room>...`; the package itself counts as `__init__`."""
    inside = [name.split(".") for name in names if name.partition(".")[0] == "mms_regions"]
    return {parts[1] if len(parts) > 1 else "__init__" for parts in inside} - {"__version__"}


def test_every_module_has_a_place_in_the_list() -> None:
    assert FILES, f"no modules in {PACKAGE}"
    assert {str(path.relative_to(PACKAGE)) for path in FILES} <= {f"{room}.py" for room in ROOMS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_room_imports_only_from_rooms_above_it(path: Path) -> None:
    above = ROOMS[: ROOMS.index(path.stem)]
    imported = rooms_among(names_imported(ast.walk(ast.parse(path.read_text()))))
    assert imported <= set(above), f"{path.name} imports {sorted(imported - set(above))}, not above it in the list"


def test_importing_the_package_alone_brings_in_nothing_but_the_standard_library() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    at_import = {name.partition(".")[0] for name in names_imported(nodes_run_at_import(tree))}
    assert at_import <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("library", "knowing"),
    [("pycdfpp", {"integrity", "burst", "level2"}), ("zarr", {"layout", "store"})],
    ids=["cdf", "zarr"],
)
def test_only_these_rooms_know_the_library(library: str, knowing: set[str]) -> None:
    assert {path.stem for path in FILES if library in libraries(path)} <= knowing


@pytest.mark.parametrize("path", RNN_FILES, ids=lambda path: path.stem)
def test_the_rnn_imports_torch_and_numpy_alone(path: Path) -> None:
    names = names_imported(nodes_run_at_import(ast.parse(path.read_text())))
    outside = {name.partition(".")[0] for name in names} - {"mms_regions"}
    assert outside <= sys.stdlib_module_names | {"torch", "numpy"}
    assert rooms_among(names) <= {"arrays", "errors", "files", "model"}


IMPORT_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pydantic", "zarr", "dask", "safetensors", "xarray"}:
            raise ModuleNotFoundError(f"{name} is kept away by this test", name=name)

sys.meta_path.insert(0, Absent())
import mms_regions.model, mms_regions.label
"""


@pytest.mark.skipif(len(RNN_FILES) < 2, reason="model.py and label.py are not both there")
def test_the_rnn_can_be_imported_where_only_torch_and_numpy_are() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
