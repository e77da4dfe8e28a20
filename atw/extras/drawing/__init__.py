"""Pictures for people, drawn by Matplotlib: attention over a video, and what a prediction says."""
