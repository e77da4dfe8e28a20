"""From shards to batches: which positions of a video are sampled, and how they are cropped and flipped."""
