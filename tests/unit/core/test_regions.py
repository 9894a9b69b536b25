"""Regions follow from the names on a card: kinds, sides, colours that differ, however many there are."""

from __future__ import annotations

import pytest
from drawn import REGIONS

from mms_regions.core.regions import by_kind, regions_named, regions_of, with_no_label

SEVEN = [*REGIONS.split(), "none_of_these"]


def test_a_name_says_kind_and_side() -> None:
    regions = regions_named(SEVEN)
    assert [(r.index, r.name) for r in regions] == list(enumerate(SEVEN))
    assert [r.kind for r in regions] == "inflow outflow inflow separatrix outflow separatrix other".split()
    assert [r.side for r in regions[:6]] == "north earthward south north tailward south".split()
    assert regions[6].title == "none of these"


def test_regions_of_other_names_get_colours_of_their_own_and_the_first_is_neutral() -> None:
    regions = regions_named(["quiet", *REGIONS.split(), "lobe"])
    assert len({r.colour for r in regions}) == 8
    assert len({regions[0].colour[i : i + 2] for i in (1, 3, 5)}) == 1, "grey"
    assert {r.name: r.colour for r in regions_named(REGIONS.split())}.items() <= {
        r.name: r.colour for r in regions
    }.items()


def test_both_sides_of_a_kind_are_listed_beside_each_other_and_others_last() -> None:
    assert [r.name for r in by_kind(regions_named(["none_of_these", *REGIONS.split()]))] == [
        "inflow_north",
        "inflow_south",
        "outflow_earthward",
        "outflow_tailward",
        "separatrix_north",
        "separatrix_south",
        "none_of_these",
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [(["quiet", "quiet"], "must have names that differ"), (["a", "b", "c"], "colours for 2 regions besides .*a, b, c")],
)
def test_names_that_cannot_be_told_apart_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        regions_named(names)


def test_labels_that_do_not_name_their_regions_are_refused() -> None:
    assert [r.name for r in regions_of({"flag_meanings": "inflow_north quiet"})] == ["inflow_north", "quiet"]
    once = with_no_label({"flag_meanings": "inflow_north quiet"})
    assert (once["flag_meanings"], once["flag_values"].tolist()) == ("no_label inflow_north quiet", [-1, 0, 1])
    twice = with_no_label(once)
    assert twice["flag_meanings"] == once["flag_meanings"] and regions_of(twice) == regions_of(once)
    with pytest.raises(ValueError, match="label the store again"):
        regions_of({})
