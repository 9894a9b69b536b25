"""The folders of the package are layers: each imports only from those before it; libraries stay in their folders."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pipeline" / "mms_regions"

# In the order of imports, see docs/architecture.md.
LAYERS = (
    "core",
    "archive",
    "workers",
    "physics",
    "model",
    "store",
    "run",
    "report",
    "export",
    "api",
    "notebook",
    "older",
    "synthetic",
    "training",
    "doctor",
    "cli",
)
MODULES = {"api", "notebook", "older"}  # of the root
MOST_LINES, MOST_MODULES = 420, 16

# Where a library may be imported: a folder, or a module of one.
CONFINED = {
    "pycdfpp": {"physics/burst", "archive/cdf_check", "synthetic/cdf_writer"},
    "zarr": {"store"},
    "torch": {"model", "training", "doctor/probe"},
    "distributed": {"workers"},
    "dask_jobqueue": {"workers"},
    "requests": {"archive"},
    "typer": {"cli"},
    "bokeh": {"report"},
    "matplotlib": {"report", "export/tplot", "api", "older"},
    "jinja2": {"report"},
    "PIL": {"report"},
    "numba": {"training"},
}

FILES = sorted(PACKAGE.rglob("*.py"))
NETWORK_FILES = [PACKAGE / "model" / f"{name}.py" for name in ("network", "fused", "label")]


def place(path: Path) -> str:
    """A module as it is named here, such as `core/errors`, or `api`."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def layer(module: str) -> str:
    return module.split("/")[0]


def names_imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Full dotted names of what these nodes import, `from a import b` as `a.b`."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute, so that this test can read them"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def nodes_run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those inside functions and `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        only_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not only_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from nodes_run_at_import(node)


@cache
def libraries(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in names_imported(ast.walk(ast.parse(path.read_text())))}


def layers_among(names: set[str]) -> set[str]:
    """The layers behind `mms_regions.<layer>...`."""
    return {name.split(".")[1] for name in names if name.startswith("mms_regions.")}


def test_every_module_is_in_a_layer_and_every_layer_says_what_it_is() -> None:
    assert FILES, f"no modules in {PACKAGE}"
    assert {layer(place(path)) for path in FILES} - {"__init__", "__main__"} == set(LAYERS)
    for folder in set(LAYERS) - MODULES:
        about = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text())) or ""
        assert 3 <= len(about.splitlines()) <= 8
        assert "May import" in about or folder == "core"
        assert "Read first" in about


@pytest.mark.parametrize("path", FILES, ids=place)
def test_a_module_imports_only_from_layers_before_its_own(path: Path) -> None:
    own = layer(place(path))
    if own in {"__init__", "__main__"}:
        return
    before = {*LAYERS[: LAYERS.index(own)], *([own] if own not in MODULES else [])}
    imported = layers_among(names_imported(ast.walk(ast.parse(path.read_text()))))
    assert imported <= before, f"{place(path)} imports from {sorted(imported - before)}, not before {own}"


@pytest.mark.parametrize("path", FILES, ids=place)
def test_no_module_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("folder", [name for name in LAYERS if name not in MODULES])
def test_no_folder_is_crowded(folder: str) -> None:
    assert len(list((PACKAGE / folder).glob("[!_]*.py"))) <= MOST_MODULES


@pytest.mark.parametrize("library", CONFINED)
def test_a_library_stays_where_it_belongs(library: str) -> None:
    using = {place(path) for path in FILES if library in libraries(path)}
    assert {name for name in using if not {name, layer(name)} & CONFINED[library]} == set()


def test_importing_the_package_alone_brings_in_nothing_but_the_standard_library() -> None:
    code = "import sys, mms_regions; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"numpy", "pydantic", "xarray", "torch", "zarr"} & set(done.stdout.split())


@pytest.mark.parametrize("path", NETWORK_FILES, ids=place)
def test_the_network_imports_torch_and_numpy_alone(path: Path) -> None:
    names = names_imported(nodes_run_at_import(ast.parse(path.read_text())))
    outside = {name.partition(".")[0] for name in names} - {"mms_regions"}
    assert outside <= sys.stdlib_module_names | {"torch", "numpy"}
    assert layers_among(names) <= {"core", "model"}


IMPORT_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pydantic", "zarr", "dask", "safetensors", "xarray"}:
            raise ModuleNotFoundError(f"{name} is kept away by this test", name=name)

sys.meta_path.insert(0, Absent())
import mms_regions.model.network, mms_regions.model.label
"""


def test_the_network_can_be_imported_where_only_torch_and_numpy_are() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
