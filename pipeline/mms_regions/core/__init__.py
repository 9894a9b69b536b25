"""What every other folder may use: errors, types, events and segments, settings, files, locks, messages.

Imports nothing else of this package. No library for data or clusters is needed here.
Read first: `catalogue` (`Event` and `Segment`, the unit of work), then `errors`.
"""
