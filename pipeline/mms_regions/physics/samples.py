"""What a prepared segment is: its features and the physics they come from, at electron cadence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mms_regions.core.types import ENERGIES, Bits, Flags, Floats, Times

FEATURES = ("Bx", "By", "Bz", "Ex", "Ey", "Ez", "ni", "ne", "vix", "viy", "viz", "vex", "vey", "vez")
VECTOR, TENSOR, SPECTRUM = ("xyz",), ("xyz", "xyz_"), ("energy",)
SPECTRUM_UNITS = "keV cm^-2 s^-1 sr^-1 keV^-1"  # as UDUNITS, pint and astropy read it
DIMENSIONS = MappingProxyType({"xyz": 3, "xyz_": 3, "energy": ENERGIES})


@dataclass(frozen=True)
class Quantity:
    """One physical quantity of a sample: its name in the store, dimensions beside `sample`, units and meaning."""

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(DIMENSIONS[dim] for dim in self.dims)


def _measured() -> list[Quantity]:
    return [
        Quantity("b_gsm", VECTOR, "nT", "magnetic field, GSM, averaged over the electron accumulation"),
        Quantity("e_gsm", VECTOR, "mV/m", "electric field, GSM, averaged over the electron accumulation"),
        Quantity("ni", (), "cm^-3", "ion density without background"),
        Quantity("ne", (), "cm^-3", "electron density"),
        Quantity("vi_gsm", VECTOR, "km/s", "ion bulk velocity without background, GSM"),
        Quantity("ve_gsm", VECTOR, "km/s", "electron bulk velocity, GSM"),
        Quantity("ti_par", (), "eV", "ion temperature along B, without background"),
        Quantity("ti_perp", (), "eV", "ion temperature across B, without background"),
        Quantity("te_par", (), "eV", "electron temperature along B"),
        Quantity("te_perp", (), "eV", "electron temperature across B"),
        Quantity("pe_gsm", TENSOR, "nPa", "electron pressure tensor, GSM"),
        Quantity("qe_gsm", VECTOR, "mW m^-2", "electron heat flux, GSM"),
        Quantity("electron_energy", SPECTRUM, "eV", "energies of the electron spectra"),
        *(
            Quantity(f"electron_spectrum_{name}", SPECTRUM, SPECTRUM_UNITS, f"electron energy flux, {text}")
            for name, text in {
                "omni": "all directions",
                "par": "along B",
                "perp": "across B",
                "anti": "against B",
            }.items()
        ),
    ]


def _derived() -> list[Quantity]:
    """What `physics.fields_and_currents` gives, in GSM."""
    found = [
        Quantity("e_conv_gsm", VECTOR, "mV/m", "convection field of the electrons, -ve x B, GSM"),
        Quantity("e_prime_gsm", VECTOR, "mV/m", "electric field in the electron frame, E + ve x B, GSM"),
    ]
    fields = {"e": "electric field", "e_prime": "electric field in the electron frame"}
    for name, text in fields.items():
        found += _split(name, "mV/m", text)
    currents = {"j": "current density", "ji": "ion current density", "je": "electron current density"}
    for name, text in currents.items():
        found.append(Quantity(f"{name}_gsm", VECTOR, "uA m^-2", f"{text}, GSM"))
        found.append(Quantity(f"{name}_mag", (), "uA m^-2", f"magnitude of the {text}"))
        found += _split(name, "uA m^-2", text)
        for field, field_text in fields.items():
            product = f"{text} times {field_text}"
            found.append(Quantity(f"{name}_dot_{field}", (), "nW m^-3", product))
            found.append(Quantity(f"{name}_dot_{field}_par", (), "nW m^-3", f"{product}, parts along B"))
            found.append(Quantity(f"{name}_dot_{field}_perp", (), "nW m^-3", f"{product}, parts across B"))
    return found


def _split(name: str, units: str, text: str) -> list[Quantity]:
    return [
        Quantity(f"{name}_par", (), units, f"{text} along B"),
        Quantity(f"{name}_perp_gsm", VECTOR, units, f"{text} across B, GSM"),
    ]


QUANTITIES: tuple[Quantity, ...] = (*_measured(), *_derived())

# What `quality` says of a sample, bit by bit. A missing input makes features NaN; nothing here makes a label by itself.
QUALITY_BITS: Mapping[str, int] = MappingProxyType(
    {
        "no_electron_sample": 1,
        "electrons_missing": 2,
        "ions_missing": 4,
        "magnetic_field_missing": 8,
        "electric_field_missing": 16,
        "bridged": 32,
        "repeated_time": 64,
        "fpi_caution": 128,
        "edp_caution": 256,
        "ion_background_exceeds_density": 512,
        "leap_second": 1024,
        "electrons_averaged": 2048,
        "electrons_assumed": 4096,
        "partial": 8192,
        "ion_background_large": 16384,
        "penetrating_radiation": 32768,
        "mean_of_3": 65536,
        "mean_of_5": 131072,
        "mean_of_7": 262144,
        "mean_of_9": 524288,
    }
)


def quality_of(found: Mapping[str, Flags]) -> Bits:
    """(n,): the bits of QUALITY_BITS that `found` names, set where it says."""
    bits = [np.where(where, QUALITY_BITS[name], 0) for name, where in found.items()]
    quality: Bits = np.bitwise_or.reduce(bits).astype(np.uint32)
    return quality


def bridged_in(quality: Bits) -> Flags:
    """(n,): samples whose features were interpolated over a short gap; they carry the state but get no label."""
    flags: Flags = (quality & QUALITY_BITS["bridged"]) != 0
    return flags


@dataclass(frozen=True)
class Samples:
    """A prepared segment of n samples: one row per electron accumulation, in time order of its rows.

    time: (n,) ns UTC; samples of 23:59:60 have times of the second after it, and the bit `leap_second`.
    features: (n, 14) float32, dimensionless, columns FEATURES, NaN where an input is missing.
    quality: (n,) uint32, bits QUALITY_BITS. physics: one float32 array (n, ...) for each of QUANTITIES.
    Raises ValueError when made of arrays that do not fit.
    """

    time: Times
    features: Floats
    quality: Bits
    physics: Mapping[str, Floats]

    def __post_init__(self) -> None:
        n = len(self.time)
        wanted = {"features": (n, len(FEATURES)), "quality": (n,)}
        found = {"features": self.features.shape, "quality": self.quality.shape}
        wanted |= {q.name: (n, *q.shape) for q in QUANTITIES}
        found |= {name: values.shape for name, values in self.physics.items()}
        wrong = {name for name in wanted | found if wanted.get(name) != found.get(name)}
        if wrong:
            raise ValueError(f"Samples of {n} rows: {sorted(wrong)} missing, unknown or of another shape")
        if np.isinf(self.features).any():
            raise ValueError("Samples: a feature is infinite; a density or a scale is zero")

    def __len__(self) -> int:
        return len(self.time)

    @property
    def bridged(self) -> Flags:
        """(n,): see `bridged_in`."""
        return bridged_in(self.quality)


def as_physics(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """The arrays as they are stored: float32, vectors named with their frame (`j` -> `j_gsm`)."""
    names = {q.name.removesuffix("_gsm"): q.name for q in QUANTITIES}
    with np.errstate(over="ignore"):  # absurd values are infinite in float32
        return {names.get(key, key): np.asarray(values, np.float32) for key, values in arrays.items()}
