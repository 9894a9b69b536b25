"""The zarr store: its plan, receipts, shards and index, and how people read it.

May import: the folders from core to model. Only this folder knows zarr.
Read first: `plan` (where each segment lies), then `receipts` (what is done), then `shards` (how it is written).
"""
