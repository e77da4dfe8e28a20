"""Lists of videos as datasets bring them, written by the tests."""

import json
from pathlib import Path
from typing import Any

from atw.datasets import Dataset

# Names as they stand in the official lists, or with the characters that occur there.
ODD_NAMES = [
    "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi",
    "Ben & Jerry;rm -rf!_smile_h_cm_np1_fr_bad_1.avi",
    "[1] (2) @home + ~tilde_sword_u_cm_np2_le_med_3.avi",
    "It's a kick_f_cm_np1_ba_bad_0.avi",
    "double  space_f_cm_np1_ba_bad_0.avi",
]


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def dataset(kind: str, lists: Path | None = None, root: Path | str = "nowhere", **settings: Any) -> Dataset:
    """A dataset called `mine` as a job gets it from the command line."""
    places = {} if lists is None else {"root": str(root), "lists": str(lists)}
    return Dataset.from_json(json.dumps({"name": "mine", "kind": kind, **places, **settings}))


def write_ucf101(folder: Path, end: str = "\r\n") -> Path:
    write(folder / "classInd.txt", "1 Swing", "2 HandstandPushups", "3 Archery", end=end)
    for split in ("01", "02", "03"):
        write(
            folder / f"trainlist{split}.txt",
            "Swing/v_Swing_g02_c01.avi 1",
            "Swing/v_Swing_g02_c02.avi 1",
            "HandstandPushups/v_HandStandPushups_g02_c01.avi 2",
            "Archery/v_Archery_g02_c01.avi 3 ",
            end=end,
        )
        write(
            folder / f"testlist{split}.txt",
            "HandstandPushups/v_HandStandPushups_g01_c01.avi",
            "Archery/v_Archery_g01_c01.avi",
            "",
            end=end,
        )
    return folder


def write_hmdb51(folder: Path) -> Path:
    for split in ("1", "2", "3"):
        write(folder / f"sword_exercise_test_split{split}.txt", "a_0.avi 1 ", "a_1.avi 2 ", "a_2.avi 0 ")
        write(folder / f"sword_test_split{split}.txt", *(f"{name} {1 + i % 2} " for i, name in enumerate(ODD_NAMES)))
        write(folder / f"kick_ball_test_split{split}.txt", "b_0.avi 1 ", "b_1.avi 2 ", end="\r\n")
        write(folder / f"kick_test_split{split}.txt", "a_0.avi 2 ", "a_1.avi 1 ")
    return folder


def write_folder(path: Path, *rows: str, header: str = "path,label,subset,group") -> Path:
    return write(path, header, *rows)


GOOD = ("a/1.mp4,fight,train,g1", "b/1.mp4,calm,train,g2", "a/2.mp4,fight,test,g3", "b/2.mp4,calm,test,g4")
