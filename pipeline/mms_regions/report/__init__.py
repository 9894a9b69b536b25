"""Pictures and HTML pages of a store.

May import: the folders from core to run. Only this folder knows matplotlib, jinja2 and PIL.
Read first: `segment_plot` (one segment in one picture), then `report` (all pages).
"""
