"""The one writer of MMS level-2 CDF files: names, types, shapes and attributes are the archive's, the values given.

`cdf_layout.json` says what the files of each product hold. A variable goes by a short key here, "bulkv_gse" for
"mms4_des_bulkv_gse_brst"; times are int64 ns UTC in memory and TT2000 in files. The files say that they are synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pycdfpp
from numpy.typing import NDArray
from pycdfpp import CompressionType, DataType

from mms_regions.archive.products import Product
from mms_regions.core.files import write_whole
from mms_regions.core.types import SECOND, Times
from mms_regions.synthetic.cdf_blocks import is_long, with_checksum, with_values

Values = NDArray[Any]

_TIME, _TEXT = "TIME_TT2000", "CHAR"
_FILL: dict[str, Any] = {
    "REAL4": np.float32(-1e31),
    "FLOAT": np.float32(-1e31),
    "UINT1": np.uint8(2**8 - 1),
    "UINT2": np.uint16(2**16 - 1),
    "UINT4": np.uint32(2**32 - 1),
    "INT8": np.int64(-(2**63)),
    _TIME: np.int64(-(2**63)),
}
# Of the numeric attributes of a variable, where it is not the variable's own: as in the files the table is drawn from.
_ATTRIBUTE_TYPE = {_TIME: DataType.CDF_INT8}


@dataclass(frozen=True, eq=False)
class Variable:
    """A variable of the files of a product; `{probe}` stands for the spacecraft in its name and its texts."""

    name: str
    type: str  # CDF type, without CDF_
    shape: tuple[int, ...]  # of a record
    time: str | None  # short key of the time that its records follow, of a time its own; None: one fixed record
    fill: Any  # a numpy scalar; None for texts
    attributes: Mapping[str, str | Values]
    constant: Values | None = None  # (1, *shape), of a variable that is the same in all files
    packed: bool = True

    @property
    def fixed(self) -> bool:
        """Whether there is one record whatever the time (CDF: no record variance)."""
        return self.time is None


def variables(product: Product) -> Mapping[str, Variable]:
    """All variables of the files of a product by short key, in the order of the files."""
    return _layout(product.key).variables


def sample_times(product: Product, begin: int, end: int) -> Times:
    """(n,) ns UTC: `begin` and every period of the product after it, before `end`; rounded down to whole ns."""
    ns, parts = _layout(product.key).period
    count = max(0, -(-(end - begin) * parts // ns))
    return begin + np.arange(count, dtype=np.int64) * ns // parts


def unmeasured(product: Product, arrays: Mapping[str, Values]) -> dict[str, Values]:
    """All variables of a product that `arrays` lacks: constants as they are in every file, the rest fill values.

    They have as many records as the time in `arrays` that they follow. Raises ValueError where that time is not there.
    """
    return {
        key: np.full((_records(key, variable, arrays), *variable.shape), variable.fill)
        if variable.constant is None
        else variable.constant.copy()
        for key, variable in variables(product).items()
        if key not in arrays
    }


def file_path(product: Product, probe: int, start: int, version: str = "") -> Path:
    """Where the archive keeps, below the data folder, the file that begins at `start` (ns UTC).

    version: X.Y.Z, by default that of the table. Names of fast-mode files have only the day.
    """
    tag = str(np.datetime64(start // SECOND, "s")).translate(str.maketrans("", "", "-:T"))
    tag = tag if product.mode == "brst" else tag[:8]
    version = version or _layout(product.key).version
    return product.folder(probe, start) / f"mms{probe}_{product.name}_{tag}_v{version}.cdf"


def write_level2(
    data_dir: Path,
    product: Product,
    probe: int,
    start: int,
    arrays: Mapping[str, Values],
    version: str = "",
    checksum: bool = False,
) -> Path:
    """Write the file of a product that begins at `start` (ns UTC) where the archive keeps it; its path.

    arrays: by short key, records first, (n, *shape), fixed ones (1, *shape): exactly these variables are written, in
    units and frames as their attributes say. Times are int64 ns UTC, their minimum being the fill value; numbers that
    are not finite, also in the type of the file, become fill values. The file is whole or absent under its name.
    Its structure is that of NASA's library: column-major, 64 KiB blocks, nested indices, and with `checksum` an MD5.
    Raises ValueError with the key for an unknown variable, one of another shape than its time and the table ask for,
    and values its type cannot hold, and OSError where the file cannot be written.
    """
    known = variables(product)
    if unknown := sorted(set(arrays) - set(known)):
        raise ValueError(f"{product.name} has no variable {', '.join(unknown)}; it has {', '.join(known)}")
    path = data_dir / file_path(product, probe, start, version)
    cdf = pycdfpp.CDF()
    cdf.majority = pycdfpp.Majority.column
    long: dict[str, Values] = {}
    for name, text in _global_attributes(path, product, probe).items():
        cdf.add_attribute(name, [text])
    for key, variable in known.items():
        if key in arrays:
            _refuse_other_shape(key, variable, arrays)
            values = _in_type(key, variable, np.asarray(arrays[key]))
            if is_long(values):
                long[variable.name.format(probe=probe)] = _as_stored(variable, values)
                values = values[:0]
            _add(cdf, variable, probe, values)
    content = with_values(bytes(pycdfpp.save(cdf)), long)
    write_whole(path, with_checksum(content) if checksum else content)
    return path


def _records(key: str, variable: Variable, arrays: Mapping[str, Values]) -> int:
    """How many records a variable must have."""
    if variable.time is None:
        return 1
    if variable.time not in arrays:
        raise ValueError(f"{key} follows {variable.time}, which is not among the arrays; add it")
    return len(arrays[variable.time])


def _refuse_other_shape(key: str, variable: Variable, arrays: Mapping[str, Values]) -> None:
    expected, given = (_records(key, variable, arrays), *variable.shape), np.shape(arrays[key])
    if given != expected:
        follows = f", as many records as {variable.time}" if variable.time else ""
        raise ValueError(f"{key} has shape {given}, not {expected}{follows}")


def _in_type(key: str, variable: Variable, values: Values) -> Values:
    """The values in the type of the file, what is not finite as the fill value."""
    if variable.type == _TEXT:
        return values.astype(np.bytes_)
    if variable.type == _TIME and values.dtype != np.int64:
        raise ValueError(f"{key} is {values.dtype}, not int64 (ns UTC)")
    kind = variable.fill.dtype
    if values.dtype == kind and kind.kind != "f":
        return values
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            typed = values.astype(kind)
        typed[~np.isfinite(typed)] = variable.fill
        return typed
    whole = np.where(np.isfinite(values), values, variable.fill)
    with np.errstate(invalid="ignore"):
        typed = whole.astype(kind)
    if (typed != whole).any():
        raise ValueError(f"{key} has values that {variable.type} cannot hold, e.g. {whole[typed != whole][0]}")
    return typed


def _as_stored(variable: Variable, values: Values) -> Values:
    """Times as TT2000, which counts leap seconds; all else as it is."""
    if variable.type != _TIME:
        return values
    return np.asarray(pycdfpp.to_tt2000(values.view("datetime64[ns]"))).view(np.int64)


def _add(cdf: Any, variable: Variable, probe: int, values: Values) -> None:
    is_time = variable.type == _TIME
    packed = variable.packed and not is_time and not variable.fixed
    packing = CompressionType.gzip_compression if packed else CompressionType.no_compression
    added = cdf.add_variable(
        variable.name.format(probe=probe),
        # pycdfpp knows the leap seconds, and writes NaT (the int64 minimum) as the fill value
        values.view("datetime64[ns]") if is_time else np.ascontiguousarray(values),
        getattr(DataType, f"CDF_{variable.type}"),
        is_nrv=variable.fixed,
        compression=packing,
        compression_level=1,
    )
    numbers = _ATTRIBUTE_TYPE.get(variable.type, getattr(DataType, f"CDF_{variable.type}"))
    for name, value in variable.attributes.items():
        if isinstance(value, str):
            added.add_attribute(name, value.format(probe=probe))
        elif name == "TENSOR_ORDER":
            added.add_attribute(name, value, DataType.CDF_UINT1)
        else:
            added.add_attribute(name, value, numbers)


def _global_attributes(path: Path, product: Product, probe: int) -> dict[str, str]:
    return {
        "Project": "STP>Solar-Terrestrial Physics",
        "Source_name": f"MMS{probe}>MMS Satellite Number {probe}",
        "Discipline": "Space Physics>Magnetospheric Science",
        "Data_type": product.name.removeprefix(f"{product.instrument}_"),
        "Descriptor": product.instrument,
        "Data_version": path.stem.rpartition("_v")[2],
        "Mission_group": "MMS",
        "Logical_file_id": path.stem,
        "Logical_source": f"mms{probe}_{product.name}",
        "TEXT": "SYNTHETIC DATA, NOT A MEASUREMENT",
        **_layout(product.key).attributes,
    }


@dataclass(frozen=True)
class _Layout:
    """What the table says of a product."""

    version: str
    period: tuple[int, int]  # ns between samples, as a fraction
    variables: Mapping[str, Variable]
    attributes: Mapping[str, str]  # of the file


@cache
def _layout(product: str) -> _Layout:
    """Read the table, `cdf_layout.json`, which explains its own notation."""
    table = json.loads((package_files("mms_regions.synthetic") / "cdf_layout.json").read_text("utf-8"))
    about = table["products"][product]
    rows = {
        row["key"]: _merged([*(table["groups"][name] for name in row.get("like", ())), row])
        for row in table["lists"][about["variables"]]
        if row.get("only", product) == product
    }
    names = {
        key: row.get("name", about["name"]).format(key=key, probe="{probe}")  # the probe stays open
        for key, row in rows.items()
    }
    constants = about.get("constants", {})
    found = {key: _variable(row, names, product, constants.get(key, row.get("constant"))) for key, row in rows.items()}
    period = about["period"][0], about["period"][1]
    return _Layout(about["version"], period, MappingProxyType(found), about.get("attributes", {}))


def _merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Later parts laid over earlier ones, their attributes one by one."""
    merged: dict[str, Any] = {}
    for part in parts:
        merged |= part | {"attributes": merged.get("attributes", {}) | part.get("attributes", {})}
    return merged


