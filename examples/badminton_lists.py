"""Write lists for `badminton.yaml` from strokes.csv, which says when each stroke of a rally is played.

    python examples/badminton_lists.py data/badminton/strokes.csv

The lists lie beside strokes.csv. The labels of a rally are the kinds of its strokes that occur in both games.
split1.csv trains on the rallies of game 1 and tests those of game 2, split2.csv the other way round: the game is the
first character of a video's name. actions.csv has .3 s before and after each stroke: there a weight is near it.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

GAMES = ("1", "2")
NEAR = 0.3  # seconds


def main() -> None:
    """Write the lists."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strokes", type=Path, help="strokes.csv, with the columns path, second and stroke")
    strokes: Path = parser.parse_args().strokes
    with strokes.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kinds = {game: {row["stroke"] for row in rows if row["path"].startswith(game)} for game in GAMES}
    shared = set.intersection(*kinds.values()) - {"unknown"}
    labels = {row["path"]: dict[str, None]() for row in rows}  # in the order of time
    for row in rows:
        if row["stroke"] in shared:
            labels[row["path"]][row["stroke"]] = None
    for number, game in enumerate(GAMES, start=1):
        lines = [
            (path, "|".join(strokes_shown), "train" if path.startswith(game) else "test")
            for path, strokes_shown in labels.items()
            if strokes_shown
        ]
        _write(strokes.with_name(f"split{number}.csv"), ("path", "label", "subset"), lines)
    near = []
    for row in rows:
        at = float(row["second"])
        # A stroke of another kind has no label: its stretch does not count.
        stroke = row["stroke"] if row["stroke"] in shared else ""
        near.append((row["path"], stroke, f"{max(0, at - NEAR):.2f}", f"{at + NEAR:.2f}"))
    _write(strokes.with_name("actions.csv"), ("path", "label", "start", "end"), near)


def _write(path: Path, columns: tuple[str, ...], lines: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([columns, *lines])
    print(f"{path}: {len(lines)} lines")


if __name__ == "__main__":
    main()
