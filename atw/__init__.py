"""Three-stream action recognition with temporal attention: raw videos in, a fused and traceable accuracy out.

The tree is the pipeline: `datasets` lists videos and labels, `preprocess` (with `flow`) turns them into shards,
`data` samples snippets from shards, `model` and `train` learn one network per stream, `evaluate` scores and fuses.
"""

__version__ = "0.1.0"
