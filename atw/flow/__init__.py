"""Optical flow: TV-L1 between two frames, and the same after the camera's motion is taken out."""

from atw.flow.camera import Compensated
from atw.flow.engine import estimate, estimate_stored, resolve_backend
from atw.flow.pairs import PRESETS, SMALLEST_SIDE_PX, StoredFlow, parameters
from atw.flow.warp import compensate, steady

__all__ = [
    "PRESETS",
    "SMALLEST_SIDE_PX",
    "Compensated",
    "StoredFlow",
    "compensate",
    "estimate",
    "estimate_stored",
    "parameters",
    "resolve_backend",
    "steady",
]
