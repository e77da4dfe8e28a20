"""Record every iteration of a training: history.jsonl for programs, event files for TensorBoard."""

import json
import math
from pathlib import Path

from tensorboardX import SummaryWriter

from atw.files import open_plain

Row = dict[str, float | None]


class History:
    """Writes one row per iteration, which readers of the files see at once.

    Args:
        path: of the JSON lines; they are cut back to the iteration that a resumed run starts from.
        board: folder of the event files, None for none.
        iteration: that iteration, 0 of a new run.
    """

    def __init__(self, path: Path, board: Path | None, iteration: int) -> None:
        kept = path.read_text(encoding="utf-8").splitlines()[:iteration] if path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines = open_plain(path, "w")
        self._lines.writelines(f"{line}\n" for line in kept)
        self._lines.flush()
        # TensorBoard hides what an interrupted run wrote from the purged step on. Names of event files have whole
        # seconds: without the suffix a run that is resumed at once would overwrite the one before.
        self._events = None
        if board:
            suffix = f".{iteration:08d}"
            self._events = SummaryWriter(str(board), purge_step=iteration + 1, flush_secs=10, filename_suffix=suffix)

    def add(self, row: Row) -> None:
        """Append the row of an iteration, which has its number as `iteration`. A value of None has no curve.

        Numbers that are not finite are written as None, because JSON does not have them.
        """
        row = {name: value if value is not None and math.isfinite(value) else None for name, value in row.items()}
        self._lines.write(json.dumps(row) + "\n")
        self._lines.flush()
        if self._events:
            for name in sorted(row.keys() - {"iteration"}):
                if row[name] is not None:
                    self._events.add_scalar(name, row[name], row["iteration"])

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        if self._events:
            self._events.close()
