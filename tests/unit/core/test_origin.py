"""Synthetic input files are named wherever data are described, alone or among measured ones."""

from __future__ import annotations

import pytest

from mms_regions.core.origin import origin_of


def files(**origins: str) -> list[dict[str, str]]:
    return [{"name": name, "origin": origin} for name, origin in origins.items()]


@pytest.mark.parametrize(
    ("inputs", "word", "title"),
    [
        (files(a="measured"), "measured", "T"),
        (files(a="synthetic", b="synthetic"), "synthetic", "SYNTHETIC DATA: T"),
        (files(a="measured", b="synthetic"), "mixed", "PARTLY SYNTHETIC DATA: T"),
        (files(a="measured", b=""), "unknown", "T"),
        ([{"name": "a"}], "unknown", "T"),
        ([{"name": "a"}, *files(b="synthetic")], "mixed", "PARTLY SYNTHETIC DATA: T"),
        ([], "unknown", "T"),
    ],
)
def test_one_word_for_all_files_and_a_warning_before_a_title(
    inputs: list[dict[str, str]], word: str, title: str
) -> None:
    origin = origin_of(inputs)
    assert (origin.word, origin.titled("T")) == (word, title)
    assert bool(origin.sentence()) == (word in ("synthetic", "mixed"))


def test_mixed_inputs_say_which_are_synthetic_a_file_once() -> None:
    two = files(b="synthetic", a="measured")
    assert origin_of(two + two).sentence() == "1 of 2 input files are synthetic, not measured: b."
    many = files(m="measured", **{f"s{i}": "synthetic" for i in range(6)})
    assert origin_of(many).sentence().endswith("not measured: s0, s1, s2, s3 and 2 more.")
