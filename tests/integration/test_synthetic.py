"""Synthetic files are read as the crossing they were made from, are made the same again, and stay apart from others."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pycdfpp
import pytest
from archive_faults import LoopbackArchive

from mms_regions.archive.manifest import known_files
from mms_regions.archive.products import DES, DIS, EDP_BURST, EDP_FAST, FGM, find_files
from mms_regions.core.catalogue import Catalogue, read_catalogue
from mms_regions.core.errors import InputProblem, UsageProblem
from mms_regions.core.events import Event, Segment
from mms_regions.core.files import sha256_of
from mms_regions.core.settings import Settings
from mms_regions.core.types import NO_LABEL, SECOND, Flags, Floats, Times
from mms_regions.physics.burst import Burst, ElectricField, MagneticField, Moments, read_burst
from mms_regions.physics.conventions import convention
from mms_regions.physics.formulas import subtract_ion_background
from mms_regions.physics.frames import gse_to_gsm
from mms_regions.physics.samples import FEATURES, QUALITY_BITS, Samples
from mms_regions.synthetic.crossing import Crossing, draw_crossing
from mms_regions.synthetic.instruments import Troubles
from mms_regions.synthetic.write import DESCRIPTION, read_truth, synthesise, truth_path

Command = Callable[..., "CompletedProcess[str]"]

ALL = (DIS, DES, FGM, EDP_BURST, EDP_FAST)
SEED = 7
DAY = 86_400 * SECOND
MARGIN = 20.0  # s, more than files reach beyond an event


def event(name: str, start: str, seconds: int = 6) -> Event:
    begin = np.datetime64(start, "ns")
    return Event(name=name, t_start=begin, t_end=begin + np.timedelta64(seconds, "s"), B0=12.0, n0=0.2)


# Two events of one day, and one whose files begin on the day before.
NOON, LATER = event("NOON", "2017-07-11T10:34:00"), event("LATER", "2017-07-11T10:44:00")
NIGHT = event("NIGHT", "2017-07-12T00:00:03.5")
SEGMENTS = (Segment(NOON, 1), Segment(NOON, 2), Segment(LATER, 1), Segment(NIGHT, 1))
ONE = SEGMENTS[:1]
PERFECT = Troubles(perfect=True)


@dataclass(frozen=True)
class Made:
    """A folder of synthetic files."""

    folder: Path

    def burst(self, segment: Segment) -> Burst:
        """All that its files hold, also beyond the event."""
        begin, end = segment.event.trange
        beyond = round(MARGIN * SECOND)
        return read_burst(find_files(segment, ALL, self.folder, MARGIN), (begin - beyond, end + beyond))

    def prepared(self, segment: Segment, name: str) -> Samples:
        """The samples of a segment in the convention of this name."""
        how = convention(Settings(convention=name))
        begin, end = segment.event.trange
        around = round(how.margin * SECOND)
        files = find_files(segment, how.products, self.folder, how.margin)
        return how.samples(read_burst(files, (begin - around, end + around), how.invalid), segment.event)

    def hashes(self) -> dict[str, str]:
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): sha256_of(path) for path in files}

    def cdf_hashes(self, skip: str = "nothing") -> dict[str, str]:
        return {path: sha256 for path, sha256 in self.hashes().items() if path.endswith(".cdf") and skip not in path}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The events without any trouble; only to be read."""
    folder = tmp_path_factory.mktemp("clean")
    synthesise(SEGMENTS, folder, SEED, PERFECT)
    return Made(folder)


def crossing(segment: Segment) -> Crossing:
    return draw_crossing(SEED, segment.event.name, segment.event.B0, segment.event.n0)


def seconds(segment: Segment, time: Times) -> Floats:
    return (time - segment.event.trange[0]) / SECOND


# What is in the files


def test_files_have_the_names_of_the_archive_and_say_that_they_are_synthetic(clean: Made) -> None:
    files = find_files(SEGMENTS[0], ALL, clean.folder, MARGIN)
    names = [file.name.rpartition("_v")[0] for product in ALL for file in files[product.key]]
    assert [name for name in names if "1033" in name or "fast" in name] == [
        "mms1_fpi_brst_l2_dis-moms_20170711103352",
        "mms1_fpi_brst_l2_des-moms_20170711103352",
        "mms1_fgm_brst_l2_20170711103352",
        "mms1_edp_brst_l2_dce_20170711103352",
        "mms1_edp_fast_l2_dce_20170711",
    ]
    for path in clean.folder.rglob("*.cdf"):
        assert pycdfpp.load(str(path)).attributes["TEXT"][0] == "SYNTHETIC DATA, NOT A MEASUREMENT", path.name
    assert json.loads((clean.folder / DESCRIPTION).read_text())["about"] == "SYNTHETIC DATA, NOT A MEASUREMENT"


