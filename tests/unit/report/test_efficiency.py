"""What traces of runs tell of their workers: traces written by hand, of which the answers are plain."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from drawn import words_apart

from mms_regions.core.messages import Event, RunEnded, RunStarted, SegmentDone, TaskEnded, TaskLost
from mms_regions.report.efficiency import RunFigures, efficiency
from mms_regions.report.timeline_plot import timeline_picture
from mms_regions.store.paths import run_folder


def line(at: float, event: Event) -> str:
    """A line of `trace.jsonl`, at this many s since 1970."""
    return json.dumps({"event": type(event).__name__, "at": at, **asdict(event)})


def task(started: float, ended: float, stage: str = "prepare", **other: Any) -> TaskEnded:
    given = {"attempt": 1, "host": "n1", "worker": 7, "cpu": 1.0, "cpu_ended": 0.0, "bytes": 10, "peak_memory": 100}
    return TaskEnded(stage=stage, subject="A/mms1", started=started, ended=ended, **{**given, **other})


def figures(tmp_path: Path, text: str) -> tuple[RunFigures, ...]:
    store = tmp_path / "x.zarr"
    run_folder(store).mkdir()
    (run_folder(store) / "trace.jsonl").write_text(text)
    return efficiency(store)


def of_tasks(tmp_path: Path, *tasks: TaskEnded) -> RunFigures:
    lines = [line(0, RunStarted(2, 1)), *(line(one.ended, one) for one in tasks), line(100, RunEnded("complete"))]
    (run,) = figures(tmp_path, "\n".join(lines) + "\n")
    return run


def test_figures_are_by_stage_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    run = of_tasks(
        tmp_path,
        task(10, 12, "fetch", cpu=0.5, bytes=1000),
        task(12, 15, "prepare", reason="no file", trace="Traceback"),
        task(15, 19, "prepare", attempt=2, peak_memory=900),
        task(19, 20, "fetch", cpu=0.25, bytes=500, worker=8),
    )
    fetch, prepare = run.stages
    assert (fetch.name, fetch.tasks, fetch.seconds, fetch.cpu, fetch.bytes) == ("fetch", 2, 3, 0.75, 1500)
    assert (prepare.name, prepare.tasks, prepare.seconds) == ("prepare", 2, 7)
    assert (fetch.failed, fetch.repeated, prepare.failed, prepare.repeated) == (0, 0, 1, 1)
    assert (run.segments, run.shards, run.seconds, run.peak_memory) == (2, 1, 100, 900)
    assert (run.started, run.outcome) == (datetime(1970, 1, 1, tzinfo=UTC), "complete")


def test_a_timeline_has_a_row_for_each_process_and_marks_what_failed(tmp_path: Path) -> None:
    run = of_tasks(
        tmp_path,
        task(10, 12, "fetch"),
        task(12, 15, "prepare", reason="no file", trace="Traceback"),
        task(11, 14, "prepare", worker=8),
    )
    figure = timeline_picture(run.spans)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["n1 7", "n1 8"]
    assert figure.axes[0].get_xlim() == (0, 5)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fetch", "prepare", "failed"]
    (bars,) = figure.axes[0].collections
    corners = [path.get_extents() for path in bars.get_paths()]
    assert [(box.x0, box.x1, int(box.y0)) for box in corners] == [(0, 2, 0), (2, 5, 0), (1, 4, 1)]
    assert words_apart(figure)
    with pytest.raises(ValueError, match="no tasks"):
        timeline_picture(())


def test_tasks_that_overlap_in_one_process_keep_it_busy_once(tmp_path: Path) -> None:
    """Process 7 is at work from 0 to 6 and from 8 to 10, process 8 not at all but for 2 s: 10 of 2 x 10 s."""
    run = of_tasks(tmp_path, task(0, 6), task(1, 2), task(4, 6), task(8, 10), task(5, 7, worker=8))
    assert (run.workers, run.hosts) == (2, 1)
    assert run.busy == pytest.approx((8 + 2) / 20)


def test_a_process_is_one_of_its_machine_and_jobs_are_counted(tmp_path: Path) -> None:
    run = of_tasks(
        tmp_path,
        task(0, 1, batch_job="11"),
        task(0, 1, host="n2", batch_job="12"),
        task(1, 2, host="n2", batch_job="12"),
        task(0, 2, host="n3", worker=9),
    )
    assert (run.workers, run.hosts, run.batch_jobs) == (3, 3, 2)
    assert run.busy == pytest.approx((1 + 2 + 2) / 6)


def test_tasks_that_died_with_their_workers_are_lost(tmp_path: Path) -> None:
    lost = [line(3, TaskLost("label", "shard 1", attempt)) for attempt in (1, 2)]
    (run,) = figures(tmp_path, "\n".join([line(0, RunStarted(1, 1)), *lost, line(9, RunEnded("stopped"))]))
    assert (run.lost, run.outcome, run.stages, run.busy) == (2, "stopped", (), None)


def test_a_run_without_an_end_ends_with_its_last_line_and_a_torn_one_is_left_out(tmp_path: Path) -> None:
    whole = [line(100, RunStarted(3, 2)), line(107, task(101, 107)), line(109, SegmentDone("A/mms1"))]
    (run,) = figures(tmp_path, "\n".join(whole) + "\n" + line(190, task(180, 190))[:60])
    assert "did not finish" in run.outcome
    assert (run.seconds, run.segments, run.stages[0].tasks) == (9, 3, 1)


def test_each_run_has_figures_of_its_own(tmp_path: Path) -> None:
    killed = [line(0, RunStarted(5, 2)), line(4, task(0, 4))]
    again = [line(50, RunStarted(4, 2)), line(53, task(51, 53, worker=8)), line(54, RunEnded("complete"))]
    nothing = [line(90, RunStarted(0, 0)), line(91, RunEnded("complete"))]
    torn = line(5, task(4, 5))[:30]
    runs = figures(tmp_path, "\n".join([*killed, torn, *again, *nothing]) + "\n")
    assert [run.segments for run in runs] == [5, 4, 0]
    assert [run.seconds for run in runs] == [4, 4, 1]
    assert [sum(stage.seconds for stage in run.stages) for run in runs] == [4, 2, 0]
    assert [run.busy for run in runs] == [1, 1, None]


def test_without_a_trace_nothing_is_known(tmp_path: Path) -> None:
    assert efficiency(tmp_path / "x.zarr") == ()
    assert figures(tmp_path, "") == ()
    assert efficiency(tmp_path / "x.zarr") == ()


def test_a_task_that_took_no_time_says_nothing_of_how_busy_workers_were(tmp_path: Path) -> None:
    assert of_tasks(tmp_path, task(5, 5)).busy is None
