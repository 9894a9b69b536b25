"""The CDF files that a segment was made from, as the store recorded them, where they still are as they were."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mms_regions.archive.products import PRODUCTS, CdfFile, Product, file_named
from mms_regions.core.errors import SegmentProblem
from mms_regions.core.files import sha256_of

if TYPE_CHECKING:
    import xarray as xr

_MOST_FLAWS = 3


def recorded_files(
    data: xr.Dataset, data_dir: Path, made: str, products: Iterable[Product] = PRODUCTS
) -> dict[str, tuple[CdfFile, ...]]:
    """The files of these products, by product key, none for a product that the segment was not made from.

    data: as `open_segment` gives it. made: what is to be made from them, such as "tplot files are made", for
    the message. Raises SegmentProblem that names the files that are not there, or not as they were.
    """
    kinds = {product.name: product.key for product in products}
    files: dict[str, tuple[CdfFile, ...]] = dict.fromkeys(kinds.values(), ())
    flaws = []
    for one in json.loads(data.attrs["inputs"]):
        file = file_named(one["name"], data_dir)
        if file is not None and file.product not in kinds:
            continue
        flaw = flaw_of(file, one["sha256"])
        if file is None or flaw:
            flaws.append(f"{one['name']} {flaw}")
        else:
            files[kinds[file.product]] += (file,)
    if flaws:
        key = f"{data.attrs['event']}/mms{data.attrs['probe']}"
        more = f"; and {len(flaws) - _MOST_FLAWS} more" if len(flaws) > _MOST_FLAWS else ""
        raise SegmentProblem(
            f"{key}: {made} from the CDF files of the run, and under {data_dir} "
            f"{'; '.join(flaws[:_MOST_FLAWS])}{more}. Name their folder in --data-dir, or `mms-regions fetch` them "
            "with the manifest.json of the store"
        )
    return files


def flaw_of(file: CdfFile | None, sha256: str) -> str:
    """What is wrong with a file that had this sha256, in words; empty where it is there as it was. Reads it whole."""
    if file is None or not file.path.is_file():
        return "is not there"
    return "" if sha256_of(file.path) == sha256 else "is not the file that it was"
