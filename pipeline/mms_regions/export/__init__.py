"""A store in other formats: CSV as the published code writes it, NetCDF, tplot files, tables of segments.

May import: the folders from core to report.
Read first: `export` (what `mms-regions export` calls).
"""
