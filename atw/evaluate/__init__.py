"""Scores of the test videos, their fusion over the streams, and what they say: accuracies with their uncertainty."""
