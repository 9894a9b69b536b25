"""What pydantic finds wrong, as sentences of this project: one rendering for all files that it checks."""

from __future__ import annotations

import errno
import os

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mms_regions.core.errors import InputProblem, explain, sentence


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    jobs: int = Field(1, ge=1)


class Outer(BaseModel):
    name: str
    cpu: Inner = Inner()
    few: tuple[int, ...] = ()
    both: bool = True

    @model_validator(mode="after")
    def _both(self) -> Outer:
        if not self.both:
            raise ValueError("name and cpu belong together")
        return self


def explained(data: dict[str, object], **words: dict[str, str]) -> dict[str, str]:
    with pytest.raises(ValidationError) as problem:
        Outer.model_validate(data)
    return explain(problem.value, **words)


def test_each_field_is_named_with_its_value_and_what_it_must_be() -> None:
    bad = {"cpu": {"jobs": 0, "queue": "x"}, "few": [1, "two"]}
    assert explained(bad) == {
        "name": "name is missing",
        "cpu.jobs": "cpu.jobs = 0: must be greater than or equal to 1",
        "cpu.queue": "there is no cpu.queue",
        "few.1": "few.1 = 'two': must be a valid integer, unable to parse string as an integer",
    }


def test_what_concerns_several_fields_names_none() -> None:
    assert explained({"name": "a", "both": False}) == {"": "name and cpu belong together"}


def test_a_field_may_have_another_name_and_a_better_description_and_a_long_value_is_cut() -> None:
    said = explained({"name": ["x" * 100]}, names={"name": "event"}, allowed={"name": "a short name"})
    assert said["name"].startswith("event = ['xxx") and said["name"].endswith("...]: must be a short name")
    assert len(said["name"]) < 100


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space there"),
        (errno.EACCES, "get write permission there"),
        (errno.EROFS, "get write permission there"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENODEV, "--debug"),
    ],
)
def test_an_error_of_the_system_names_the_file_the_cause_and_what_helps(number: int, advice: str) -> None:
    said = sentence(OSError(number, os.strerror(number), "/data/x"))
    assert said.startswith(f"/data/x: {os.strerror(number)}; ")
    assert advice in said and ("space" in advice) == ("space" in said.partition("; ")[2])


def failed() -> Exception:
    try:
        {}["x"]
    except KeyError as problem:
        return problem


def test_every_error_is_one_sentence() -> None:
    assert sentence(InputProblem("The list is empty.")) == "The list is empty."
    assert sentence(MemoryError()).startswith("there is not enough memory: ")
    assert sentence(ImportError("x.so: failed to map segment from shared object")).startswith("there is not enough")
    assert "`mms-regions doctor`" in sentence(ImportError("No module named 'zarr'"))
    assert sentence(TimeoutError()).startswith("unexpected error (TimeoutError); ")
    said = sentence(failed())
    assert said.startswith("unexpected error (KeyError: 'x' in test_errors.py, line ") and "report" in said
