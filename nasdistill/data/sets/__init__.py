"""The data sets that come along, one file each."""
