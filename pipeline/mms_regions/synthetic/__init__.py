"""MMS-like data with known truth: a layer, a crossing of it, instruments, CDF files, a server that offers them.

May import: the folders from core to export, and `api`.
Read first: `layer` (the fields and moments), then `crossing` (a path through them), then `write` (the files).
"""
