"""The official files of ActivityNet and THUMOS14, as small as they can be, written by the tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from tests.unit.lists import write

# Subset, and label, start and end of each annotation, by the id of the video.
ACTIVITYNET: dict[str, tuple[str, list[tuple[str, float, float]]]] = {
    "aaa": ("training", [("Up", 0.1, 0.3)]),
    "bbb": ("training", [("Left", 0, 0.4), ("Up", 0.2, 0.3), ("Left", 0.4, 0.5)]),
    "-cc": ("validation", [("Left", 0.1, 0.2)]),
    "ddd": ("validation", [("Up", 0, 0.1), ("Left", 0.2, 0.2)]),
    "eee": ("testing", []),
}


def _annotated(annotations: list[tuple[str, float, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "segment": [start, end]} for label, start, end in annotations]


def write_activitynet(path: Path, videos: Mapping[str, Any] = ACTIVITYNET) -> Path:
    """The official file."""
    database = {
        name: {"duration": 9.5, "subset": subset, "url": "", "annotations": _annotated(annotations)}
        for name, (subset, annotations) in videos.items()
    }
    return write(path, json.dumps({"database": database, "taxonomy": [], "version": "VERSION 1.3"}))


def write_bmn(folder: Path, videos: Mapping[str, Any] = ACTIVITYNET) -> Path:
    """The two files that BMN reads."""
    annotations = {
        f"v_{name}": {"duration_second": 9.5, "annotations": _annotated(given)} for name, (_, given) in videos.items()
    }
    write(folder / "anet_anno_action.json", json.dumps(annotations))
    rows = (f"v_{name},285,9.5,30.0,29.9,{subset},280" for name, (subset, _) in videos.items())
    write(folder / "video_info_new.csv", "video,numFrame,seconds,fps,rfps,subset,featureFrame", *rows)
    return folder


# Primary and secondary actions, by the number of the video.
VALIDATION = {1: ["Up"], 2: ["Left", "Up"], 3: ["Left"]}
TEST = {1: ["Left"], 2: ["Up"], 3: ["Up", "Left", "Spin"], 4: ["Up"]}
BACKGROUND = {2}


def _table(variable: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A 1 x N struct whose cells hold what MATLAB would put there."""
    table = np.empty((1, len(rows)), [(name, "O") for name in rows[0]])
    for number, row in enumerate(rows):
        table[0, number] = tuple(row.values())
    return {variable: table}


def _row(subset: str, number: int, actions: list[str]) -> dict[str, Any]:
    row = {"video_name": f"video_{subset}_{number:07d}", "primary_action": actions[0], "video_duration_seconds": 9.5}
    row["secondary_actions"] = np.array([actions[1:]], object) if actions[1:] else np.empty((0, 0))
    return row


def write_thumos14(folder: Path, validation: Mapping[int, list[str]] = VALIDATION) -> Path:
    """The official files, with three classes, of which the validation set has but two."""
    folder.mkdir(parents=True)
    write(folder / "classInd.txt", "Up", "Left", "Spin")
    rows = [_row("validation", number, actions) for number, actions in validation.items()]
    savemat(folder / "validation_set.mat", _table("validation_videos", rows))
    rows = [
        {**_row("test", number, actions), "background_video": "YES" if number in BACKGROUND else "NO"}
        for number, actions in TEST.items()
    ]
    savemat(folder / "test_set_final.mat", _table("test_videos", rows))
    for subset, short in (("validation", "val"), ("test", "test")):
        lists = folder / f"temporal_annotations_{subset}"
        write(lists / f"Up_{short}.txt", f"video_{subset}_0000003  0.1 0.3", f"video_{subset}_0000003  0.3 0.4")
        write(lists / f"Left_{short}.txt", f"video_{subset}_0000003  0.2 0.4", end="\r\n")
        write(lists / f"Ambiguous_{short}.txt", f"video_{subset}_0000001  0.0 0.2")
    return folder
