"""The version of this package: of the command line, the stores, and every file that is exported."""

__version__ = "0.2.0"
SOFTWARE = f"mms-regions {__version__}"
