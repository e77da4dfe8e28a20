"""Optical flow: TV-L1 between two frames, and the same with the motion of the camera taken out."""

from atw.flow.camera import Compensated, WarpParameters
from atw.flow.engine import estimate, resolve_backend
from atw.flow.parameters import Parameters, parameters
from atw.flow.warp import compensate, estimate_warped

__all__ = [
    "Compensated",
    "Parameters",
    "WarpParameters",
    "compensate",
    "estimate",
    "estimate_warped",
    "parameters",
    "resolve_backend",
]
