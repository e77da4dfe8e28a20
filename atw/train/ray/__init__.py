"""Ray for trainings with several workers: private clusters, shared ones, and the rendezvous of the workers."""
