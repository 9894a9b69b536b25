"""The variables that the published code saves in its two tplot files: their names, units, frames and form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from mms_regions.core.leap_seconds import Clock
from mms_regions.core.types import Floats, Times

if TYPE_CHECKING:
    import xarray as xr

SPECTRUM_UNITS = "keV/(cm^2 s sr keV)"

# By how a name goes on after `mms4_`; the first that fits.
_UNITS: Mapping[str, str] = MappingProxyType(
    {
        r".*_norm$": "",
        r".*energyspectr": SPECTRUM_UNITS,
        r".*heatq": "mW/m^2",
        r".*prestensor": "nPa",
        r"j[ie]?dote": "nW/m^3",
        r"current": "uA/m^2",
        r"(E|E_.*|e_frozen.*|vexB_efield)$": "mV/m",
        r"B": "nT",
        r"N": "cm^-3",
        r"v": "km/s",
        r"T": "eV",
    }
)


def units_of(name: str) -> str:
    """The units of a saved variable such as `mms4_jdoteprime`; empty where it has none. Raises KeyError."""
    short = name.partition("_")[2]
    for pattern, units in _UNITS.items():
        if re.match(pattern, short):
            return units
    raise KeyError(f"{name} is not one of the saved variables")


def derived_names() -> dict[str, str]:
    """By the published name of each variable that is derived at electron times, the name it has in `physics.py`."""
    names = {
        "current_fpi": "j",
        "current_fpi_ions": "ji",
        "current_fpi_elec": "je",
        "current_fpi_mag": "j_mag",
        "current_fpi_ions_mag": "ji_mag",
        "current_fpi_elec_mag": "je_mag",
        "vexB_efield": "e_conv",
        "e_frozen": "e_prime",
        "e_frozen_para": "e_prime_par",
        "e_frozen_perp_xyz": "e_prime_perp",
        "E_ave_ve_para": "e_par",
        "E_ave_ve_perp_xyz": "e_perp",
        "jdote": "j_dot_e",
        "jidote": "ji_dot_e",
        "jedote": "je_dot_e",
        "jdoteprime": "j_dot_e_prime",
        "jidoteprime": "ji_dot_e_prime",
        "jedoteprime": "je_dot_e_prime",
    }
    for mine, currents, primes, plains in (
        ("j", "current_fpi", "jdoteprime", "jdote"),
        ("ji", "current_fpi_ions", "jdoteprime_ions", "jidote_ions"),
        ("je", "current_fpi_elec", "jdoteprime_elec", "jedote_elec"),
    ):
        names |= {f"{currents}_para": f"{mine}_par", f"{currents}_perp_xyz": f"{mine}_perp"}
        for part, suffix in (("par", "para"), ("perp", "perp")):
            names[f"{primes}_{suffix}"] = f"{mine}_dot_e_prime_{part}"
            names[f"{plains}_{suffix}"] = f"{mine}_dot_e_{part}"
    return names


def series(time: Times, values: Floats, energy: Floats | None = None) -> xr.DataArray:
    """Values (n, ...) on a dimension `time` of ns; energy: (n, m) eV of the channels of a spectrum, as `v`."""
    import xarray as xr

    dims = ("time", "energy") if energy is not None else ("time", "x", "y")[: values.ndim]
    coords = {"time": time.astype("datetime64[ns]")}
    if energy is not None:
        return xr.DataArray(values, coords=coords | {"v": (("time", "energy"), energy)}, dims=dims)
    return xr.DataArray(values, coords=coords, dims=dims)


def in_utc(data: xr.DataArray, clock: Clock) -> xr.DataArray:
    """A series of even times with its times in UTC."""
    utc = clock.utc(data["time"].values.astype(np.int64))
    return data.assign_coords(time=utc.astype("datetime64[ns]"))
