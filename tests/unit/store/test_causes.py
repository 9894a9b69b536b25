"""Why a segment failed is kept as a code beside the sentence, also across processes and in stores that had none."""

from __future__ import annotations

import pickle
from dataclasses import asdict

from mms_regions.core.errors import SegmentProblem
from mms_regions.core.outcomes import Cause
from mms_regions.store.receipts import Failed, Record


def test_a_cause_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(SegmentProblem("A/mms1: its event cannot be used", Cause.EVENT)))
    assert (str(error), error.cause) == ("A/mms1: its event cannot be used", Cause.EVENT)
    assert SegmentProblem("no file").cause is Cause.FILES


def test_missing_data_are_no_failure_and_every_other_cause_is() -> None:
    without = {cause for cause in Cause if SegmentProblem("", cause).no_data}
    assert without == {Cause.NO_FILES, Cause.NOTHING_MEASURED}
    assert {Record.of(Failed("A/mms1", "", cause)).status for cause in without} == {"no_data"}
    assert {Record.of(Failed("A/mms1", "", cause)).status for cause in set(Cause) - without} == {"failed"}


def test_a_record_keeps_the_cause_of_a_failure_and_an_older_one_has_none() -> None:
    record = Record.of(Failed("A/mms1", "no file", Cause.FILES))
    assert (record.status, record.cause) == ("failed", "files")
    data = asdict(record)
    assert Record.from_json(data) == record
    del data["cause"]
    assert Record.from_json(data).cause == "unknown"
    assert Record.from_json({**data, "status": "complete"}).cause == ""
