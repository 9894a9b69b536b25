"""The formats of pyspedas: the two files that the published code saves, and variables in pyspedas itself.

pyspedas takes seconds to import and keeps its variables in one dictionary for the whole process. It is imported where
it is used, and the variables of its user are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mms_regions.core.errors import EnvironmentProblem, UsageProblem
from mms_regions.core.events import Segment
from mms_regions.core.files import made_whole
from mms_regions.core.regions import regions_of
from mms_regions.core.settings import Settings
from mms_regions.core.types import NO_LABEL
from mms_regions.physics.conventions import convention
from mms_regions.physics.published_names import units_of
from mms_regions.store.cdf_inputs import recorded_files
from mms_regions.store.read import settings_of

_COMPONENTS = ["x", "y", "z"]
_PROBABILITIES = ("probability", "probability_marginal")
_NOT_SHOWN = ("label", "label_marginal", "quality", "features", *_PROBABILITIES, "electron_energy")
_SPECTRUM = "electron_spectrum_"


def write_tplot(segment: Segment, data: xr.Dataset, data_dir: Path, folder: Path) -> tuple[Path, Path]:
    """Write `mms4_vars` and `mms4_vars_norm`, each whole or not at all, for `pyspedas.tplot_restore`.

    They hold all variables that the published code saves there, in the convention of the store, which are recomputed
    from the CDF files: the 8192 Hz field is not in the store. data: as `open_segment` gives it.
    Raises SegmentProblem where a file is not there any more as it was, EnvironmentProblem without pyspedas.
    """
    pyspedas = require_pyspedas()
    variables = _recomputed(segment, data, data_dir)
    paths = folder / f"{segment.spacecraft}_vars", folder / f"{segment.spacecraft}_vars_norm"
    plain = {name: v for name, v in variables.items() if not name.endswith("_norm")}
    scaled = {name: v for name, v in variables.items() if name.endswith("_norm")}
    for path, some in zip(paths, (plain, scaled), strict=True):
        with _undisturbed(pyspedas), made_whole(path) as staging:
            for name, variable in some.items():
                frame = ("gsm" if name.endswith("_norm") else "gse") if variable.ndim == 2 else ""
                _put(pyspedas, name, variable, units_of(name), frame)
            pyspedas.tplot_save(list(some), str(staging))
    return paths


def put_into_pyspedas(data: xr.Dataset, names: Sequence[str] | None = None) -> list[str]:
    """Put quantities of a segment, its probabilities and a strip of its regions into pyspedas.

    Parameters
    ----------
    data : xarray.Dataset
        As `open_segment` gives it.
    names : sequence of str, optional
        Quantities such as "b_gsm". Default: all that are one series, vector or spectrum per sample.

    Returns
    -------
    list of str
        Their names in pyspedas, for `pyspedas.tplot`. Variables of the same names there are replaced.

    Raises
    ------
    UsageProblem
        The segment does not have a quantity.
    EnvironmentProblem
        pyspedas is not installed.

    Examples
    --------
    >>> import mms_regions
    >>> data = mms_regions.open_segment("a.zarr", "A", 1)
    >>> put_into_pyspedas(data, ["b_gsm"])  # doctest: +SKIP
    ['mms1_b_gsm', 'mms1_probability', 'mms1_region']
    """
    possible = [str(name) for name, v in data.data_vars.items() if v.ndim <= 2 and name not in _NOT_SHOWN]
    unknown = sorted(set(names or ()) - set(possible))
    if unknown:
        raise UsageProblem(f"There is no {', '.join(unknown)} to put into pyspedas; there are {', '.join(possible)}")
    pyspedas, prefix = require_pyspedas(), f"mms{data.attrs['probe']}"
    made = []
    for name in possible if names is None else names:
        variable = data[name]
        if name.startswith(_SPECTRUM):
            variable = variable.assign_coords(v=data["electron_energy"])
        _put(
            pyspedas,
            f"{prefix}_{name}",
            variable,
            variable.attrs.get("units", ""),
            "gsm" if name.endswith("_gsm") else "",
        )
        made.append(f"{prefix}_{name}")
    probable = [_put_probability(pyspedas, prefix, data, name) for name in _PROBABILITIES if name in data]
    return [*made, *probable, _put_strip(pyspedas, prefix, data)]


def require_pyspedas() -> Any:
    """The library. Raises EnvironmentProblem where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what its own imports warn of is nothing that a user here can mend
            import pyspedas
    except ImportError as problem:
        raise EnvironmentProblem(
            f"tplot files are written through pyspedas, which cannot be imported here ({problem}); "
            "`pip install 'mms-regions[tplot]'` installs it"
        ) from problem
    return pyspedas


