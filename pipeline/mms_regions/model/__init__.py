"""The network, its weights and its card; labels, and how far to trust them.

May import: the folders from core to physics. `network`, `fused` and `label` need torch and numpy alone.
Read first: `network` (the recurrent network on one screen), then `label` (features become labels) and `weights`.
"""
