"""The videos of the demo dataset, rendered by this package."""
