"""What a target costs before anything runs: `atw plan`.

`pending` asks Snakemake what is to be made, `footage` looks at a sample of the videos, `rates` measures this machine on
them and on the networks of the configuration, `estimate` multiplies.
"""