@contextmanager
def _undisturbed(pyspedas: Any) -> Iterator[None]:
    """pyspedas without any variable; afterwards it is restored."""
    variables = pyspedas.tplot_tools.data_quants
    before = dict(variables)
    variables.clear()
    try:
        yield
    finally:
        variables.clear()
        variables.update(before)


def _recomputed(segment: Segment, data: xr.Dataset, data_dir: Path) -> Mapping[str, xr.DataArray]:
    how = convention(Settings(**settings_of(data)))
    event = segment.event.model_copy(update={"B0": data.attrs["b0"], "n0": data.attrs["n0"]})  # as it was scaled
    return how.variables(how.read(recorded_files(data, data_dir, "tplot files are made"), event), event)


def _put(pyspedas: Any, name: str, data: xr.DataArray, units: str, frame: str) -> None:
    values = {"x": data["time"].values.astype("datetime64[ns]"), "y": data.values}
    if "v" in data.coords:
        values["v"] = data["v"].values
    about = {"data_att": {"units": units, "coord_sys": frame}}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rows that are NaN all along, which are usual
        stored = pyspedas.store_data(name, data=values, attr_dict=about)
    if not stored:
        raise ValueError(f"pyspedas does not take {name}, {data.sizes}")
    title = name.replace("_", "\n", 1).replace(_SPECTRUM, "electrons, ")
    pyspedas.options(name, opt_dict={"ytitle": title, "ysubtitle": f"[{units}]" if units else ""})
    if "v" in data.coords:
        pyspedas.options(name, opt_dict={"spec": 1, "ylog": 1, "zlog": 1, "ysubtitle": "[eV]", "ztitle": units})
    elif data.ndim == 2 and data.shape[1] == len(_COMPONENTS):
        pyspedas.options(name, "legend_names", _COMPONENTS)


def _put_probability(pyspedas: Any, prefix: str, data: xr.Dataset, which: str) -> str:
    name = f"{prefix}_{which}"
    _put(pyspedas, name, data[which], "", "")
    regions = regions_of(data["label"].attrs)
    colours, names = [region.colour for region in regions], [region.name for region in regions]
    pyspedas.options(name, opt_dict={"color": colours, "legend_names": names, "yrange": [0, 1]})
    return name


def _put_strip(pyspedas: Any, prefix: str, data: xr.Dataset) -> str:
    """Regions as a spectrogram of two equal rows, each region in its colour; empty where there is no label."""
    from matplotlib.colors import ListedColormap

    name, label = f"{prefix}_region", data["label"]
    values = label.where(label != NO_LABEL).astype(np.float64)
    strip = xr.DataArray(np.stack([values, values], axis=1), coords={"time": label["time"]}, dims=("time", "edge"))
    _put(pyspedas, name, strip.assign_coords(v=("edge", [0.0, 1.0])), "", "")
    colours = [region.colour for region in regions_of(label.attrs)]
    options = {
        "ylog": 0,
        "zlog": 0,
        "yrange": [0, 1],
        "zrange": [-0.5, len(colours) - 0.5],
        "colormap": ListedColormap(colours, name="mms_regions"),
        "ytitle": "region",
        "ysubtitle": "",
        "ztitle": "class",
        "panel_size": 0.3,
    }
    pyspedas.options(name, opt_dict=options)
    return name
