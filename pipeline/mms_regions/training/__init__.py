"""Training a network on virtual crossings whose regions are known.

May import: the folders from core to synthetic.
Read first: `train` (the recipe, from crossings to a model and its card).
"""
