"""What pydantic finds wrong, as sentences of this project: one rendering for all files that it checks."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mms_regions.core.errors import explain


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
