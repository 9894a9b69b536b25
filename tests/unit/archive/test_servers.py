"""Choosing files by what servers name, and what a server may say: lists, errors, and names that are paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from archive_faults import Fault, LoopbackArchive
from hypothesis import given
from hypothesis import strategies as st

from mms_regions.archive.http import Client, Limits, NetworkProblem
from mms_regions.archive.products import DES, EDP_BURST, EDP_FAST, FGM, Product, Query, parse_name, reaching
from mms_regions.archive.servers import RemoteFile, Source
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.types import SECOND

DAY = 1_499_731_200 * SECOND  # 2017-07-11
NAME = "mms4_fpi_brst_l2_des-moms_{}_v{}.cdf"
TAG = "20170711{:02}{:02}00"
AUGUST = Query(FGM, 1, DAY + 22 * 86_400 * SECOND, DAY + 22 * 86_400 * SECOND + 60 * SECOND)
QUICK = Limits(connect_timeout=2, read_timeout=0.3, attempts=2, wait_initial=0.01, wait_max=0.02)

minutes = st.integers(0, 23 * 60)
versions = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12))


def remotes(*names: str) -> list[RemoteFile]:
    return [RemoteFile(name, f"http://archive/{name}", 1000) for name in names]


def query(begin: int, end: int, product: Product = DES, probe: int = 4) -> Query:
    """From and to minutes of 2017-07-11."""
    return Query(product, probe, DAY + begin * 60 * SECOND, DAY + end * 60 * SECOND)


def name(minute: int, version: tuple[int, ...] = (3, 4, 0)) -> str:
    return NAME.format(TAG.format(*divmod(minute, 60)), ".".join(map(str, version)))


def needed(files: list[RemoteFile], asked: Query) -> list[str]:
    return [file.name for file in reaching(files, asked).needed]


@given(st.lists(minutes, unique=True, max_size=20), minutes, st.integers(1, 30))
def test_files_that_start_inside_and_the_last_before_are_chosen(starts: list[int], begin: int, length: int) -> None:
    end = begin + length
    before = [start for start in starts if begin - 60 < start < begin]  # a burst file lasts an hour at most
    # A name gives whole seconds: a file of the first second may begin after the interval does.
    expected = [*([max(before)] if before else []), *sorted(start for start in starts if begin <= start <= end)]
    assert needed(remotes(*map(name, starts)), query(begin, end)) == list(map(name, expected))


@given(st.lists(versions, min_size=1, max_size=8, unique=True), st.randoms())
def test_of_several_versions_the_highest_is_chosen_in_any_order(given: list[tuple[int, ...]], rng: object) -> None:
    files = remotes(*(name(600, version) for version in given))
    rng.shuffle(files)  # type: ignore[attr-defined]
    assert needed(files, query(600, 610)) == [name(600, max(given))]


def test_a_file_of_the_day_before_may_reach_across_midnight() -> None:
    before = NAME.format("20170710235800", "3.4.0")
    assert needed(remotes(before, name(3)), query(1, 5)) == [before, name(3)]


def test_fast_mode_files_are_those_of_the_days_that_overlap() -> None:
    days = [f"mms4_edp_fast_l2_dce_201707{day}_v3.0.0.cdf" for day in (10, 11, 12, 13)]
    assert needed(remotes(*days), query(30, 60, EDP_FAST)) == days[1:2]
    assert needed(remotes(*days), query(23 * 60, 24 * 60, EDP_FAST)) == days[1:3]
    assert needed(remotes(*days), query(-30, 60, EDP_FAST)) == days[0:2]


@pytest.mark.parametrize("other", ["mms3_fpi_brst_l2_des-moms", "mms4_fpi_brst_l2_dis-moms", "mms4_fgm_brst_l2"])
def test_well_formed_names_of_something_else_are_ignored(other: str) -> None:
    file = name(600).replace("mms4_fpi_brst_l2_des-moms", other)
    assert parse_name(Path(file))
    assert not reaching(remotes(file, "README.txt", "mms4_fpi.cdf"), query(600, 610))


@pytest.mark.parametrize("server", ["sdc", "spdf"])
@pytest.mark.parametrize(
    "hostile",
    ["../../x.cdf", "/etc/passwd.cdf", "a\\b.cdf", "nul\0byte.cdf", "x" * 300 + ".cdf", "new\nline.cdf", "C:x.cdf"],
)
def test_names_that_could_be_paths_are_refused(folder: Path, server: str, hostile: str) -> None:
    with (
        LoopbackArchive(folder, hostile_listing=[hostile]) as archive,
        pytest.raises(SegmentProblem, match="no name of a file") as problem,
    ):
        asked(archive, server)
    assert len(str(problem.value)) < 600 and str(problem.value).isprintable()


def asked(archive: LoopbackArchive, server: str, wished: Query = AUGUST) -> list[str]:
    """The names in the answer to one listing."""
    source = Source(server, getattr(archive, f"{server}_url"), QUICK)  # type: ignore[arg-type]
    return [remote.name for remote in source.listing(Client(QUICK), wished)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of one byte, in the archive's layout, around midnight between two months."""
    for product, stem in ((FGM, "mms1_fgm_brst_l2_{}_v5.1.0.cdf"), (EDP_BURST, "mms1_edp_brst_l2_dce_{}_v3.0.0.cdf")):
        for tag in ("20170731235800", "20170801000100"):
            path = tmp_path / product.folder(1, parse_name(Path(stem.format(tag))).start) / stem.format(tag)  # type: ignore[union-attr]
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("server", ["sdc", "spdf"])
@pytest.mark.parametrize("product", [FGM, EDP_BURST], ids=lambda product: product.key)
def test_both_servers_list_across_midnight_and_months(folder: Path, server: str, product: Product) -> None:
    begin = DAY + 21 * 86_400 * SECOND
    with LoopbackArchive(folder) as archive:
        names = asked(archive, server, Query(product, 1, begin, begin + 60 * SECOND))
    assert [file.split("_v")[0][-14:] for file in sorted(names)] == ["20170731235800", "20170801000100"]


