"""Training of one stream."""
