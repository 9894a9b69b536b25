"""Checks this machine against a profile: libraries, GPU, model, SLURM, disk space, network, clock.

May import: the folders from core to training, inside functions where a library is needed that may be broken.
Read first: `doctor` (the list of checks), then `finding` (what a check returns).
"""
