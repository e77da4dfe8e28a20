"""The page of a result as a file: whole, escaped, small, the same every time, and without a request to anybody."""

import dataclasses
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs

from atw.config import AuditSettings
from atw.extras.report import page
from atw.extras.report.gathered import Gathered, gather
from atw.extras.report.page import render, write_report
from atw.files import InputError
from atw.preprocess.audit import Finding, audit
from tests.unit.reported import MANY, many_classes
from tests.unit.stored import WriteShard
from tests.unit.trained import Trained

HOSTILE = "</script><img src=x onerror=alert(1)>&'\"{{ 7 * 7 }}"
STREAMS = ("rgb", "flow", "warped")


class Reader(HTMLParser):
    """Collects a page's tags with their attributes, and its text, each with the tag that begins just before it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._place = ""
        self._in_text = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._place, self._in_text = tag, False

    def handle_endtag(self, tag: str) -> None:
        self._place, self._in_text = "", False

    def handle_data(self, data: str) -> None:
        if self._in_text:  # long text comes in pieces
            data = self.texts.pop()[1] + data
        self.texts.append((self._place, data))
        self._in_text = True

    def of(self, tag: str) -> list[str]:
        return [data for place, data in self.texts if place == tag]

    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        content: dict[str, Any] = json.loads(self.of("script")[0])
        return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from tests.conftest import _moving_frames, _write_mjpeg

    made = Trained(tmp_path_factory.mktemp("report"), _moving_frames, _write_mjpeg)
    settings = AuditSettings(
        recipe=1, dataset="mine", quarantine_limit=0.05, identical="refuse", split="split1", videos=""
    )
    audit(made.split / "quarantine.csv", [made.shards["rgb"]], settings, made.dataset)
    return made


def sources(trained: Trained) -> dict[str, Any]:
    return {"shards": trained.shards["rgb"].parents[1], "quarantine": trained.split / "quarantine.csv"}


@pytest.fixture(scope="module")
def gathered(trained: Trained) -> Gathered:
    return gather(trained.split / "fused.json", **sources(trained))


def test_the_command_writes_the_whole_page(trained: Trained, tmp_path: Path) -> None:
    given = sources(trained)
    command = [sys.executable, "-m", "atw", "report", "report.html", "--result", str(trained.split / "fused.json")]
    options = ["--shards", str(given["shards"]), "--quarantine", str(given["quarantine"])]
    logs = tmp_path / "logs/train/mine/split1"
    logs.mkdir(parents=True)
    (logs / "flow.log").write_text("12:00:00 finished after 83.0 s\n", encoding="utf-8")
    subprocess.run([*command, *options], cwd=tmp_path, check=True)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    read = Reader(text)
    ids = [attributes["id"] for _, attributes in read.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {"headline", "classes", "training", "attention", "mistakes", "health", "origin"} <= set(ids)
    content = read.data()
    assert {f"figure-{name}" for name in content["figures"]} <= set(ids)
    assert {"headline", "classes", "confusion", "surface", "attention", "attention-0", "training-loss"} <= set(
        content["figures"]
    )
    assert "83.0 s" in read.of("td")
    top1 = json.loads((trained.split / "fused.json").read_text())["accuracy"]["top1"]
    assert read.of("strong") == [f"{100 * top1:.1f}%"]


def test_equal_inputs_give_equal_bytes(trained: Trained, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, trained.split / "fused.json", **sources(trained), logs=tmp_path / "none")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "not measured" in (tmp_path / "one").read_text()


def test_the_page_asks_nobody_and_is_small(gathered: Gathered, tmp_path: Path) -> None:
    text = render(gathered, tmp_path)
    rest = text.replace(get_plotlyjs(), "")
    assert len(rest) < len(text) - 1_000_000
    assert not re.search(r"https?://|//cdn", rest)
    for tag, attributes in Reader(rest).tags:
        for name in ("src", "href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    assert len(text.encode()) < 8_000_000


def test_four_hundred_classes_stay_small(tmp_path: Path, write_shard: WriteShard) -> None:
    text = render(many_classes(tmp_path, write_shard), tmp_path)
    assert len(text.encode()) < 8_000_000
    content = Reader(text).data()
    assert len(content["names"]) == MANY
    assert len(content["cells"]) <= 2 * MANY


def test_names_from_files_are_text(gathered: Gathered, tmp_path: Path) -> None:
    names = {label: f"{label}{HOSTILE}" for label in gathered.first.classes}
    videos = tuple(f"{video}{HOSTILE}" for video in gathered.first.videos)
    result = json.loads(json.dumps(gathered.result))
    result["classes"] = list(names.values())
    for accuracy in (result["accuracy"], *result["streams"].values()):
        accuracy["per_class"] = {names[label]: value for label, value in accuracy["per_class"].items()}
    hostile = dataclasses.replace(
        gathered,
        result=result,
        scores={
            stream: dataclasses.replace(one, classes=tuple(names.values()), videos=videos)
            for stream, one in gathered.scores.items()
        },
        stored={
            stream: {f"{video}{HOSTILE}": place for video, place in stored.items()}
            for stream, stored in gathered.stored.items()
        },
        outcomes={
            name: {(split, f"{video}{HOSTILE}"): (names[label], right) for (split, video), (label, right) in of.items()}
            for name, of in gathered.outcomes.items()
        },
        findings=[Finding(HOSTILE, HOSTILE, "quarantined", HOSTILE)],
    )
    plain, text = Reader(render(gathered, tmp_path)), Reader(render(hostile, tmp_path))
    count = len([tag for tag, _ in plain.tags if tag == "script"])
    assert len([tag for tag, _ in text.tags if tag == "script"]) == count == 3
    assert not [attributes for _, attributes in text.tags if any(name.startswith("on") for name in attributes)]
    assert sum(HOSTILE in data for _, data in text.texts) > 10
    content = text.data()
    assert set(content["names"]) == set(names.values())
    assert "<img" not in json.dumps(content["figures"])


def test_only_the_scripts_of_the_page_may_run(gathered: Gathered, tmp_path: Path) -> None:
    read = Reader(render(gathered, tmp_path))
    policy = next(a["content"] for tag, a in read.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    allowed = next(part for part in policy.split("; ") if part.startswith("script-src ")).split()[1:]
    _, *run = read.of("script")
    assert allowed == [page._hash(script) for script in run]
    assert "default-src 'none'" in policy


def test_shards_of_another_run_are_refused(trained: Trained, tmp_path: Path, write_shard: Any) -> None:
    for stream in STREAMS:
        (tmp_path / stream).mkdir()
        write_shard(tmp_path / stream / "00000.h5", stream, {"left/1.avi": 2})
    given = sources(trained) | {"shards": tmp_path}
    with pytest.raises(InputError, match="is not the shard that was scored"):
        gather(trained.split / "fused.json", **given)


def test_a_stream_of_another_name_is_refused(trained: Trained, tmp_path: Path) -> None:
    result = json.loads((trained.split / "fused.json").read_text())
    result["streams"]["../rgb"] = result["streams"]["rgb"]
    (tmp_path / "fused.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=r"the stream '\.\./rgb', which is none of rgb, flow, warped"):
        gather(tmp_path / "fused.json", **sources(trained))


@pytest.mark.parametrize("content", ["", "{}\n", "[1]\n", "no json\n"])
def test_a_damaged_history_is_named(trained: Trained, content: str) -> None:
    path = trained.split / "flow/history.jsonl"
    whole = path.read_text()
    path.write_text(content)
    try:
        if content:
            with pytest.raises(InputError, match=r"history\.jsonl is not the history of a training"):
                gather(trained.split / "fused.json", **sources(trained))
        else:
            assert gather(trained.split / "fused.json", **sources(trained)).histories["flow"] == []
    finally:
        path.write_text(whole)


def test_a_missing_quarantine_list_is_named(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"q\.csv is no list of quarantined videos"):
        gather(trained.split / "fused.json", **(sources(trained) | {"quarantine": tmp_path / "q.csv"}))
    (tmp_path / "q.csv").write_text("video,what\na,b\n")
    with pytest.raises(InputError, match=r"q\.csv is no list of quarantined videos"):
        gather(trained.split / "fused.json", **(sources(trained) | {"quarantine": tmp_path / "q.csv"}))


def test_the_command_names_what_is_missing(trained: Trained, tmp_path: Path) -> None:
    given = sources(trained)
    command = [sys.executable, "-m", "atw", "report", str(tmp_path / "r.html"), "--result", "none/fused.json"]
    options = ["--shards", str(given["shards"]), "--quarantine", str(given["quarantine"])]
    run = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert "error: none/fused.json is not a result" in run.stderr
    assert not (tmp_path / "r.html").exists()
