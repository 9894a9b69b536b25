"""From CDF files to a `Burst`: what is read, what is masked, and one sentence for every file that cannot be used."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycdfpp
import pytest
from cdf_files import EPOCH_FILL, Arrays, Edit, Scene, constant, relabel_spacecraft, take_rows, write_files
from in_a_child import die_of_electrons

from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, CdfFile, find_files, parse_name
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.events import Event, Segment
from mms_regions.physics.burst import Burst, fill_values, read_burst
from mms_regions.physics.frames import gse_to_gsm

START = "2017-07-11T22:34:00"
START_NS = int(np.datetime64(START, "ns").astype(np.int64))
PRODUCTS = (DIS, DES, FGM, EDP_BURST, EDP_FAST)
EVENT = Event(name="A", t_start="2017-07-11T22:34:00.5", t_end="2017-07-11T22:34:01.5", B0=12.0, n0=0.1)


def read(data_dir: Path, event: Event = EVENT, **options: Any) -> Burst:
    return read_burst(find_files(Segment(event, 4), PRODUCTS, data_dir), event.trange, **options)


def write(data_dir: Path, key: str, edit: Edit) -> Path:
    """Two seconds of files, those of one product edited; its path."""
    return write_files(data_dir, 4, START, 2.0, edit={key: edit})[key]


def problem_of(data_dir: Path, event: Event = EVENT) -> str:
    with pytest.raises(SegmentProblem) as problem:
        read(data_dir, event)
    text = str(problem.value)
    assert "\n" not in text
    return text


def setting(name: str, rows: Any, value: Any) -> Edit:
    def edit(arrays: Arrays) -> Arrays:
        arrays[name][rows] = value
        return arrays

    return edit


def without(name: str) -> Edit:
    return lambda arrays: {key: values for key, values in arrays.items() if key != name}


# What is read


def test_rows_are_those_in_the_time_range_both_ends_in(tmp_path: Path) -> None:
    write_files(tmp_path, 4, START, 2.0)
    burst = read(tmp_path)
    seconds = [(x.time - START_NS) / 1e9 for x in (burst.ions, burst.electrons, burst.magnetic, burst.electric)]
    assert [len(t) for t in seconds] == [7, 34, 129, 8193]
    np.testing.assert_allclose([t[0] for t in seconds], [0.6, 0.51, 0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose([t[-1] for t in seconds], [1.5, 1.5, 1.5, 1.5], atol=1e-9)
    assert burst.electric_fast is not None and len(burst.electric_fast.time) == 33


def test_values_are_those_of_the_files(tmp_path: Path) -> None:
    scene = Scene(
        v_e=lambda t: np.multiply.outer(t, [1.0, 2.0, 3.0]), n_bg=constant(0.01), p_bg=constant(0.02), n_i=constant(0.3)
    )
    write_files(tmp_path, 4, START, 2.0, scene)
    burst = read(tmp_path)
    centre = (burst.electrons.time - START_NS) / 1e9 + 0.015
    np.testing.assert_allclose(burst.electrons.v_gse, np.multiply.outer(centre, [1.0, 2.0, 3.0]), rtol=1e-6)
    np.testing.assert_allclose(burst.magnetic.b_gse[0], [10, 2, 5])
    np.testing.assert_allclose(burst.magnetic.b_mag, np.sqrt(129), rtol=1e-6)
    np.testing.assert_allclose(burst.electric.e_gse[-1], [0.5, -1, 2])
    assert burst.ions.n_bg is not None and burst.ions.p_bg is not None
    np.testing.assert_allclose([burst.ions.n[0], burst.ions.n_bg[0], burst.ions.p_bg[0]], [0.3, 0.01, 0.02], rtol=1e-6)
    np.testing.assert_allclose(burst.electrons.p_gse[3], 0.02 * np.eye(3), rtol=1e-6)
    assert burst.electrons.n_bg is None and set(burst.electrons.spectra) == {"omni", "par", "perp", "anti"}


def test_accumulations_are_whole_although_the_files_have_float32_seconds(tmp_path: Path) -> None:
    write_files(tmp_path, 4, START, 2.0)
    burst = read(tmp_path)
    assert (burst.ions.accumulation, burst.electrons.accumulation) == (150_000_000, 30_000_000)


def test_rows_say_which_file_they_are_from(tmp_path: Path) -> None:
    for second in (0, 1, 2):
        write_files(tmp_path, 4, f"2017-07-11T22:34:0{second}", 1.0, products=["dis", "des", "fgm", "edp_brst"])
    magnetic = read_burst(find_files(Segment(EVENT, 4), PRODUCTS[:4], tmp_path), EVENT.trange).magnetic
    assert [file.name[17:31] for file in magnetic.files] == ["20170711223400", "20170711223401"]
    np.testing.assert_array_equal(magnetic.source, magnetic.time >= START_NS + 10**9)


def test_the_fast_field_is_read_only_where_it_is_given(tmp_path: Path) -> None:
    write_files(tmp_path, 4, START, 2.0)
    files = find_files(Segment(EVENT, 4), PRODUCTS[:4], tmp_path)
    burst = read_burst(files, EVENT.trange)
    assert burst.electric_fast is None
    assert {file.product for file in burst.files} == {p.name for p in PRODUCTS[:4]}


def test_files_outside_the_range_are_not_inputs(tmp_path: Path) -> None:
    write_files(tmp_path, 4, "2017-07-11T22:33:00", 2.0, products=["fgm", "des"])
    write_files(tmp_path, 4, START, 2.0)
    assert [file.name for file in read(tmp_path).files if "223300" in file.name] == []


def test_position_is_the_mean_over_the_interval(tmp_path: Path) -> None:
    def moving(arrays: Arrays) -> Arrays:
        t = (arrays["epoch_state"] - START_NS) / 1e9
        arrays["r_gse"][:, :3] = np.multiply.outer(t, [100.0, -200.0, 50.0])
        arrays["r_gse"][1] = np.float32(-1e31)  # at t = 0: bridged by its neighbours
        return arrays

    write(tmp_path, "fgm", moving)
    np.testing.assert_allclose(read(tmp_path).position_gse, [100.0, -200.0, 50.0], rtol=1e-4)


def test_no_position_is_nan(tmp_path: Path) -> None:
    write(tmp_path, "fgm", setting("r_gse", slice(None), -1e31))
    assert np.isnan(read(tmp_path).position_gse).all()


def test_a_measured_field_file_is_read_and_turns_as_the_instrument_team_says(tmp_path: Path, reference: Path) -> None:
    real = next((reference / "real").glob("mms1_fgm_*.cdf"))
    write_files(tmp_path, 1, "2015-10-16T13:06:00", 4.0, products=["dis", "des", "edp_brst"])
    event = Event(name="real", t_start="2015-10-16T13:06:01", t_end="2015-10-16T13:06:03", B0=10.0, n0=10.0)
    file = parse_name(real)
    assert file is not None
    burst = read_burst(
        {**find_files(Segment(event, 1), [DIS, DES, EDP_BURST], tmp_path), FGM.key: [file]}, event.trange
    )
    b = burst.magnetic
    assert len(b.time) in (256, 257) and np.isfinite(b.b_gse).all()
    np.testing.assert_allclose(np.linalg.norm(b.b_gse, axis=1), b.b_mag, rtol=1e-4)
    assert 10 < np.linalg.norm(burst.position_gse) / 6371 < 13
    cdf = pycdfpp.load(str(real))
    rows = np.isin(pycdfpp.to_datetime64(cdf["Epoch"]).astype(np.int64), b.time)
    np.testing.assert_allclose(gse_to_gsm(b.time, b.b_gse), cdf["mms1_fgm_b_gsm_brst_l2"].values[rows, :3], atol=0.01)


# What is masked


def test_fill_values_are_nan(tmp_path: Path) -> None:
    write_files(tmp_path, 4, START, 2.0, Scene(n_e=lambda t: np.where(t < 1, np.nan, 0.2)))
    electrons = read(tmp_path).electrons
    np.testing.assert_array_equal(np.isnan(electrons.n), electrons.time < START_NS + 985_000_000)
    assert np.isfinite(electrons.v_gse).all()


@pytest.mark.parametrize(
    ("key", "name", "row", "value", "seen"),
    [
        ("edp_brst", "dce_gse", 6000, 701.0, lambda burst: burst.electric.e_gse[6000 - 4096]),
        ("fgm", "b_gse", 100, -20_001.0, lambda burst: burst.magnetic.b_gse[100 - 64]),
        ("des", "numberdensity", 30, -1e-6, lambda burst: burst.electrons.n[30 - 17]),
        ("dis", "bulkv_gse", 5, 2e5, lambda burst: burst.ions.v_gse[5 - 4]),
    ],
)
def test_values_out_of_their_valid_range_are_nan_unless_only_fill_values_count(
    tmp_path: Path, key: str, name: str, row: int, value: float, seen: Callable[[Burst], np.ndarray]
) -> None:
    write(tmp_path, key, setting(name, row, value))
    assert np.isnan(seen(read(tmp_path))).all()
    np.testing.assert_array_equal(seen(read(tmp_path, invalid=fill_values)), np.float32(value))


def test_each_component_has_a_valid_range_of_its_own(tmp_path: Path) -> None:
    """The magnitude of B (the fourth column) is never negative, a component may be."""
    write(tmp_path, "fgm", setting("b_gse", 100, -5.0))
    magnetic = read(tmp_path).magnetic
    assert (magnetic.b_gse[36] == -5).all() and np.isnan(magnetic.b_mag[36])


def test_a_flagged_field_is_nan(tmp_path: Path) -> None:
    write(tmp_path, "fgm", setting("flag", slice(90, 100), 4))
    magnetic = read(tmp_path).magnetic
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(magnetic.b_gse).any(axis=1)), np.arange(26, 36))


def test_error_flags_and_quality_are_passed_on_as_they_are(tmp_path: Path) -> None:
    edits = {"des": setting("errorflags", 20, 2**11), "edp_brst": setting("quality", 5000, 1)}
    write_files(tmp_path, 4, START, 2.0, edit=edits)
    burst = read(tmp_path)
    assert burst.electrons.error_flags[3] == 2**11 and burst.electric.quality[904] == 1
    assert np.isfinite(burst.electrons.n).all() and np.isfinite(burst.electric.e_gse).all()


# What is refused


@pytest.mark.parametrize("key", ["fgm", "des"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, key: str) -> None:
    path = write_files(tmp_path, 4, START, 2.0)[key]
    whole = path.read_bytes()
    lengths = {0, 8, 27, 28, 100, 312, 400, len(whole) // 2, len(whole) - 1, *range(500, len(whole), len(whole) // 17)}
    assert len(lengths) >= 25
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        text = problem_of(tmp_path)
        assert text.startswith(f"{path.name}: ") and f"(it has {length:,})" in text and "fetch it again" in text


def test_a_cut_file_of_the_archive_is_refused(tmp_path: Path, reference: Path) -> None:
    real = next((reference / "real").glob("mms1_fgm_*.cdf"))
    cut = tmp_path / real.name
    cut.write_bytes(real.read_bytes()[:-1000])
    file = parse_name(cut)
    assert file is not None
    cut = rf"{real.name}: truncated from [\d,]+ bytes \(it has [\d,]+\); fetch it again"
    with pytest.raises(SegmentProblem, match=cut):
        read_burst({FGM.key: [file]}, EVENT.trange)


@pytest.mark.parametrize(
    "content",
    [
        bytes(5000),
        b"<!DOCTYPE html><html>429 Too Many Requests</html>" * 9,
        b'{"error": "busy"}',
        b"\xcd\xf3\x00\x01" * 99,
    ],
)
def test_what_is_no_cdf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write_files(tmp_path, 4, START, 2.0)["dis"]
    path.write_bytes(content)
    assert problem_of(tmp_path).startswith(f"{path.name}: not a CDF file of version 3 (it has {len(content):,})")


def test_a_tail_of_zeros_never_ends_the_process(tmp_path: Path) -> None:
    """The length is right, the end was never written: it is refused as long as it is more than a last text."""
    paths = write_files(tmp_path, 4, START, 2.0)
    code = """
        import sys
        from pathlib import Path
        from mms_regions.archive.products import parse_name
        from mms_regions.physics.burst import read_burst
        from mms_regions.core.errors import SegmentProblem
        begin, *names = sys.argv[1:]
        files = {key: [parse_name(Path(name))] for key, name in zip(("dis", "des", "fgm", "edp_brst"), names)}
        for key in ("fgm", "des"):
            path = files[key][0].path
            whole = path.read_bytes()
            for part in range(40):
                kept = len(whole) * part // 40
                path.write_bytes(whole[:kept] + bytes(len(whole) - kept))
                try:
                    read_burst(files, (int(begin), int(begin) + 10**9))
                    print("values")
                except SegmentProblem as problem:
                    print("problem" if path.name in str(problem) else problem)
            path.write_bytes(whole)
    """
    names = [str(paths[key]) for key in ("dis", "des", "fgm", "edp_brst")]
    command = [sys.executable, "-c", textwrap.dedent(code), str(START_NS), *names]
    run = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    answers = run.stdout.split("\n")[:-1]
    assert len(answers) == 80 and set(answers) <= {"problem", "values"} and answers.count("problem") >= 76


def test_a_variable_that_does_not_say_its_fill_value_is_refused(tmp_path: Path) -> None:
    path = write_files(tmp_path, 4, START, 2.0)["edp_brst"]
    path.write_bytes(path.read_bytes().replace(b"FILLVAL", b"FULLVAL"))
    assert problem_of(tmp_path).startswith(f"{path.name}: mms4_edp_dce_gse_brst_l2 does not say its FILLVAL")


@pytest.mark.parametrize("limit", ["FILLVAL", "VALIDMIN", "VALIDMAX"])
def test_a_limit_that_is_a_text_is_named_as_the_cause(tmp_path: Path, limit: str) -> None:
    path = write_files(tmp_path, 4, START, 2.0)["des"]
    cdf, changed = pycdfpp.load(str(path)), pycdfpp.CDF()
    for name, variable in cdf.items():
        changed.add_variable(name, values=variable.values, data_type=variable.type, is_nrv=variable.is_nrv)
        for key, attribute in variable.attributes.items():
            is_it = (name, key) == ("mms4_des_numberdensity_brst", limit)
            changed[name].add_attribute(key, "-1.0E31" if is_it else attribute.value)
    assert pycdfpp.save(changed, str(path))
    expected = f"{path.name}: mms4_des_numberdensity_brst has '-1.0E31' as its {limit}, which is no number; fetch the"
    assert problem_of(tmp_path).startswith(expected)


def test_a_file_of_another_spacecraft_is_refused(tmp_path: Path) -> None:
    path = write_files(tmp_path, 4, START, 2.0)["des"]
    relabel_spacecraft(path, 2)
    expected = f"{path.name}: holds mms2_fpi_brst_l2_des-moms, not mms4_fpi_brst_l2_des-moms as its name says"
    assert problem_of(tmp_path).startswith(expected)


@pytest.mark.parametrize(
    ("key", "name", "variable", "hint"),
    [
        ("dis", "numberdensity_bg", "mms4_dis_numberdensity_bg_brst", "from version 3.3 on"),
        ("dis", "pres_bg", "mms4_dis_pres_bg_brst", "from version 3.3 on"),
        ("dis", "epoch_plus_var", "Epoch_plus_var", "fetch the file again"),
        ("des", "epoch", "Epoch", "fetch the file again"),
        ("des", "energyspectr_anti", "mms4_des_energyspectr_anti_brst", "fetch the file again"),
        ("fgm", "flag", "mms4_fgm_flag_brst_l2", "fetch the file again"),
        ("edp_brst", "dce_gse", "mms4_edp_dce_gse_brst_l2", "2023-07-03"),
        ("edp_fast", "quality", "mms4_edp_quality_fast_l2", "fetch the file again"),
    ],
)
def test_a_missing_variable_is_named(tmp_path: Path, key: str, name: str, variable: str, hint: str) -> None:
    path = write(tmp_path, key, without(name))
    text = problem_of(tmp_path)
    assert text.startswith(f"{path.name}: no variable {variable};") and hint in text


@pytest.mark.parametrize(
    ("key", "name", "change", "variable"),
    [
        ("des", "bulkv_gse", lambda values: values[:-1], "mms4_des_bulkv_gse_brst"),
        ("des", "numberdensity", lambda values: values[:0], "mms4_des_numberdensity_brst"),
        ("dis", "prestensor_gse", lambda values: values[:, 0], "mms4_dis_prestensor_gse_brst"),
        ("fgm", "b_gse", lambda values: values[:, :3], "mms4_fgm_b_gse_brst_l2"),
        ("fgm", "r_gse", lambda values: values[:-1], "mms4_fgm_r_gse_brst_l2"),
        ("edp_brst", "quality", lambda values: np.append(values, values), "mms4_edp_quality_brst_l2"),
        ("edp_brst", "epoch", lambda values: values[:-1], "mms4_edp_dce_gse_brst_l2"),
    ],
)
def test_a_variable_that_does_not_fit_its_times_is_refused(
    tmp_path: Path, key: str, name: str, change: Callable[[np.ndarray], np.ndarray], variable: str
) -> None:
    path = write(tmp_path, key, lambda arrays: {**arrays, name: change(arrays[name])})
    assert problem_of(tmp_path).startswith(f"{path.name}: {variable} has shape (")


@pytest.mark.parametrize("seconds", [0.0, -1e31, np.nan])
def test_an_accumulation_must_last(tmp_path: Path, seconds: float) -> None:
    path = write(tmp_path, "dis", setting("epoch_plus_var", 0, seconds))
    assert problem_of(tmp_path).startswith(f"{path.name}: Epoch_plus_var is ")


@pytest.mark.parametrize(("key", "epoch"), [("dis", "Epoch"), ("fgm", "Epoch"), ("edp_brst", "mms4_edp_epoch_brst_l2")])
def test_times_that_run_backwards_are_refused(tmp_path: Path, key: str, epoch: str) -> None:
    def swapped(arrays: Arrays) -> Arrays:
        rows = np.arange(len(arrays["epoch"]))
        rows[[4, 5]] = [5, 4]
        return take_rows(arrays, rows)

    path = write(tmp_path, key, swapped)
    assert problem_of(tmp_path).startswith(f"{path.name}: {epoch} runs backwards at row 5 (2017-07-11T22:34:00.")


@pytest.mark.parametrize(
    ("key", "name", "row"),
    [("des", "epoch", 0), ("des", "epoch", -1), ("edp_brst", "epoch", 9), ("fgm", "epoch_state", 0)],
)
def test_fill_values_in_times_are_refused(tmp_path: Path, key: str, name: str, row: int) -> None:
    path = write(tmp_path, key, setting(name, row, EPOCH_FILL))
    text = problem_of(tmp_path)
    assert text.startswith(f"{path.name}: ") and "poch" in text and "holds fill values" in text


def test_no_sample_in_the_range_names_product_and_files(tmp_path: Path) -> None:
    write_files(tmp_path, 4, START, 2.0)
    later = EVENT.model_copy(update=dict(t_start=EVENT.t_start + 10**10, t_end=EVENT.t_end + 10**10))
    text = problem_of(tmp_path, later)
    assert "mms4: no sample of fgm_brst_l2 between 2017-07-11T22:34:10.5" in text
    assert "mms4_fgm_brst_l2_20170711223400_v5.96.0.cdf" in text and "fetch it" in text


def test_a_file_without_rows_is_no_sample(tmp_path: Path) -> None:
    write(tmp_path, "dis", lambda arrays: take_rows(arrays, np.zeros(len(arrays["epoch"]), bool)))
    assert "no sample of fpi_brst_l2_dis-moms" in problem_of(tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    files: dict[str, Sequence[CdfFile]] = {}
    for key, path in write_files(tmp_path, 4, START, 2.0).items():
        file = parse_name(path)
        assert file is not None
        files[key] = [file]
    folder = tmp_path / files["des"][0].name
    folder.mkdir()
    files["des"] = [replace(files["des"][0], path=folder)]
    with pytest.raises(SegmentProblem, match=r"des-moms_20170711223400_v3.4.0.cdf: cannot be read \(Is a directory\)"):
        read_burst(files, EVENT.trange)
    folder.rmdir()
    with pytest.raises(SegmentProblem, match=r"cannot be read \(No such file or directory\)"):
        read_burst(files, EVENT.trange)


def test_values_that_end_the_library_fail_their_file_and_not_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, 4, START, 2.0)
    files = find_files(Segment(EVENT, 4), PRODUCTS, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("mms_regions.archive.cdf_check._read_variables", die_of_electrons)
        with pytest.raises(SegmentProblem, match=r"des-moms_.*the process that read it was ended by SIGSEGV"):
            read_burst(files, EVENT.trange)
    assert read_burst(files, EVENT.trange).electrons.n.size
