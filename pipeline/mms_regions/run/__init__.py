"""The loop that fills a store, what each of its tasks does, and what it leaves beside the store.

May import: the folders from core to store.
Read first: `run` (from start to end), then `loop` (tasks in flight), then `tasks` (what workers do).
"""
