"""The demo's actor: a textured stick figure, and its poses in eight actions.

A pose is 12 numbers: shift right and down (in heights of the actor), roll, lean (radians), and for each arm and leg,
left first, the angle of its upper part from hanging straight down, outwards positive, and the bend of its joint.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pose = NDArray[np.float64]
Colour = tuple[int, int, int]

SHIFT_X, SHIFT_Y, ROLL, LEAN = range(4)
ARM = {"left": 4, "right": 6}  # shoulder; the elbow is the next number
LEG = {"left": 8, "right": 10}  # hip; the knee is the next number
MOVEMENTS = ("march", "clap", "reach", "sway", "shrug")
REST: Pose = np.array([0, 0, 0, 0, 0.25, 0.15, 0.25, 0.15, 0.16, 0, 0.16, 0])
_SUBPIXEL_BITS = 4  # OpenCV draws at sixteenths of a pixel


def action_pose(label: str, frame: float, *, period: float, strength: float, side: str, phase: float) -> Pose:
    """Return what an action adds to the pose at rest.

    Args:
        label: one of the eight actions.
        frame: frames since the action began.
        period: frames of one repetition.
        strength: of the movement, about 1.
        side: `left` or `right`, the hand or foot that acts, or the direction.
        phase: of the repetition, radians.
    """
    pose = np.zeros(12)
    angle = 2 * math.pi * frame / period + phase
    swing, lift = math.sin(angle), 0.5 - 0.5 * math.cos(angle)
    direction = 1 if side == "left" else -1
    arm, leg = ARM[side], LEG[side]
    arms, legs = list(ARM.values()), list(LEG.values())
    match label:
        case "wave":
            pose[arm], pose[arm + 1] = 2.1 + 0.55 * strength * swing, 0.5 + 0.5 * strength * swing
        case "jack":
            pose[arms], pose[legs] = 2.3 * strength * lift, 0.45 * strength * lift
            pose[SHIFT_Y] = -0.06 * strength * lift
        case "kick":
            pose[leg], pose[leg + 1], pose[arm] = 1.25 * strength * lift, 0.4 * strength * swing, 0.3 * lift
        case "squat":
            pose[SHIFT_Y], pose[arms] = 0.19 * strength * lift, 0.5 * lift
            pose[legs], pose[[hip + 1 for hip in legs]] = 0.95 * strength * lift, -1.8 * strength * lift
        case "jump":
            hop = abs(math.sin(angle / 2))
            pose[SHIFT_Y], pose[arms] = -0.26 * strength * hop, 0.3 * hop
        case "walk":
            pose[SHIFT_X] = direction * 0.42 * strength * math.sin(angle / 2)
            stride = 0.5 * math.sin(1.5 * angle)
            # Outwards is positive on both sides, so equal signs on opposite limbs swing them apart.
            pose[LEG["left"]], pose[LEG["right"]], pose[ARM["left"]], pose[ARM["right"]] = (
                stride,
                -stride,
                -stride,
                stride,
            )
        case "spin":
            pose[ROLL] = direction * strength * 2 * math.pi * frame / (1.7 * period)
            pose[arms], pose[legs] = 1.3, 0.25
        case "bow":
            pose[LEAN], pose[arm] = direction * 1.15 * strength * lift, 0.3 * lift
        case _:
            raise ValueError(f"no action is called {label}")
    return pose


def movement_pose(name: str, frame: float, *, period: float, strength: float, side: str) -> Pose:
    """Return what a movement that belongs to no class adds to the pose at rest; arguments as of `action_pose`."""
    pose = np.zeros(12)
    angle = 2 * math.pi * frame / period
    swing, lift = math.sin(angle), 0.5 - 0.5 * math.cos(angle)
    direction = 1 if side == "left" else -1
    match name:
        case "march":
            for leg, share in ((LEG["left"], max(swing, 0.0)), (LEG["right"], max(-swing, 0.0))):
                pose[leg], pose[leg + 1] = 0.7 * strength * share, -1.3 * strength * share
        case "clap":
            for arm in ARM.values():
                pose[arm], pose[arm + 1] = 1.1 * strength * lift, -1.9 * strength * lift
        case "reach":
            pose[ARM[side]], pose[LEAN] = 1.3 * strength * lift, 0.25 * direction * lift
        case "sway":
            pose[ROLL], pose[SHIFT_X] = 0.22 * direction * strength * swing, 0.06 * direction * swing
        case "shrug":
            for arm in ARM.values():
                pose[arm], pose[arm + 1] = 0.5 * strength * lift, 1.2 * strength * lift
        case _:
            raise ValueError(f"no movement is called {name}")
    return pose


class Colours(NamedTuple):
    """Colours of body, legs and arms, of the pattern on each, and of the face, BGR."""

    parts: tuple[Colour, Colour, Colour]
    patterns: tuple[Colour, Colour, Colour]
    face: Colour


class _Limb(NamedTuple):
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    width: float  # in heights of the actor
    part: int


def draw_actor(
    image: NDArray[np.uint8],
    pose: Pose,
    *,
    root: NDArray[np.float64],
    height: float,
    camera: NDArray[np.float64],
    colours: Colours,
) -> None:
    """Draw the actor into `image`.

    Args:
        image: uint8 [H, W, 3], changed in place.
        pose: 12 numbers.
        root: where the actor's hips are at rest, world pixels.
        height: of the actor, pixels.
        camera: 2 x 3, world to image.
        colours: of its parts.
    """
    hip = pose[[SHIFT_X, SHIFT_Y]] * height
    limbs, head = _skeleton(pose, hip, height)
    zoom = math.hypot(camera[0, 0], camera[1, 0])
    cosine, sine = math.cos(pose[ROLL]), math.sin(pose[ROLL])
    roll = np.array([[cosine, -sine], [sine, cosine]])
    centre = hip + np.array([0, -0.1 * height])  # the actor rolls about its waist
    hair = head + _direction(math.pi - pose[LEAN]) * 0.05 * height
    points = np.array([*(end for limb in limbs for end in (limb.start, limb.end)), head, hair])
    seen = (root + (points - centre) @ roll.T + centre) @ camera[:, :2].T + camera[:, 2]
    _draw_limbs(image, seen[:-2].reshape(-1, 2, 2), limbs, height * zoom, colours)
    draw_disc(image, seen[-2], 0.1 * height * zoom, colours.face)
    draw_disc(image, seen[-1], 0.06 * height * zoom, colours.patterns[0])


def draw_disc(image: NDArray[np.uint8], centre: NDArray[np.float64], radius: float, colour: Colour) -> None:
    """Draw a filled, smoothed circle at a sub-pixel position."""
    x, y = (round(value * 2**_SUBPIXEL_BITS) for value in centre)
    cv2.circle(image, (x, y), int(radius * 2**_SUBPIXEL_BITS), colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _direction(angle: float) -> NDArray[np.float64]:
    """Return the unit vector at `angle` from straight down."""
    return np.array([math.sin(angle), math.cos(angle)])


def _skeleton(pose: Pose, hip: NDArray[np.float64], height: float) -> tuple[list[_Limb], NDArray[np.float64]]:
    """Return the limbs from back to front, and the head, in pixels from the root."""
    lean = pose[LEAN]
    neck = hip + _direction(math.pi - lean) * 0.33 * height
    limbs = []
    for side, outwards in (("left", -1), ("right", 1)):
        index = LEG[side]
        start = hip + np.array([outwards * 0.055 * height, 0])
        knee = start + _direction(outwards * pose[index]) * 0.22 * height
        foot = knee + _direction(outwards * (pose[index] + pose[index + 1])) * 0.22 * height
        limbs += [_Limb(start, knee, 0.095, 1), _Limb(knee, foot, 0.085, 1)]
    limbs.append(_Limb(hip, neck, 0.19, 0))
    for side, outwards in (("left", -1), ("right", 1)):
        index = ARM[side]
        start = neck + np.array([math.cos(lean), math.sin(lean)]) * outwards * 0.085 * height
        elbow = start + _direction(outwards * pose[index] + 0.6 * lean) * 0.19 * height
        hand = elbow + _direction(outwards * (pose[index] + pose[index + 1]) + 0.6 * lean) * 0.18 * height
        limbs += [_Limb(start, elbow, 0.08, 2), _Limb(elbow, hand, 0.075, 2)]
    return limbs, neck + _direction(math.pi - lean) * 0.13 * height


def _draw_limbs(
    image: NDArray[np.uint8], ends: NDArray[np.float64], limbs: list[_Limb], scale: float, colours: Colours
) -> None:
    """Draw limbs, each from `ends` [N, 2, 2] to the other end, from back to front."""
    start, end = ends[:, 0], ends[:, 1]
    along = end - start
    unit = along / (np.hypot(*along.T) + 1e-6)[:, None]
    widths = np.array([limb.width for limb in limbs])[:, None] * scale
    across = np.stack([-unit[:, 1], unit[:, 0]], axis=1) * widths / 2
    # Two stripes give the flow something to hold on to along the limb.
    stripe = unit * widths * 0.22
    shapes = [(start + across, end + across, end - across, start - across)]
    for middle in (start + along * 0.3, start + along * 0.7):
        one, other = middle + across, middle - across
        shapes.append((one + stripe, one - stripe, other - stripe, other + stripe))
    corners = np.round(np.array(shapes) * 2**_SUBPIXEL_BITS).astype(np.int32)
    corners = np.ascontiguousarray(corners.transpose(2, 0, 1, 3))  # [N, 3, 4, 2], as OpenCV takes them
    for limb, (body, *stripes), joints, width in zip(limbs, corners, ends, widths[:, 0], strict=True):
        cv2.fillConvexPoly(image, body, colours.parts[limb.part], cv2.LINE_AA, _SUBPIXEL_BITS)
        for joint in joints:
            draw_disc(image, joint, width / 2, colours.parts[limb.part])
        for shape in stripes:
            cv2.fillConvexPoly(image, shape, colours.patterns[limb.part], cv2.LINE_AA, _SUBPIXEL_BITS)
