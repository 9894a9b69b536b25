"""Reports say plainly what went well and what did not, and a folder of one is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from fakes import dies
from processes import Nursery
from report_pages import content, names, words_of
from small_files import no_file_larger_than
from stores import run_folder

from mms_regions.core.errors import EnvironmentProblem
from mms_regions.core.lock import hold
from mms_regions.store.paths import lock_path
from mms_regions.store.read import attributes_of, open_segment, open_store

pytestmark = pytest.mark.system

Command = Callable[..., "CompletedProcess[str]"]
Words = Callable[..., list[object]]


def pictures(page: Path) -> int:
    return page.read_text().count('src="data:image/png;base64,')


# --- What is said


def test_what_failed_is_missing_or_cannot_be_read_is_told_with_its_reason(troubled_report: Path) -> None:
    index = words_of(troubled_report / "index.html")
    assert "6 segments of 4 events: 3 complete , 1 failed , 1 unreadable , 1 missing ." in index
    assert "3 of 6 segments have no labels that could be shown" in index
    cut = r"truncated from [\d,]+ bytes \(it has [\d,]+\); fetch it again"
    failed = rf"mms2_fgm_brst_l2_20170711103358_v[\d.]+\.cdf: {cut}"
    damaged = r"cannot be read: .+; `mms-regions verify \S+.+` names the damaged files"
    trouble = index[index.index("Failed and missing 3 of 6") : index.index("Before you trust a label")]
    assert re.search(rf"A/mms2 failed {failed} B/mms2 unreadable {damaged} C/mms1 missing It has not been", trouble)
    table = index[index.index("Click a heading to sort") : index.index("Settings that decide the numbers")]
    assert re.search(rf"A/mms2 failed 2017-07-11 10:34:00 6 {failed} ", table)
    assert re.search(rf"B/mms2 unreadable 2017-07-11 22:40:00 7.5 {damaged} ", table)
    assert re.search(r"C/mms1 missing 2017-07-11 23:00:00 30 It has not been made yet\.", table)


def test_each_event_has_a_page_that_says_the_same(troubled_report: Path) -> None:
    pages = {path.stem: words_of(path) for path in troubled_report.glob("events/*.html")}
    assert set(pages) == {"A", "LONG", "B", "C"}
    assert re.search(r"MMS2 failed Failed: mms2_fgm_brst_l2_\S+ truncated from", pages["A"])
    assert re.search(r"MMS2 unreadable Unreadable: cannot be read: ", pages["B"])
    assert "MMS1 missing It has not been made yet." in pages["C"]
    drawn = {path.stem: pictures(path) for path in troubled_report.glob("events/*.html")}
    assert drawn == {"A": 1, "LONG": 1, "B": 1, "C": 0}, "the others of an event are drawn all the same"
    assert pictures(troubled_report / "index.html") == 2, "an overview of segments, a timeline of tasks"


def test_what_is_flagged_and_has_no_label_is_told_with_its_share(troubled_report: Path, troubled: Path) -> None:
    data = open_segment(troubled, "LONG", 1)
    labelled, flagged = (data["label"].values >= 0).mean(), ((data["quality"].values & 4) != 0).mean()
    assert 0.85 < labelled < 0.95 and 0.05 < flagged < 0.1
    page, index = (words_of(troubled_report / name) for name in ("events/LONG.html", "index.html"))
    assert f"1,200 samples, {labelled:.1%} of them with a label" in page
    assert f"{1 - labelled:.1%} of the samples have no label" in page
    assert f"{flagged:.1%} of the samples carry the quality flag ions missing ." in page
    assert "Of 3 complete segments, 1 has samples without a label" in index
    assert re.search(rf"LONG/mms1 complete 2017-07-11 14:36:00 36 {labelled:.1%} .* ions missing {flagged:.1%}", index)
    whole = words_of(troubled_report / "events/A.html")
    assert "200 samples, 100% of them with a label" in whole and "quality flag" not in whole


def test_only_what_could_not_be_read_is_a_failure_of_the_report(
    troubled: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    done = mms_regions_here("report", troubled, "--out", tmp_path / "a", "--probes", 2, "--workers", 0)
    assert (done.returncode, done.stdout) == (4, f"{tmp_path / 'a' / 'index.html'}\n")
    (said,) = done.stderr.splitlines()
    assert said.startswith("mms-regions: B/mms2 cannot be read: ")
    told = mms_regions_here("report", troubled, "--out", tmp_path / "b", "--probes", 2, "--workers", 0, "--json")
    assert told.returncode == 4
    answer = json.loads(told.stdout)
    assert set(answer) == {"store", "index", "events", "pages", "causes", "failed"}
    assert set(answer["failed"]) == {"B/mms2"}
    means = "files cannot be fetched or read"
    assert answer["causes"] == {"files": {"status": "failed", "means": means, "count": 1, "segments": ["A/mms2"]}}
    assert (answer["events"], answer["pages"]) == (2, 2), "of so few segments each event has a page"
    assert Path(answer["index"]) == tmp_path / "b" / "index.html"
    fine = mms_regions_here("report", troubled, "--out", tmp_path / "c", "--events", "A,C", "--probes", "1-2")
    assert (fine.returncode, fine.stderr) == (0, ""), "failed and missing segments are the run's, and are in it"


def test_what_cannot_be_drawn_is_told_and_the_rest_is_there(
    healthy: Path, mms_regions_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **more: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr("mms_regions.report.event_page.segment_picture", fail)
    done = mms_regions_here("report", healthy, "--out", tmp_path / "r", "--events", "B", "--probes", 2, "--workers", 0)
    assert (done.returncode, done.stderr) == (4, "mms-regions: B/mms2 cannot be drawn: no ink\n")
    page = words_of(tmp_path / "r" / "events" / "B.html")
    assert "Without a picture: cannot be drawn: no ink" in page and "250 samples, 100% of them with a label" in page
    assert "B/mms2 complete cannot be drawn: no ink" in words_of(tmp_path / "r" / "index.html")


# --- What was run on what


def test_settings_versions_models_and_files_are_there(troubled_report: Path, troubled: Path) -> None:
    index, attributes = words_of(troubled_report / "index.html"), attributes_of(open_store(troubled))
    (run,) = attributes["provenance"]
    for name, value in run["settings"].items():
        shown = "none" if value is None else value
        assert f" {name} {shown} {run['origins'].get(name, 'default')} " in index
    assert "shard_samples 1024 profile " in index and "offline True flag --offline" in index
    for name, version in run["libraries"].items():
        assert f"{name} {version}" in index
    assert f"Python {run['python']}" in index and f"mms-regions {run['mms_regions']}" in index
    assert f"weights sha256 {attributes['model']['weights_sha256']}" in index
    assert f"troubled sha256 {attributes['catalogues'][0]['sha256']}" in index
    assert "convention corrected, margin 1.0, bridge 0.15" in index
    page = words_of(troubled_report / "events" / "LONG.html")
    files = json.loads(open_segment(troubled, "LONG", 1).attrs["inputs"])
    assert len(files) == 4
    for file in files:
        assert re.search(rf"{re.escape(file['name'])} [\d.]+ [kM]B {file['origin']} {file['sha256']}", page)
    assert "12 CDF files, " in index


def test_efficiency_is_that_of_the_trace(troubled_report: Path, troubled: Path) -> None:
    lines = [json.loads(line) for line in (run_folder(troubled) / "trace.jsonl").read_text().splitlines()]
    tasks = [line for line in lines if line["event"] == "TaskEnded"]
    index = words_of(troubled_report / "index.html")
    assert "6 segments to prepare, 4 shards to label;" in index and "1 worker process on 1 machine" in index
    for stage in ("fetch", "prepare", "write", "label"):
        own = [task for task in tasks if task["stage"] == stage]
        seconds, cpu = (sum(f(task) for task in own) for f in (lambda t: t["ended"] - t["started"], lambda t: t["cpu"]))
        assert re.search(
            rf" {stage} {len(own)} {seconds:.1f} {cpu:.1f} [\d.]+ [kM]?B(ytes)? 0 ", index.replace("bytes", "Bytes")
        )
    assert re.search(r" fetch 6 \S+ \S+ \S+ MB 0 1 ", index), "one of which failed"


@pytest.fixture(scope="module")
def of_another_model(tmp_path_factory: pytest.TempPathFactory, mms_regions_here: Command, run_words: Words) -> str:
    """The first page of a report of B/mms2, labelled by the model of the package, and perturbed."""
    folder = tmp_path_factory.mktemp("other")
    chosen = ("--events", "B", "--probes", 2, "--model", "analytic-layer", "--perturb", 0.1)
    done = mms_regions_here(*run_words(folder / "x.zarr", *chosen))
    assert done.returncode == 0, done.stderr
    done = mms_regions_here("report", folder / "x.zarr", "--out", folder / "r", "--workers", 0)
    assert done.returncode == 0, done.stderr
    return words_of(folder / "r" / "index.html")


def test_names_of_regions_are_inferred_where_the_weights_are_the_authors(
    troubled_report: Path, of_another_model: str
) -> None:
    index, page = (words_of(troubled_report / name) for name in ("index.html", "events/A.html"))
    assert "Names of regions are inferred , not printed by the authors" in index
    assert "Names of regions are inferred , not printed by the authors" in page
    assert "the meaning of its classes was inferred" in index
    assert "inferred" not in of_another_model
    assert "Labelled by analytic-layer , convention corrected" in of_another_model
    assert "of the form that Waters et al. (2025) published, model “analytic-layer”" in of_another_model


def test_stability_is_there_where_it_was_asked_for(troubled_report: Path, of_another_model: str) -> None:
    assert "moved by 10%" in of_another_model and re.search(
        r" Stability Flags B/mms2 complete .* 0\.\d{3} ", of_another_model
    )
    index = words_of(troubled_report / "index.html")
    assert (
        "Stability Flags A/mms1 complete" in index
        and "was not estimated; to do so, run mms-regions label STORE --model first --perturb 0.1" in index
    )


# --- While a store is made


def test_a_run_that_is_at_work_is_told(healthy: Path, mms_regions_here: Command, store: Path, tmp_path: Path) -> None:
    words = ("--events", "B", "--probes", 2, "--workers", 0)
    with hold(lock_path(store), "mms-regions run", pytest.fail):
        assert mms_regions_here("report", store, "--out", tmp_path / "r", *words).returncode == 0
    assert f"A run is in progress on this store (`mms-regions run`, pid {os.getpid()} on" in words_of(
        tmp_path / "r" / "index.html"
    )
    assert mms_regions_here("report", store, "--out", tmp_path / "r", *words).returncode == 0
    assert "A run is in progress" not in words_of(tmp_path / "r" / "index.html")


@pytest.fixture
def cut_short(mms_regions_here: Command, run_words: Words, tmp_path: Path) -> Callable[[str], Path]:
    """A store whose first run ended before a file got its name."""

    def made(pattern: str) -> Path:
        def fail(operation: str, path: Path) -> None:
            if fnmatch(f"{operation} {path}", pattern):
                raise EnvironmentProblem("the power is cut")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mms_regions.core.files.failpoint", fail)
            assert mms_regions_here(*run_words(tmp_path / "x.zarr", "--events", "B")).returncode == 5
        return tmp_path / "x.zarr"

    return made


def test_a_store_without_labels_has_a_report_that_says_so(
    cut_short: Callable[[str], Path], mms_regions_here: Command, tmp_path: Path
) -> None:
    store = cut_short("rename *.zarr/label/c/*")
    done = mms_regions_here("report", store, "--out", tmp_path / "r", "--workers", 0)
    assert done.returncode == 0, done.stderr
    index = words_of(tmp_path / "r" / "index.html")
    assert "To be labelled by first" in index and "2 of 2 segments have no labels that could be shown" in index
    assert re.search(r"B/mms1, B/mms2 prepared ", index)


def test_a_store_of_which_nothing_is_written_has_none(
    cut_short: Callable[[str], Path], mms_regions_here: Command, tmp_path: Path
) -> None:
    store = cut_short("rename *.run/labelled.json")
    done = mms_regions_here("report", store, "--out", tmp_path / "r", "--workers", 0)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert len(done.stderr.splitlines()) == 1 and str(store) in done.stderr
    assert not (tmp_path / "r").exists()


# --- The folder


SMALL = ("--events", "B", "--probes", 2, "--workers", 0)


def test_a_folder_of_others_is_refused_and_left_alone(healthy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "index.html").write_text("<title>My page</title>")
    (tmp_path / "file").write_text("mine")
    for taken in (out, tmp_path / "file"):
        done = mms_regions_here("report", healthy, "--out", taken, *SMALL)
        assert done.returncode == 2
        assert re.fullmatch(rf"mms-regions: {taken} exists and is not a report; name a new folder.*\n", done.stderr)
    assert content(tmp_path) == {"mine/index.html": b"<title>My page</title>", "file": b"mine"}


def test_an_empty_folder_and_an_older_report_are_taken(
    healthy: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    out = tmp_path / "r"
    out.mkdir()
    assert mms_regions_here("report", healthy, "--out", out, *SMALL).returncode == 0
    assert set(content(out)) == {"index.html", "bokeh.min.js", "events/B.html"}
    again = mms_regions_here("report", healthy, "--out", out, "--events", "A", "--probes", "1", "--workers", 0)
    assert again.returncode == 0
    assert set(content(out)) == {"index.html", "bokeh.min.js", "events/A.html"}, "nothing of the older one is left"
    assert "1 segment of 1 event:" in words_of(out / "index.html")
    assert names(tmp_path) == ["r"]


@pytest.mark.parametrize("room", [1_000, 60_000])
def test_where_there_is_no_room_nothing_is_left_and_an_older_report_stays(
    healthy: Path, mms_regions_here: Command, tmp_path: Path, room: int
) -> None:
    """For the page of the event, or for the first page after it."""
    out = tmp_path / "r"
    with no_file_larger_than(room):
        done = mms_regions_here("report", healthy, "--out", out, *SMALL)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith(f"mms-regions: {out}: File too large; raise the limit of file sizes (`ulimit -f`)")
    assert names(tmp_path) == []
    assert mms_regions_here("report", healthy, "--out", out, *SMALL).returncode == 0
    before = content(out)
    with no_file_larger_than(room):
        assert mms_regions_here("report", healthy, "--out", out, *SMALL).returncode == 5
    assert (names(tmp_path), content(out)) == (["r"], before)


@pytest.mark.system
def test_a_process_that_is_killed_is_named_and_leaves_nothing(
    store: Path, mms_regions_here: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mms_regions.report.report.write_event_page", dies)
    before = names(tmp_path)
    done = mms_regions_here("report", store, "--out", tmp_path / "r", "--events", "B", "--workers", 2)
    assert done.returncode == 5
    # Dask starts a worker again and repeats the task; the second sentence is that of a machine where that takes long.
    assert re.search("worker process that draws was killed|All workers on this machine have died", done.stderr)
    assert "--workers" in done.stderr
    assert names(tmp_path) == sorted([*before, "died"])


@pytest.mark.system
def test_pages_are_the_same_whatever_the_number_of_workers(
    healthy: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    for workers in (0, 2):
        out = tmp_path / str(workers)
        done = mms_regions_here("report", healthy, "--out", out, "--events", "A,B", "--probes", 1, "--workers", workers)
        assert done.returncode == 0, done.stderr
    made = re.compile(rb"on \d{4}-\d\d-\d\d \d\d:\d\d UTC from")
    one, two = (
        {name: made.sub(b"", page) for name, page in content(tmp_path / workers).items()} for workers in ("0", "2")
    )
    assert one == two and set(one) == {"index.html", "bokeh.min.js", "events/A.html", "events/B.html"}


def test_words_that_name_nothing_are_refused(healthy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    for words in (("--events", "Z"), ("--probes", 4)):
        done = mms_regions_here("report", healthy, "--out", tmp_path / "r", *words)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert mms_regions_here("report", tmp_path / "none.zarr", "--out", tmp_path / "r").returncode == 2
    assert names(tmp_path) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 75), (signal.SIGKILL, -9)])
def test_a_report_that_is_stopped_ends_with_the_processes_that_draw(
    healthy: Path,
    processes: Nursery,
    mms_regions_here: Command,
    environment: dict[str, str],
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    run = processes.start("report", healthy, "--out", tmp_path / "r", "--workers", 2, env=environment)
    while len(run.workers) < 2 or not names(tmp_path):
        assert run.lives, run.said
        time.sleep(0.01)
    os.kill(run.pid, number)
    assert run.wait().returncode == code  # it waits for its processes too
    assert not (tmp_path / "r").exists()
    if code == 75:
        assert names(tmp_path) == [] and "interrupted" in run.said and "Traceback" not in run.said
    else:
        assert len(names(tmp_path)) == 2, "the lock, and the pages that were made"
    assert mms_regions_here("report", healthy, "--out", tmp_path / "r", *SMALL).returncode == 0
    assert names(tmp_path) == ["r"]


def test_an_older_report_that_a_killed_one_had_moved_away_goes_back(
    healthy: Path, mms_regions_here: Command, tmp_path: Path
) -> None:
    assert mms_regions_here("report", healthy, "--out", tmp_path / "r", *SMALL).returncode == 0
    before = content(tmp_path / "r")
    (tmp_path / "r").rename(tmp_path / ".r.123-abc.older")
    with no_file_larger_than(1_000):
        assert mms_regions_here("report", healthy, "--out", tmp_path / "r", *SMALL).returncode == 5
    assert (names(tmp_path), content(tmp_path / "r")) == (["r"], before)
    shutil.copytree(tmp_path / "r", tmp_path / ".r.123-abc.older")
    assert mms_regions_here("report", healthy, "--out", tmp_path / "r", *SMALL).returncode == 0
    assert names(tmp_path) == ["r"]


def test_two_reports_are_not_made_in_one_place(healthy: Path, mms_regions_here: Command, tmp_path: Path) -> None:
    with hold(tmp_path / ".r.lock", "mms-regions report", lost=print):
        done = mms_regions_here("report", healthy, "--out", tmp_path / "r", *SMALL)
    assert done.returncode == 5 and "held by `mms-regions report`" in done.stderr, done.stderr
    assert names(tmp_path) == []
