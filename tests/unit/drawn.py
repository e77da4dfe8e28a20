"""Folders with a directory per class, whose splits are drawn."""

from pathlib import Path
from typing import Any

from atw.datasets import Dataset
from atw.plan import Plan

VIDEOS = [f"{label}/{label}_p{person}_{number}.avi" for label in "ab" for person in range(5) for number in range(2)]


def touch(path: Path) -> None:
    """A file of one byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def write_videos(folder: Path) -> Path:
    """The folder, with two directories of ten files each."""
    for video in VIDEOS:
        touch(folder / video)
    return folder


def raw(root: Path, **keys: Any) -> dict[str, Any]:
    """The configuration of the dataset "mine" in that folder."""
    return {"datasets": {"mine": {"kind": "folder", "root": str(root), **keys}}}


def drawn(root: Path, **keys: Any) -> Dataset:
    """The dataset, once its splits are drawn."""
    return Plan(raw(root, **keys)).dataset("mine")
