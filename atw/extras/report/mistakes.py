"""The worst errors: test videos that the fusion is most sure about, and wrong."""

from typing import Any

import numpy as np
from scipy.special import softmax

from atw.evaluate.fuse import probabilities
from atw.evaluate.metrics import in_top
from atw.extras.drawing.flow_wheel import disc, flow_to_colours
from atw.extras.report.gathered import Gathered
from atw.extras.report.pictures import frames, jpeg_address, moments
from atw.shards import Shard, dequantise

VIDEOS = 12
PICTURES = 4
_PERCENTILE = 99.0
_LEAST_FULL_PX = 1.0
_WHEEL_PX = 72


def mistakes(gathered: Gathered) -> dict[str, Any]:
    """The wrong videos with the highest probability of the wrong class, at most `VIDEOS`.

    Returns:
        `wrong`, how many decoded test videos are wrong; `videos`, each with `label` and `predicted`, their
        probabilities, what the `streams` say, and pictures: `frames`, and `flow` of the `flow_stream` at the same
        moments, whose full colour is motion of `full_px`; `wheel`, the colour wheel.
    """
    first = gathered.first
    shares = probabilities(gathered.fused, weights=gathered.weights, on=gathered.on)
    wrong = np.flatnonzero(~in_top(gathered.fused, first.labels, k=1))
    worst = wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")][:VIDEOS]
    return {
        "wrong": len(wrong),
        "videos": [_described(gathered, row, shares[row]) for row in worst.tolist()],
        "wheel": jpeg_address(_on_white(disc(_WHEEL_PX))),
    }


def _described(gathered: Gathered, row: int, shares: Any) -> dict[str, Any]:
    first = gathered.first
    label, predicted = int(first.labels[row]), int(shares.argmax())
    video = first.videos[row]
    return {
        "video": video,
        "label": first.classes[label],
        "predicted": first.classes[predicted],
        "p_label": float(shares[label]),
        "p_predicted": float(shares[predicted]),
        "streams": {
            stream: {"predicted": first.classes[int(logits.argmax())], "p": float(softmax(logits).max())}
            for stream, logits in (
                (stream, one.video_logits[row].astype(np.float64)) for stream, one in gathered.scores.items()
            )
        },
        "frames": frames(*gathered.stored["rgb"][video], PICTURES),
        **_flow(gathered, video),
    }


def _flow(gathered: Gathered, video: str) -> dict[str, Any]:
    """Plain flow where there is some: it shows what the camera did too."""
    stream = next((name for name in ("flow", "warped") if name in gathered.stored), None)
    if stream is None:
        return {"flow": [], "flow_stream": None, "full_px": None}
    path, entry = gathered.stored[stream][video]
    with Shard(path) as shard:
        numbers = moments(entry.count, PICTURES)
        times = shard.times(entry)
        fields = dequantise(shard.fields(entry, numbers), shard.attributes["bound"])
    lengths = np.hypot(fields[:, 0], fields[:, 1])
    full_px = max(_LEAST_FULL_PX, float(np.percentile(lengths, _PERCENTILE)))
    return {
        "flow": [
            {"seconds": times.of_field(number), "address": jpeg_address(flow_to_colours(field, full_px=full_px))}
            for number, field in zip(numbers, fields, strict=True)
        ],
        "flow_stream": stream,
        "full_px": full_px,
    }


def _on_white(picture: Any) -> Any:
    outside = (picture == 0).all(axis=2, keepdims=True)
    return np.where(outside, np.uint8(255), picture)
