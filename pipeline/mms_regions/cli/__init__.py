"""The command line: options become calls of the other folders; progress on the screen.

May import: every other folder, inside functions, so that `--help` answers at once. Only this folder knows typer.
Read first: `main` (`run`, `label`, `export`), then `options` (the options that commands share).
"""
