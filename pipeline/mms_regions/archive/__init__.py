"""Which CDF files a segment needs, and how they come here complete and verified.

May import: core. Only this folder speaks HTTP.
Read first: `products` (names, folders and versions of files), then `fetch` (the files of one segment).
"""
