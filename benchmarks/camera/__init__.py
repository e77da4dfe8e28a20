"""How well the motion of the camera is found, and at what cost."""
