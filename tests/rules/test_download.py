"""The rule `download`: a dataset from archives on a server, once; no other rule asks for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.rules.conftest import REPOSITORY, Workplace
from tests.unit.archives import write_tar, write_zip
from tests.unit.web import serve

TARGET = "data/downloads/ucf101.json"
SUBSETS = {"train": ("g01", " 1"), "test": ("g02", "")}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def _serve_archives(folder: Path) -> None:
    folder.mkdir()
    videos = {f"UCF-101/Archery/v_Archery_{group}_c01.avi": b"no video" for group, _ in SUBSETS.values()}
    lists = {
        f"ucfTrainTestlist/{subset}list0{split}.txt": f"Archery/v_Archery_{group}_c01.avi{label}\r\n".encode()
        for split in (1, 2, 3)
        for subset, (group, label) in SUBSETS.items()
    }
    write_tar(folder / "UCF101.tar.gz", videos)
    write_zip(folder / "lists.zip", {"ucfTrainTestlist/classInd.txt": b"1 Archery\r\n"} | lists)


def test_download(place: Workplace) -> None:
    _serve_archives(place.folder / "served")
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    with serve(place.folder / "served") as web:
        raw["datasets"]["ucf101"] |= {
            "videos_from": web.address("UCF101.tar.gz"),
            "lists_from": web.address("lists.zip"),
        }
        place.write_config(raw)
        assert "download" not in place.jobs()
        place.snakemake(TARGET)
        assert len(web.requests) == 2
    assert json.loads((place.folder / TARGET).read_text())["archives"]["videos"]["from"].endswith("/UCF101.tar.gz")
    assert (place.folder / "data/ucf101/Archery/v_Archery_g02_c01.avi").read_bytes() == b"no video"
    # An address does not matter any more once the videos are there.
    raw["datasets"]["ucf101"]["videos_from"] = "elsewhere.rar"
    place.write_config(raw)
    assert place.jobs(TARGET) == {}


def test_a_dead_address_is_explained(place: Workplace) -> None:
    (place.folder / "served").mkdir()
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    with serve(place.folder / "served") as web:
        raw["datasets"]["hmdb51"] |= {"videos_from": web.address("a.zip"), "lists_from": web.address("b.zip")}
        place.write_config(raw)
        run = place.snakemake("data/downloads/hmdb51.json", check=False)
    assert run.returncode != 0
    assert "a.zip: HTTP status 404" in run.stdout + run.stderr
    assert "set datasets.hmdb51.videos_from in config.yaml" in run.stdout + run.stderr
    assert not (place.folder / "data/hmdb51").exists()


def test_only_official_datasets_are_downloaded(place: Workplace) -> None:
    place.write_config(yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8")))
    run = place.snakemake("--dry-run", "data/downloads/demo.json", check=False)
    assert run.returncode != 0
    assert "MissingRuleException" in run.stdout + run.stderr


def test_the_command_line_of_the_rule_can_be_pasted(place: Workplace) -> None:
    _serve_archives(place.folder / "served")
    location = {"name": "ucf101", "kind": "ucf101", "root": "videos", "lists": "lists"}
    archives = {"videos_from": "served/UCF101.tar.gz", "lists_from": "served/lists.zip"}
    command = [sys.executable, "-m", "atw", "download", "out.json"]
    options = ["--dataset", json.dumps(location), "--archives", json.dumps(archives)]
    subprocess.run([*command, *options], cwd=place.folder, check=True, capture_output=True)
    assert (place.folder / "lists/classInd.txt").is_file()
