"""`python -m mms_regions`, the same as the command `mms-regions`."""

from mms_regions.cli.main import main

main()
