"""Where the encoded items of a video wait until they are written."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

IN_MEMORY_BYTES = 1 << 24
"""Of a video; what goes beyond it goes to the disk. A clip of ten seconds takes less."""


class Spool:
    """Encoded items in memory, and in a file without a name where a video is too long for that.

    Args:
        folder: where that file is, with room for the items.

    Raises:
        OSError: the disk is full; in `extend` and when items are taken out.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._lengths: list[int] = []

    def __del__(self) -> None:
        # Whoever drops the items of a video, one that turned out bad too, need not know where they are.
        self._file.close()

    def extend(self, items: Iterable[bytes]) -> None:
        """Add items at the end."""
        for item in items:
            self._file.write(item)
            self._lengths.append(len(item))

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for length in self._lengths:
            yield self._file.read(length)
