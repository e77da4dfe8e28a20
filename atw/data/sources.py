"""Which files a split's shards were made from: the same ones in every stream, or nothing is trained and scored.

Snakemake makes shards again whose videos changed. It knows nothing of shards that came from elsewhere, and a file may
be replaced while a run is in progress.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from atw.config import STREAMS
from atw.datasets import Dataset, Split
from atw.datasets.contents import file_content
from atw.files import InputError, digest
from atw.shards import Shard, differing

log = logging.getLogger("atw")


def sources(paths: Sequence[Path], split: Split, dataset: Dataset) -> str:
    """Digest of the files that the videos of a split were in when the shards of a stream were made: id and SHA-256.

    Args:
        paths: shards of one stream; those of the others lie in the folders beside.
        split: whose videos count.
        dataset: where the videos are.

    Raises:
        InputError: a shard of another stream was made from another file of a video, and that is not because it is
            about to be made again: the one that these shards were made from is not there any more.
    """
    listed = {row.video for row in (*split.train, *split.test)}
    files: dict[str, str] = {}
    for path in paths:
        with Shard(path) as shard:
            own = {video: content for video, content in shard.files.items() if video in listed}
        for other in _of_other_streams(path):
            _require_same(path, own, other, dataset)
        files |= own
    return digest(sorted(files.items()))


def _of_other_streams(path: Path) -> list[Path]:
    folder = path.absolute().parent
    others = (folder.parent / stream / path.name for stream in STREAMS if stream != folder.name)
    return [other for other in others if other.is_file()]


def _require_same(path: Path, own: Mapping[str, str], other: Path, dataset: Dataset) -> None:
    try:
        with Shard(other) as shard:
            theirs = shard.files
    except InputError:
        return  # damaged or old: whoever reads it says so
    video = next(iter(differing(own, theirs)), None)
    if video is None:
        return
    now = file_content(dataset.root / video)
    if now == own[video]:
        log.warning("shard %s is outdated: it was made from another file of %s than there is now", other, video)
        return
    outdated = f"{path}, and the workflow makes it" if now == theirs[video] else "both, and the workflow makes them"
    raise InputError(
        f"shards {path} and {other} were made from different files of {video}, so the streams would show different "
        f"videos; delete {outdated} again from the file that is there now"
    )
