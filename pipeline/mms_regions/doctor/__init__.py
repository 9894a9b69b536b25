"""What this machine lacks for a run: libraries, disk space, SLURM, a GPU.

May import: the folders from core to training.
Read first: `doctor` (all findings), then `finding` (what one of them is).
"""
