"""mms-regions: which region of magnetic reconnection a spacecraft is in, sample by sample."""

__version__ = "0.1.0"
