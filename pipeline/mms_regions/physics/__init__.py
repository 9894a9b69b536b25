"""From CDF files to samples and the 14 features of the network, in two conventions.

May import: core, archive, workers. `burst` alone reads values of CDF files; all else is plain numpy.
Read first: `conventions` (what a segment is made from, and how), then `corrected` (with `screening`: what must not be
used, `resample`: values at the electron rows) or `published`. `formulas` knows no convention.
"""
