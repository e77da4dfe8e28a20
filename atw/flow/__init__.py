"""Optical flow: TV-L1 between two frames, and the same after the camera's motion is taken out."""

from atw.flow.camera import Compensated
from atw.flow.engine import estimate, resolve_backend
from atw.flow.pairs import PRESETS, SMALLEST_SIDE_PX, parameters
from atw.flow.warp import estimate_warped

__all__ = [
    "PRESETS",
    "SMALLEST_SIDE_PX",
    "Compensated",
    "estimate",
    "estimate_warped",
    "parameters",
    "resolve_backend",
]
