"""CDF files with a few bytes changed in the heads of their records: refused, or read, and no process dies of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cdf_bytes import mutated
from cdf_files import write_files
from in_a_child import read_all

from mms_regions.archive.cdf_records import check_records
from mms_regions.core.isolated import run_isolated

SEEDS, AT_ONCE = 400, 50
PRODUCTS = ["dis", "fgm", "edp_brst"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_files(
        tmp_path_factory.mktemp("fuzz"), 4, "2017-07-11T22:34:00", 1.0, products=["dis", "fgm", "edp_brst"]
    )


@pytest.mark.system
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
@pytest.mark.parametrize("product", PRODUCTS)
def test_what_passes_the_checks_can_be_read(files: dict[str, Path], product: str, first: int) -> None:
    data, passed = files[product].read_bytes(), 0
    for seed in range(first, first + AT_ONCE):
        changed = mutated(data, seed)
        try:
            check_records(changed)
        except ValueError:
            continue
        passed += 1
        run_isolated(read_all, changed)  # raises ChildDied
    assert passed < AT_ONCE, "no change was noticed"