def test_cadences_are_those_of_the_instruments_and_reach_beyond_the_event(clean: Made) -> None:
    burst = clean.burst(SEGMENTS[3])
    begin, end = NIGHT.trange
    assert burst.electric_fast
    for time, period in (
        (burst.ions.time, 0.15e9),
        (burst.electrons.time, 0.03e9),
        (burst.magnetic.time, 1e9 / 128),
        (burst.electric.time, 1e9 / 8192),
        (burst.electric_fast.time, 1e9 / 32),
    ):
        assert np.abs(np.diff(time) - period).max() <= 1
        assert time[0] < begin - 7 * SECOND and time[-1] > end + 3 * SECOND
    assert (burst.ions.accumulation, burst.electrons.accumulation) == (150_000_000, 30_000_000)


@pytest.mark.parametrize("segment", SEGMENTS[1:], ids=lambda segment: segment.folder)
def test_values_are_the_crossing_but_for_noise(clean: Made, segment: Segment) -> None:
    """Moments at the centre of what they are tagged with the start of, fields at their tags, vectors in GSM."""
    burst, way = clean.burst(segment), crossing(segment)
    noise = way.noise
    n_i, v_i, _ = subtract_ion_background(
        burst.ions.n, burst.ions.v_gse, burst.ions.p_gse, burst.ions.n_bg, burst.ions.p_bg
    )
    ions, electrons = burst.ions.time + 75_000_000, burst.electrons.time + 15_000_000
    for name, time, values, size in (
        ("b", burst.magnetic.time, burst.magnetic.b_gse, noise.b),
        ("e", burst.electric.time, burst.electric.e_gse, noise.e),
        ("v_e", electrons, burst.electrons.v_gse, noise.v_e),
        ("v_i", ions, v_i, noise.v_i),
    ):
        true = getattr(way.plasma(segment.probe, seconds(segment, time)), name)
        rest = gse_to_gsm(time, values) - true
        assert rest.std() == pytest.approx(size, rel=0.2), name
        assert np.abs(rest.mean(axis=0)).max() < 5 * size / np.sqrt(len(rest)), name
    for time, n in ((ions, n_i), (electrons, burst.electrons.n)):
        ratio = n / way.plasma(segment.probe, seconds(segment, time)).n
        assert ratio.std() == pytest.approx(noise.n, rel=0.3)
        assert ratio.mean() == pytest.approx(1.0, abs=5 * noise.n / np.sqrt(len(n)))


def test_electrons_are_tagged_at_the_start_of_their_accumulation(clean: Made) -> None:
    """Of all delays between tag and plasma, 15 ms fits the fast waves of v_e best."""
    segment, way = SEGMENTS[0], crossing(SEGMENTS[0])
    electrons = clean.burst(segment).electrons
    v_gsm = gse_to_gsm(electrons.time, electrons.v_gse)
    delays = np.arange(-60, 100, 15) * 1_000_000
    misfit = [
        ((way.plasma(1, seconds(segment, electrons.time + delay)).v_e - v_gsm) ** 2).mean() for delay in delays.tolist()
    ]
    assert delays[np.argmin(misfit)] == 15_000_000


