"""`atw plan`: estimate what a target takes before anything runs.

`rates` measures this machine on a sample of the videos and on the configured networks; `estimate` asks Snakemake which
files are to be made, and multiplies.
"""
