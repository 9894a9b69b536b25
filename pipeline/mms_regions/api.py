"""The public interface: stores, segments, labels and runs from Python, without the command line.

Times are UTC, vectors are in GSM unless a name says otherwise, every variable has its unit in its attributes. Errors
are those of `mms_regions.core.errors`: UsageProblem for arguments, InputProblem for files that cannot be used,
EnvironmentProblem for the machine. A path may begin with `~`.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mms_regions.core.catalogue import Catalogue, builtin_catalogues
from mms_regions.core.catalogue import read_catalogue as _read_catalogue
from mms_regions.core.errors import SegmentProblem, UsageProblem
from mms_regions.core.regions import Region, regions_named, with_no_label
from mms_regions.model.card import ModelCard, find_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from mms_regions.core.messages import Event as RunEvent
    from mms_regions.model.network import RegionRNN
    from mms_regions.run.run import Summary


@dataclass(frozen=True, eq=False)
class Model:
    """A model that is ready to label.

    Attributes
    ----------
    card : ModelCard
        What the model is, where it comes from, and what to be careful about.
    network : torch.nn.Module
        Features (W, T, 14), float32, to logits (W, T, C) of C regions; each of W windows starts from a zero state.
    """

    card: ModelCard
    network: RegionRNN

    @property
    def regions(self) -> tuple[Region, ...]:
        """The C regions, by label: index, name, colour, kind."""
        return regions_named(region.name for region in self.card.regions)


def open_store(store: Path | str) -> xr.Dataset:
    """Open a whole store, lazily.

    Parameters
    ----------
    store : path
        The folder that `mms-regions run --store` or `run_segments` made.

    Returns
    -------
    xarray.Dataset
        Sample arrays on `sample`, all segments one after another; the index on `segment`: event, probe, t_start, t_end
        (UTC), b0 (nT), n0 (cm^-3), status, reason. Attributes that have parts, such as the model's card, are JSON.

    Raises
    ------
    UsageProblem
        There is no store.

    Examples
    --------
    >>> store = open_store("a.zarr")
    >>> store["status"].values.tolist()
    ['complete', 'complete', 'complete', 'complete', 'complete']
    """
    from mms_regions.store.read import open_store as opened

    return opened(_path(store))


def open_segment(store: Path | str, event: str, probe: int) -> xr.Dataset:
    """Open one event as one spacecraft saw it, lazily.

    Parameters
    ----------
    store : path
        The folder of a store.
    event : str
        The event's name in the catalogue.
    probe : int
        The spacecraft, 1 to 4.

    Returns
    -------
    xarray.Dataset
        On `time` (n,), UTC, 30 ms apart: `label` (n,) int8, -1 for none; `probability` (n, C), NaN where there is no
        label; `features` (n, 14) without dimension, in simulation axes; fields and moments with their units, vectors
        (n, 3) in GSM. `probability_marginal` and `label_marginal` where errors of B0 or n0 are known. Its row of the
        index is in the attributes: `b0`, `b0_sigma` (nT), `n0`, `n0_sigma` (cm^-3), ... `to_netcdf` saves it.

    Raises
    ------
    UsageProblem
        There is no store, it does not hold the segment, or the segment is not complete.

    Examples
    --------
    >>> data = open_segment("a.zarr", "A", 1)
    >>> data["label"].dims, data["b_gsm"].attrs["units"]
    (('time',), 'nT')
    """
    from mms_regions.store import read

    return read.described(read.open_segment(_path(store), event, probe))


def open_tree(store: Path | str) -> xr.DataTree:
    """Open all complete segments, lazily, as a tree.

    Parameters
    ----------
    store : path
        The folder of a store.

    Returns
    -------
    xarray.DataTree
        The index at the root, and below it each segment as `open_segment` gives it, such as tree["A/mms4"].

    Raises
    ------
    UsageProblem
        There is no store.

    Examples
    --------
    >>> tree = open_tree("a.zarr")
    >>> float((tree["A/mms1"]["label"] >= 0).mean())
    1.0
    """
    from mms_regions.store import read

    return read.open_tree(_path(store)).map_over_datasets(read.described)


def read_catalogue(source: Path | str = "rogers2023") -> Catalogue:
    """Read and check a list of events.

    Parameters
    ----------
    source : path or str
        The name of a built-in list, `-` for stdin, or a CSV file with the columns t_start, t_end (UTC) and optionally
        event, B0 (nT), n0 (cm^-3), B0_sigma, n0_sigma, probes and notes. Other columns are kept as notes, with a
        warning.

    Returns
    -------
    Catalogue
        Its `events`, and `segments("A,C-F", "1-4")`, a selection of events and spacecraft.

    Raises
    ------
    InputProblem
        The list cannot be used; the message names everything that is wrong, by line and column.

    Examples
    --------
    >>> [segment.key for segment in read_catalogue("rogers2023").segments("A,B", "4")]
    ['A/mms4', 'B/mms4']
    """
    found = _read_catalogue(source if source in ("-", *builtin_catalogues()) else _path(source))
    for remark in found.remarks:
        warnings.warn(remark, stacklevel=2)
    return found


def load_model(model: Path | str = "auto") -> Model:
    """Load a model with its weights.

    Parameters
    ----------
    model : path or str
        The name of an installed model, or the folder of one; `auto`: waters2025 where it is installed, else open.

    Returns
    -------
    Model
        Its card, its regions, and the network on the CPU.

    Raises
    ------
    InputProblem
        There is no such model, its card is wrong, or its weights are not installed or not those of the card.

    Examples
    --------
    >>> load_model("open").regions[6].name
    'none_of_these'
    """
    from mms_regions.model.weights import load_model as loaded

    found = find_model(_named(model), os.environ)
    return Model(found.card, loaded(found))


def label(
    data: xr.Dataset | xr.DataArray | NDArray[np.floating[Any]],
    *,
    model: Model | Path | str = "auto",
    device: str = "auto",
) -> xr.Dataset:
    """Label the samples of one segment.

    The network sees windows of 32 samples, each from a zero state; the first window begins at the first sample.

    Parameters
    ----------
    data : xarray.Dataset, xarray.DataArray or array
        A segment as `open_segment` gives it, or its features (n, 14) in order of time, 30 ms apart: dimensionless, in
        simulation axes, in the order of the model's card. NaN where missing: such a sample and the rest of its window
        get no label; nor do samples of a segment whose features were interpolated over a gap.
    model : Model, path or str
        A loaded model, or what `load_model` takes.
    device : str
        auto, cpu or cuda.

    Returns
    -------
    xarray.Dataset
        `label` (n,) int8, -1 for none, and `probability` (n, C) float32, NaN where there is no label, on `time` where
        the data have it, else on `sample`. `region` names the C regions.

    Raises
    ------
    UsageProblem
        Features are not (n, 14), or there is no such device.
    InputProblem
        The model cannot be used, or gives no finite probability for finite features.
    EnvironmentProblem
        A GPU is asked for, and none can be used.

    Examples
    --------
    >>> data = open_segment("a.zarr", "A", 1)
    >>> again = label(data, model="first")
    >>> bool((again["label"] == data["label"]).all())
    True
    """
    import numpy as np
    import xarray as xr

    from mms_regions.model.label import choose_device, label_samples
    from mms_regions.physics.samples import FEATURES, bridged_in

    loaded = model if isinstance(model, Model) else load_model(model)
    given = data["features"] if isinstance(data, xr.Dataset) else data
    features = np.asarray(given, np.float32)
    if features.ndim != 2 or features.shape[1] != len(FEATURES):
        raise UsageProblem(f"features are (n, {len(FEATURES)}): {' '.join(FEATURES)}; these are {features.shape}")
    quality = data["quality"].values if isinstance(data, xr.Dataset) else np.zeros(len(features))
    found = label_samples(loaded.network, features, bridged_in(quality.astype(np.uint32)), choose_device(device))
    has_time = isinstance(given, xr.DataArray) and "time" in given.dims
    dimension, names = "time" if has_time else "sample", [region.name for region in loaded.regions]
    flags = {"long_name": "region", **with_no_label({"flag_meanings": " ".join(names)})}
    probable = {"long_name": "probability of each region", "units": "1"}
    return xr.Dataset(
        {"label": (dimension, found[0], flags), "probability": ((dimension, "region"), found[1], probable)},
        coords={"region": names, **({"time": data["time"]} if has_time else {})},  # type: ignore[call-overload]
        attrs={"model": loaded.card.name, "model_weights_sha256": loaded.card.weights_sha256 or ""},
    )


def run_segments(
    catalogue: Catalogue | Path | str,
    store: Path | str,
    *,
    events: str | None = None,
    probes: str | int | None = None,
    data_dir: Path | str | None = None,
    offline: bool | None = None,
    source: str | None = None,
    archive_url: str | None = None,
    manifest: Path | str | None = None,
    convention: str | None = None,
    model: str | Path | None = None,
    profile: Path | str | None = None,
    workers: int | None = None,
    device: str | None = None,
    perturb: float | None = None,
    draws: int | None = None,
    redo: str = "",
    observe: Callable[[RunEvent], None] | None = None,
) -> Summary:
    """Make a store from CDF files, or bring one up to date: `mms-regions run` from Python.

    What is complete in the store is kept. A setting that is not given comes from the environment, then the profile,
    then the default, as on the command line.

    Parameters
    ----------
    catalogue : Catalogue, path or str
        Events: as `read_catalogue` gives them, or what it takes.
    store : path
        The folder of the store.
    events, probes : str, optional
        A selection, such as "A,C-F" and "1-4".
    data_dir : path, optional
        The folder of the CDF files, laid out as the SDC does; missing files are fetched into it unless `offline`.
    offline, source, archive_url, manifest, convention, model, profile, workers, device, perturb, draws, redo
        As the options of the command line with these names. `workers=0` runs in this process. With more, and in a
        script, call this below `if __name__ == "__main__"`, for worker processes import the script.
    observe : callable, optional
        Gets each event of the run (`mms_regions.core.messages`).

    Returns
    -------
    Summary
        Keys of complete segments, such as "A/mms4", and by key why segments failed or have no data, which is no error
        of this call.

    Raises
    ------
    UsageProblem
        An argument is wrong, or the store holds other events of these names.
    InputProblem
        The catalogue or the model cannot be used.
    EnvironmentProblem
        The store is locked, cannot be written or was made with other settings, or workers cannot start.
    Interrupted
        Ctrl-C; the same call goes on.

    Examples
    --------
    >>> done = run_segments("events.csv", "new.zarr", events="A", probes=1, data_dir="mms", offline=True,
    ...                     model="first", workers=0)
    >>> done.complete, done.failed
    (('A/mms1',), {})
    """
    from mms_regions.core.cluster_settings import resolve_run
    from mms_regions.core.stop import heard_signals
    from mms_regions.run.begin import RunRequest
    from mms_regions.run.run import run
    from mms_regions.store.paths import run_folder
    from mms_regions.store.relabel import choose_model
    from mms_regions.workers.open import pool_for

    flags = {
        "data_dir": data_dir,
        "offline": offline,
        "source": source,
        "archive_url": archive_url,
        "manifest": manifest,
        "convention": convention,
        "model": model if model is None else str(_named(model)),
        "workers": workers,
        "device": device,
        "perturb": perturb,
        "draws": draws,
    }
    path, chosen = _path(store), catalogue if isinstance(catalogue, Catalogue) else read_catalogue(catalogue)
    segments = chosen.segments(events, None if probes is None else str(probes))
    settings, cluster = resolve_run(flags, os.environ, None if profile is None else _path(profile))
    labelled = choose_model(settings, path, os.environ)
    request = RunRequest(chosen, segments, path, labelled.settings, labelled.model, redo, labelled.remarks)
    with pool_for(cluster, run_folder(path)) as pool, heard_signals() as stop:
        return run(request, pool, observe or (lambda event: None), stop)


def plot_segment(segment: xr.Dataset, *, title: str = "", data_dir: Path | str | None = None) -> Figure:
    """Draw a segment: fields, moments, spectra, probabilities and regions on one time axis.

    Parameters
    ----------
    segment : xarray.Dataset
        As `open_segment` gives it.
    title : str, optional
        Default: event, spacecraft, model and convention.
    data_dir : path, optional
        The folder of the CDF files, which alone hold the ion spectrogram. Default: as on the command line
        ($MMS_DATA_DIR). Where it cannot be drawn, a warning says why, and the picture is without it.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown in a notebook or saved with `savefig`.

    Raises
    ------
    ValueError
        The segment has no samples, a variable is missing, or its label does not name its regions.

    Examples
    --------
    >>> figure = plot_segment(open_segment("a.zarr", "A", 1), data_dir="mms")
    >>> figure.savefig("a_mms1.png")
    """
    from mms_regions.core.settings import resolve_settings
    from mms_regions.report.ion_spectrum import ion_spectrum
    from mms_regions.report.segment_plot import drawable, segment_picture

    folder, ions = resolve_settings({"data_dir": data_dir}, os.environ).data_dir, None
    try:
        ions = ion_spectrum(drawable(segment), folder) if folder else None
    except SegmentProblem as problem:
        warnings.warn(f"The picture is without ions. {problem}", stacklevel=2)
    return segment_picture(segment, title, ions)


def _path(path: Path | str) -> Path:
    return Path(path).expanduser()


def _named(model: Path | str) -> Path | str:
    """A name stays a text: `./first` is a folder, `first` the name of a model."""
    return model if isinstance(model, str) and not model.startswith("~") else _path(model)
