from __future__ import annotations
import time
def test_x(healthy, mms_regions_here):
    r = mms_regions_here("status", healthy, "--json"); print(r.stdout, r.stderr)
    import xarray as xr
    d = xr.open_zarr(healthy, chunks=None); print(d); 
    import numpy as np
    print(np.unique(d.label.values, return_counts=True), d.first.values, d.n_samples.values)
    for n, v in d.variables.items():
        if not ("long_name" in v.attrs and ("units" in v.attrs or "flag_values" in v.attrs)): print(n, v.dtype, v.attrs)
    t=time.time(); r = mms_regions_here("run", "x"); print(r)
