"""Stores of the reference cases, convention published, labelled with the authors' weights; only to be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mms_regions.cli.main import main


@pytest.fixture(scope="session")
def command() -> Callable[..., int]:
    """The command in this process; its exit code."""

    def call(*words: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["mms-regions", *map(str, words)])
            with pytest.raises(SystemExit) as stop:
                main()
        return int(stop.value.code or 0)

    return call


@pytest.fixture(scope="session")
def published_stores(
    reference: Path, command: Callable[..., int], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """By the name of the case, A-mms4 and D-mms2."""
    folder = tmp_path_factory.mktemp("cases")
    stores = {case: folder / f"{case}.zarr" for case in ("A-mms4", "D-mms2")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {**os.environ, "MMS_REGIONS_MODEL_DIR": str(folder / "models")})
        assert command("model", "import", reference / "models" / "best_model") == 0
        for case, store in stores.items():
            event, _, spacecraft = case.partition("-")
            data = reference / "reference" / case / "inputs"
            selection = ["--events", event, "--probes", spacecraft[-1], "--data-dir", data, "--offline"]
            assert command("run", "--store", store, *selection, "--convention", "published", "--workers", 0) == 0
    return stores
