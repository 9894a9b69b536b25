"""What workers import before their first task: not what only some of their tasks need."""

from __future__ import annotations

import subprocess
import sys

from mms_regions.run.loop import RunLoop


def test_workers_that_prepare_import_no_torch() -> None:
    module = RunLoop.__module__  # what a run asks its workers to import
    code = f"import sys, {module}, mms_regions.physics.conventions; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_run_without_requests_imports_no_library_for_them() -> None:
    code = "import sys, mms_regions.run.run; print(*{'requests', 'urllib3', 'stamina', 'xarray'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
