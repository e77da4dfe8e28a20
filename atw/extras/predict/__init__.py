"""New videos through all streams of a trained split: labels, attention over time, windows of untrimmed videos.

`asked` looks at what the command is given, `items` computes frames and flow as the shards of training hold them,
`predictor` scores them, `told` says what was found in words, and `drawn` draws it.
"""