def _variable(row: Mapping[str, Any], names: Mapping[str, str], product: str, constant: Any) -> Variable:
    kind, key = row["type"], row["key"]
    fixed = None if constant is None else _constant(constant, kind)
    return Variable(
        name=names[key],
        type=kind,
        shape=tuple(row.get("shape", ())) if fixed is None else fixed.shape[1:],
        time=key if kind == _TIME else row.get("time"),
        fill=np.float32(np.nan) if row.get("fill") == "nan" else _FILL.get(kind),
        attributes=MappingProxyType(dict(_attributes(row, names, product))),
        constant=fixed,
        packed=row.get("packed", True),
    )


def _constant(value: Any, kind: str) -> Values:
    """(1, *shape), texts padded to one length with blanks."""
    if kind != _TEXT:
        return np.array([value], _FILL[kind].dtype)
    width = max(map(len, value))
    return np.array([[text.ljust(width) for text in value]], np.bytes_)


def _attributes(row: Mapping[str, Any], names: Mapping[str, str], product: str) -> Iterator[tuple[str, str | Values]]:
    """Names and values of the attributes of a variable, with @ and {} replaced as the table explains."""
    key, kind = row["key"], row["type"]
    if kind != _TEXT:
        valid = row["valid"][product] if isinstance(row["valid"], dict) else row["valid"]
        numbers = dict(zip(("VALIDMIN", "VALIDMAX"), valid, strict=True))
        if row.get("fill", True):
            numbers["FILLVAL"] = np.nan if row.get("fill") == "nan" else _FILL[kind]
        for name, value in numbers.items():
            yield name, np.atleast_1d(np.asarray(value, _FILL[kind].dtype))
    texts = {"CATDESC": "@", "FIELDNAM": "@", **row["attributes"]}
    if "time" in row:
        texts["DEPEND_0"] = f"@{row['time']}"
    for name, text in texts.items():
        if text is None:
            continue
        if isinstance(text, int):
            yield name, np.array([text], np.uint8)
            continue
        refers = text.startswith("@")
        yield name, names[text[1:] or key] if refers else text.format(key=key, product=product, probe="{probe}")
