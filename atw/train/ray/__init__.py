"""Ray for trainings with several workers: private clusters, shared ones, and where their workers meet."""