@pytest.mark.parametrize("server", ["sdc", "spdf"])
def test_one_listing_is_one_request(folder: Path, server: str) -> None:
    with LoopbackArchive(folder) as archive:
        asked(archive, server)
        assert len(archive.requests) == 1


@pytest.mark.parametrize("server", ["sdc", "spdf"])
@pytest.mark.parametrize("kind", ["html", "json_error", "busy", "cut", "reset", "stall", "slow"])
def test_a_listing_is_asked_for_again_where_that_can_help(folder: Path, server: str, kind: str) -> None:
    with LoopbackArchive(folder, [Fault(kind, where="listing", seconds=0.6)]) as archive:  # type: ignore[arg-type]
        assert asked(archive, server)
    with (
        LoopbackArchive(folder, [Fault(kind, where="listing", times=0, seconds=0.6)]) as archive,  # type: ignore[arg-type]
        pytest.raises(NetworkProblem, match=r"listing of mms1_fgm_brst_l2 around 2017-08-02: .*tried 2 times"),
    ):
        asked(archive, server)


@pytest.mark.parametrize("base", ["", "ftp://archive/data", "http://", "archive", "http://archive?x=1"])
def test_a_base_that_is_no_address_is_refused(base: str) -> None:
    if base:
        with pytest.raises(ValueError, match="no address of an archive"):
            Source("sdc", base)
    else:
        assert Source("sdc").base.startswith("https://") and Source("spdf").base.startswith("https://")


def test_pinned_files_are_found_by_their_names(folder: Path) -> None:
    path = next(folder.rglob("mms1_edp*000100*.cdf"))
    file = replace(parse_name(path), path=path)  # type: ignore[type-var]
    with LoopbackArchive(folder) as archive:
        urls = [Source("sdc", archive.sdc_url).url(file), Source("spdf", archive.spdf_url + "/").url(file)]
        assert [Client(QUICK).text(url) for url in urls] == ["x", "x"]


def test_whether_anybody_answers_is_known_soon(tmp_path: Path) -> None:
    with LoopbackArchive(tmp_path) as archive:
        Source("sdc", archive.sdc_url).require_answer()
    with pytest.raises(NetworkProblem, match="Connection refused"):
        Source("sdc", archive.sdc_url).require_answer()


@pytest.mark.parametrize(
    ("variable", "value", "base", "said"),
    [
        ("HTTP_PROXY", "http://me:secret@127.0.0.1:9", "http://archive.invalid/api", r"the proxy cannot be used"),
        (
            "REQUESTS_CA_BUNDLE",
            "/nonexistent.pem",
            "https://127.0.0.1:9/api",
            r"no trust in servers .*nonexistent",
        ),
    ],
)
def test_the_variable_that_is_at_fault_is_named_and_no_password(
    variable: str, value: str, base: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (variable.lower(), "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(NetworkProblem, match=f"{said}.*; the environment sets .*{variable}") as problem:
        Source("sdc", base).require_answer()
    assert "secret" not in str(problem.value)
