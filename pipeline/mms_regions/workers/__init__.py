"""Where tasks run: in this process, on Dask workers of this machine, in SLURM jobs, or in one allocation.

May import: core, archive. Only this folder knows distributed and dask-jobqueue.
Read first: `pool` (what the run loop asks of a cluster), then `open` (a profile becomes a pool).
"""
