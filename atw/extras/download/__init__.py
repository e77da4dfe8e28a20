"""The videos and lists of UCF-101 and HMDB-51, from their official addresses or from archives that are there."""