def test_a_fast_mode_file_has_a_whole_day_and_only_that(clean: Made) -> None:
    """Both events of the day and the beginning of the one after midnight, whose rest is in the file of its own day."""
    files = find_files(SEGMENTS[3], [EDP_FAST], clean.folder, MARGIN)["edp_fast"]
    assert [file.name[:28] for file in files] == [
        "mms1_edp_fast_l2_dce_20170711"[:28],
        "mms1_edp_fast_l2_dce_20170712"[:28],
    ]
    times = [
        pycdfpp.to_datetime64(pycdfpp.load(str(file.path))["mms1_edp_epoch_fast_l2"]).astype(np.int64) for file in files
    ]
    days = [np.unique(time // DAY).tolist() for time in times]
    assert days == [[NOON.trange[0] // DAY], [NIGHT.trange[0] // DAY]]
    first_day = times[0]
    assert (np.diff(first_day) > 0).all() and int((np.diff(first_day) > SECOND).sum()) == 2
    for held in (NOON, LATER):
        assert ((first_day >= held.trange[0]) & (first_day <= held.trange[1])).sum() == pytest.approx(6 * 32, abs=1)
    whole = np.concatenate(times)[-18 * 32 :]
    assert np.abs(np.diff(whole) - SECOND / 32).max() <= 1


# Pieces, gaps, flags, background


def test_pieces_follow_each_other_without_a_lost_or_repeated_sample(clean: Made, tmp_path: Path) -> None:
    synthesise(ONE, tmp_path, SEED, Troubles(perfect=True, pieces=3))
    cut, whole = Made(tmp_path).burst(ONE[0]), clean.burst(ONE[0])
    for part in ("ions", "electrons", "magnetic", "electric"):
        pieces, one = getattr(cut, part), getattr(whole, part)
        assert (len(pieces.files), len(one.files)) == (3, 1)
        assert all(file.start <= pieces.time[pieces.source == i][0] for i, file in enumerate(pieces.files))
        for name, values in vars(one).items():
            if isinstance(values, np.ndarray) and name != "source":
                np.testing.assert_array_equal(getattr(pieces, name), values, err_msg=name)
    assert Made(tmp_path).prepared(ONE[0], "corrected").features.tobytes() == (
        clean.prepared(ONE[0], "corrected").features.tobytes()
    )


@pytest.mark.parametrize("asked", [{"gaps": 2}, {"flags": 2}], ids=["gaps", "flags"])
def test_gaps_and_flags_are_where_the_event_is_and_as_many_as_asked(
    clean: Made, tmp_path: Path, asked: dict[str, int]
) -> None:
    synthesise(ONE, tmp_path, SEED, Troubles(perfect=True, **asked))
    spoilt, whole = Made(tmp_path).burst(ONE[0]), clean.burst(ONE[0])
    begin, end = NOON.trange
    found = {"gaps": 0, "flags": 0}
    for part in ("ions", "electrons", "electric", "magnetic"):
        before, after = getattr(whole, part), getattr(spoilt, part)
        there = np.isin(before.time, after.time)
        for what, time, where in (("gaps", before.time, ~there), ("flags", after.time, bad(after))):
            found[what] += int((np.diff(where, prepend=False) & where).sum())
            assert ((time[where] >= begin) & (time[where] < end + 1.5 * SECOND)).all()
    assert found == {"gaps": 0, "flags": 0} | asked


def bad(data: Moments | MagneticField | ElectricField) -> Flags:
    """Samples with a flag; those of the magnetic field are masked by the reader."""
    if isinstance(data, Moments):
        return data.error_flags != 0
    return np.isnan(data.b_gse[:, 0]) if isinstance(data, MagneticField) else data.quality == 0


def test_a_heavy_background_leaves_the_corrected_moments_as_they_are(clean: Made, tmp_path: Path) -> None:
    synthesise(ONE, tmp_path, SEED, Troubles(perfect=True, background=True))
    heavy, light = Made(tmp_path).burst(ONE[0]).ions, clean.burst(ONE[0]).ions
    assert (heavy.n > 1.5 * light.n).any() and np.abs(heavy.n_bg - crossing(ONE[0]).n0).max() < 1e-6
    n, v, p = subtract_ion_background(heavy.n, heavy.v_gse, heavy.p_gse, heavy.n_bg, heavy.p_bg)
    n_light, v_light, p_light = subtract_ion_background(light.n, light.v_gse, light.p_gse, light.n_bg, light.p_bg)
    np.testing.assert_allclose(n, n_light, rtol=1e-4)  # files have single precision
    np.testing.assert_allclose(v, v_light, rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(p, p_light, atol=1e-4 * np.abs(p_light).max())


# Repeatable, and apart from other data


def test_a_second_folder_is_the_same_byte_for_byte(clean: Made, tmp_path: Path) -> None:
    synthesise(SEGMENTS, tmp_path, SEED, PERFECT)
    hashes = clean.hashes()
    assert Made(tmp_path).hashes() == hashes and len(hashes) == 4 * 4 + 3 + 4 + 1


def test_troubles_too_are_the_same_byte_for_byte(tmp_path: Path) -> None:
    for name in ("one", "other"):
        synthesise(ONE, tmp_path / name, SEED, Troubles(perfect=True, gaps=2, flags=1, background=True, pieces=2))
    assert Made(tmp_path / "one").hashes() == Made(tmp_path / "other").hashes()


def test_a_spacecraft_alone_is_what_it_is_among_others(clean: Made, tmp_path: Path) -> None:
    synthesise(SEGMENTS[1:2], tmp_path, SEED, PERFECT)
    alone = {path: digest for path, digest in Made(tmp_path).hashes().items() if path != DESCRIPTION}
    assert alone.items() <= clean.hashes().items() and len(alone) == 6


def test_the_same_again_into_the_same_folder_mends_it_and_other_data_is_refused(tmp_path: Path) -> None:
    synthesise(ONE, tmp_path, SEED)
    made = Made(tmp_path)
    whole = made.hashes()
    next(tmp_path.rglob("*.cdf")).unlink()
    synthesise(ONE, tmp_path, SEED)
    assert made.hashes() == whole
    for segments, seed, troubles in (
        (ONE, SEED + 1, Troubles()),
        (SEGMENTS[1:2], SEED, Troubles()),
        (ONE, SEED, Troubles(perfect=True, gaps=1)),
    ):
        with pytest.raises(InputProblem, match="holds other synthetic data"):
            synthesise(segments, tmp_path, seed, troubles)
    assert made.hashes() == whole


def test_a_folder_with_measured_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    real = tmp_path / "mms1" / "fgm" / "brst" / "l2" / "real.cdf"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"measured")
    with pytest.raises(InputProblem, match="holds MMS files that are not synthetic"):
        synthesise(ONE, tmp_path, SEED)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [real] and real.read_bytes() == b"measured"


def test_events_whose_files_would_overlap_are_refused_before_any_is_written(tmp_path: Path) -> None:
    near = [Segment(NOON, 1), Segment(event("NEAR", "2017-07-11T10:34:15"), 1)]
    with pytest.raises(UsageProblem, match="NOON/mms1 and NEAR/mms1 are less than 12 s apart"):
        synthesise(near, tmp_path, SEED)
    assert list(tmp_path.iterdir()) == []
    synthesise([near[0], Segment(near[1].event, 2)], tmp_path, SEED)  # other spacecraft, other files


def test_each_segment_is_told_when_its_burst_files_are_there(tmp_path: Path) -> None:
    told: list[str] = []
    synthesise(SEGMENTS[:2], tmp_path, SEED, observe=lambda segment: told.append(segment.key))
    assert told == ["NOON/mms1", "NOON/mms2"]


# The truth


def test_the_truth_is_the_region_of_every_electron_accumulation(clean: Made) -> None:
    segment, way = SEGMENTS[3], crossing(SEGMENTS[3])
    rows = list(csv.DictReader(truth_path(clean.folder, segment).read_text().splitlines()))
    assert list(rows[0]) == ["time", "region", "x_di", "z_di", "distance_di"]
    time = np.array([row["time"] for row in rows], "datetime64[ns]").astype(np.int64)
    assert time.tolist() == (clean.burst(segment).electrons.time + 15_000_000).tolist()
    x, z = way.place(1, seconds(segment, time))
    np.testing.assert_allclose([float(row["x_di"]) for row in rows], x, atol=1e-4)
    np.testing.assert_allclose([float(row["z_di"]) for row in rows], z, atol=1e-4)
    np.testing.assert_allclose([float(row["distance_di"]) for row in rows], way.layer.distance(x, z), atol=1e-4)
    region = way.region(1, seconds(segment, time))
    assert [int(row["region"]) for row in rows] == region.tolist()
    assert read_truth(clean.folder, segment, time).tolist() == region.tolist()


def test_the_truth_of_a_time_is_that_of_a_sample_within_15_ms(clean: Made) -> None:
    segment = SEGMENTS[0]
    time = clean.burst(segment).electrons.time + 15_000_000
    region = read_truth(clean.folder, segment, time)
    half = 15_000_000
    late = read_truth(clean.folder, segment, time + half - 1)
    assert late.tolist() == region.tolist() == read_truth(clean.folder, segment, time - half + 1).tolist()
    edges = np.array([time[0] - half - 1, time[0] - half, time[-1] + half, time[-1] + half + 1, 0])
    assert read_truth(clean.folder, segment, edges).tolist() == [NO_LABEL, region[0], region[-1], NO_LABEL, NO_LABEL]


def test_gaps_take_nothing_from_the_truth(clean: Made, tmp_path: Path) -> None:
    synthesise(ONE, tmp_path, SEED, Troubles(perfect=True, gaps=5, flags=5, background=True, pieces=4))
    assert truth_path(tmp_path, ONE[0]).read_bytes() == truth_path(clean.folder, ONE[0]).read_bytes()


def test_a_folder_without_a_truth_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputProblem, match="was not made by `mms-regions synthesise`"):
        read_truth(tmp_path, ONE[0], np.zeros(1, np.int64))


# Through the pipeline


@pytest.mark.parametrize("segment", SEGMENTS, ids=lambda segment: segment.folder)
def test_clean_events_have_all_features_and_a_truth_for_each_sample(clean: Made, segment: Segment) -> None:
    samples = clean.prepared(segment, "corrected")
    assert len(samples) == pytest.approx(200, abs=1)
    assert np.isfinite(samples.features).all() and not samples.quality.any()
    assert (read_truth(clean.folder, segment, samples.time) != NO_LABEL).all()
    published = clean.prepared(segment, "published")
    missing = np.flatnonzero(~np.isfinite(published.features).all(axis=1))
    assert np.isin(missing, [*range(10), *range(190, 201)]).all()  # only at edges, for want of a margin


def test_features_are_the_dimensionless_crossing(clean: Made) -> None:
    """In the units of the catalogue, so those of the layer times how much its own B0 and n0 differ."""
    segment, way = SEGMENTS[0], crossing(SEGMENTS[0])
    samples = clean.prepared(segment, "corrected")
    true = way.plasma(1, seconds(segment, samples.time))
    column = {name: samples.features[:, i] for i, name in enumerate(FEATURES)}
    assert (column["Bx"] - true.b[:, 0] / NOON.B0).std() < 0.02
    assert (column["By"] + true.b[:, 2] / NOON.B0).std() < 0.02
    assert (column["ne"] / (true.n / NOON.n0)).mean() == pytest.approx(1.0, abs=0.05)


def test_events_with_the_noise_of_real_files_are_prepared_and_say_what_was_done(tmp_path: Path) -> None:
    synthesise(ONE, tmp_path, SEED)
    samples = Made(tmp_path).prepared(ONE[0], "corrected")
    known = np.isfinite(samples.features).all(axis=1) & ~samples.bridged
    assert known.mean() >= 0.95
    said = {name for name, bit in QUALITY_BITS.items() if (samples.quality & bit).any()}
    assert {"fpi_caution", "partial"} <= said


@pytest.mark.system
@pytest.mark.timeout(300)
def test_the_whole_catalogue_is_fetched_in_one_go_and_then_labelled_offline(
    mms_regions: Command, mms_regions_here: Command, tmp_path: Path
) -> None:
    """23 events x 4 spacecraft, 6 s of each: fetched by four workers, run by two: 92 segments are complete."""
    whole = read_catalogue("rogers2023")
    short = Catalogue("short", tuple(event_of_6_s(row) for row in whole.events))
    written = tmp_path / "short.csv"
    rows = [f"{row.name},{row.t_start},{row.t_end},{row.B0},{row.n0}" for row in short.events]
    written.write_text("\n".join(["event,t_start,t_end,B0,n0", *rows]) + "\n")
    served, cache, store = Made(tmp_path / "served"), Made(tmp_path / "cache"), tmp_path / "all.zarr"
    synthesise(short.segments(), served.folder, SEED)
    with LoopbackArchive(served.folder, delay=0.01) as archive:
        server = ["--archive-url", archive.sdc_url, "--workers", 4, "--json"]
        fetched = mms_regions("fetch", written, "--data-dir", cache.folder, *server)
        assert 2 <= archive.most_at_once <= 4
        names = [request.name for request in archive.requests if request.name]
    assert fetched.returncode == 0, fetched.stderr
    files = served.cdf_hashes(skip="/fast/")
    assert cache.cdf_hashes() == files and len(names) == len(files) == 92 * 4
    assert {pin.name: pin.sha256 for pin in known_files(cache.folder).files} == {
        Path(path).name: sha256 for path, sha256 in files.items()
    }
    words = ["--data-dir", cache.folder, "--offline", "--workers", 2, "--model", "first", "--device", "cpu"]
    done = mms_regions("run", written, "--store", store, *words)
    assert done.returncode == 0, done.stderr
    counts = json.loads(mms_regions_here("status", store, "--json").stdout)["counts"]
    assert counts == {"complete": 92, "prepared": 0, "running": 0, "failed": 0, "no_data": 0, "missing": 0}


def event_of_6_s(row: Event) -> Event:
    return event(row.name, str(row.t_start)).model_copy(update={"B0": row.B0, "n0": row.n0})
