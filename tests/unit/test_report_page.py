"""The report page as a file: whole, escaped, small, the same every time, and without a request to anybody."""

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from atw.config import AuditSettings, Detect, FuseSettings, PageSettings
from atw.evaluate.detected import detect_videos
from atw.evaluate.result import Result, write_result
from atw.extras.drawing.scored_videos import VideoSelection, lanes, select_rows
from atw.extras.report.inputs import ReportInputs, read_inputs
from atw.extras.report.page import render, write_report
from atw.extras.report.videos import ATTENTION_VIDEOS, action_bars
from atw.files import InputError
from atw.preprocess.audit import Finding, audit
from tests.unit.reported import MANY, many_classes
from tests.unit.scored import FUSE
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
def sources(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The arguments of `write_report` beside the result."""
    quarantine = tmp_path_factory.mktemp("report") / "quarantine.csv"
    settings = AuditSettings(
        recipe=1, dataset="mine", quarantine_limit=0.05, identical="refuse", split="split1", videos=""
    )
    audit(quarantine, [trained.shards["rgb"]], settings, trained.dataset)
    return {"shards": trained.shards["rgb"].parents[1], "quarantine": quarantine}


@pytest.fixture(scope="module")
def inputs(trained: Trained, sources: dict[str, Path]) -> ReportInputs:
    return read_inputs(trained.split / "fused.json", **sources)


def command(folder: Path, result: Path, sources: dict[str, Path], *more: str) -> subprocess.CompletedProcess[str]:
    """Run `atw report` in a folder, where logs are looked for."""
    options = [f"--result={result}", *(f"--{name}={path}" for name, path in sources.items()), *more]
    line = [sys.executable, "-m", "atw", "report", "report.html", *options]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True)


def test_the_command_writes_the_whole_page(trained: Trained, sources: dict[str, Path], tmp_path: Path) -> None:
    logs = tmp_path / "logs/train/mine/split1"
    logs.mkdir(parents=True)
    (logs / "flow.log").write_text("12:00:00 finished after 83.0 s\n", encoding="utf-8")
    assert command(tmp_path, trained.split / "fused.json", sources).returncode == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    read = Reader(text)
    ids = [attributes["id"] for _, attributes in read.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert {"headline", "classes", "training", "attention", "mistakes", "health", "origin"} <= set(ids)
    figures = set(read.data()["figures"])
    assert {f"figure-{name}" for name in figures} <= set(ids)
    expected = {"headline", "classes", "confusion", "surface", "attention", "attention-0", "training-loss"}
    assert expected <= figures
    assert "83.0 s" in read.of("td")
    top1 = json.loads((trained.split / "fused.json").read_text())["accuracy"]["top1"]
    assert read.of("strong") == [f"{100 * top1:.1f}%"]
    flow = json.loads((trained.split / "fused.json").read_text())["attention"]["flow"]
    numbers = [f"{flow['actions'][name]['auc']:.3f}" for name in ("weights", "probability")]
    assert {f"{flow['peak']:.2f}", *numbers} <= set(read.of("td"))


def test_known_actions_and_detections_are_bars_above_the_attention(trained: Trained, inputs: ReportInputs) -> None:
    text = render(inputs, trained.root / "no logs")
    assert not re.search(r"<th[^>]*></th>", text)  # nothing to read aloud for the cells below it
    page = Reader(text)
    rated = json.loads((trained.split / "fused.json").read_text())["detections"]
    assert {f"{rated['fused'][rule]['average_map']:.3f}" for rule in rated["fused"]} <= set(page.of("td"))
    figures = page.data()["figures"]
    over_time = [figures[f"attention-{number}"]["data"] for number in range(3)]
    first = inputs.first
    rows = select_rows(first, inputs.fused.argmax(axis=1), VideoSelection(count=ATTENTION_VIDEOS, seed=inputs.seed))
    files = {stream: trained.split / stream / "scores.h5" for stream in STREAMS}
    fusion = inputs.result.fusion
    detected = detect_videos(files, inputs.scores, Detect(), weights=fusion.weights, on=fusion.on).fused
    for row, traces in zip(rows, over_time, strict=True):
        above = [trace for trace in traces if trace.get("yaxis") == "y2"]
        bars = [[trace["y"][0], trace["x"][0], trace["x"][-1]] for trace in above]
        # Only points answer the mouse.
        assert all(max(np.diff(trace["x"])) < first.seconds[row].max() / 20 for trace in above)
        known = first.actions.seconds[first.actions.video == row]
        assert [bar[1:] for bar in bars if bar[0] == 1] == known.round(3).tolist()
        best = sorted(detected[first.videos[row]], key=lambda one: -one.score)[:5]
        drawn = [bar for bar in bars if bar[0] < 1]
        assert [bar[1:] for bar in drawn] == [np.round(one.segment, 3).tolist() for one in best]
        assert [bar[0] for bar in drawn] == [-lane for lane in lanes([one.segment for one in best if one.segment])]


def test_an_action_that_ends_after_its_video_is_a_bar_to_its_end(inputs: ReportInputs) -> None:
    first = inputs.first
    late = dataclasses.replace(
        first, actions=dataclasses.replace(first.actions, seconds=first.actions.seconds + np.array([0, 1e11]))
    )
    row = int(first.actions.video[0])
    bars = action_bars(late, row, [], 0.5)
    assert {bar.x[-1] for bar in bars} == {0.5}
    assert max(len(bar.x) for bar in bars) <= 41


def test_other_experiments_stand_beside_the_result(
    trained: Trained, sources: dict[str, Path], inputs: ReportInputs, tmp_path: Path
) -> None:
    """Here it is compared with its own stream flow alone, as if that were a result."""
    other = tmp_path / "results/mine/experiments/alone/split1"
    other.mkdir(parents=True)
    (other / "flow").symlink_to(trained.split / "flow")
    content = FuseSettings.model_validate(FUSE | {"weights": {"flow": 1.0}})
    write_result(other / "fused.json", [other / "flow/scores.h5"], content)
    settings = PageSettings(compare={"alone": str(other / "fused.json")}).to_json()
    run = command(tmp_path, trained.split / "fused.json", sources, f"--settings={settings}")
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Beside other experiments" in text
    assert "Beside other experiments" not in render(inputs, tmp_path)
    alone, this = inputs.outcomes["flow"], inputs.outcomes["fused"]
    won = sum(this[video][1] > alone[video][1] for video in this)
    lost = sum(this[video][1] < alone[video][1] for video in this)
    row = re.search(r'<th scope="row">alone</th><td>([\d.]+)%</td>.*?<td>(\d+) : (\d+)</td>', text, re.DOTALL)
    assert row
    top1 = 100 * sum(right for _, right in alone.values()) / len(alone)
    assert row.groups() == (f"{top1:.1f}", str(won), str(lost))


def test_the_command_names_what_is_missing(sources: dict[str, Path], tmp_path: Path) -> None:
    run = command(tmp_path, Path("none/fused.json"), sources)
    assert run.returncode == 2
    assert "error: none/fused.json does not exist; make it by" in run.stderr
    assert not (tmp_path / "report.html").exists()


def test_equal_inputs_give_equal_bytes(trained: Trained, sources: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(tmp_path / name, trained.split / "fused.json", **sources, logs=tmp_path / "none")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "not measured" in (tmp_path / "one").read_text()


def test_the_page_asks_nobody_and_is_small(inputs: ReportInputs, tmp_path: Path) -> None:
    text = render(inputs, tmp_path)
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


def hostile(inputs: ReportInputs) -> ReportInputs:
    """Return the same result with classes and videos whose names try to leave their place on the page."""
    names = {label: f"{label}{HOSTILE}" for label in inputs.first.classes}
    videos = tuple(f"{video}{HOSTILE}" for video in inputs.first.videos)
    content = inputs.result.model_dump()
    content["classes"] = list(names.values())
    for accuracy in (content["accuracy"], *content["streams"].values()):
        accuracy["per_class"] = {names[label]: value for label, value in accuracy["per_class"].items()}
    return dataclasses.replace(
        inputs,
        result=Result.model_validate(content),
        scores={
            stream: dataclasses.replace(one, classes=tuple(names.values()), videos=videos)
            for stream, one in inputs.scores.items()
        },
        stored={
            stream: {f"{video}{HOSTILE}": place for video, place in stored.items()}
            for stream, stored in inputs.stored.items()
        },
        outcomes={
            name: {(split, f"{video}{HOSTILE}"): (names[label], right) for (split, video), (label, right) in of.items()}
            for name, of in inputs.outcomes.items()
        },
        findings=[Finding(HOSTILE, HOSTILE, "quarantined", HOSTILE)],
    )


def test_names_from_files_are_text(inputs: ReportInputs, tmp_path: Path) -> None:
    plain, text = Reader(render(inputs, tmp_path)), Reader(render(hostile(inputs), tmp_path))
    count = len([tag for tag, _ in plain.tags if tag == "script"])
    assert len([tag for tag, _ in text.tags if tag == "script"]) == count == 3
    assert not [attributes for _, attributes in text.tags if any(name.startswith("on") for name in attributes)]
    assert sum(HOSTILE in data for _, data in text.texts) > 10
    content = text.data()
    assert all(name.endswith(HOSTILE) for name in content["names"])
    assert "<img" not in json.dumps(content["figures"])


def test_only_the_scripts_of_the_page_may_run(inputs: ReportInputs, tmp_path: Path) -> None:
    read = Reader(render(inputs, tmp_path))
    policy = next(a["content"] for tag, a in read.tags if tag == "meta" and a.get("http-equiv"))
    assert policy is not None
    allowed = next(part for part in policy.split("; ") if part.startswith("script-src ")).split()[1:]
    _, *scripts = read.of("script")
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]
    assert {"default-src 'none'", "media-src data:"} <= set(policy.split("; "))


def test_shards_of_another_run_are_refused(
    trained: Trained, sources: dict[str, Path], tmp_path: Path, write_shard: WriteShard
) -> None:
    for stream in STREAMS:
        (tmp_path / stream).mkdir()
        write_shard(tmp_path / stream / "00000.h5", stream, {"left/1.avi": 2})
    with pytest.raises(InputError, match="is not the shard that was scored"):
        read_inputs(trained.split / "fused.json", **sources | {"shards": tmp_path})


def test_a_damaged_result_is_named(trained: Trained, sources: dict[str, Path], tmp_path: Path) -> None:
    content = json.loads((trained.split / "fused.json").read_text())
    content["streams"]["../rgb"] = content["streams"]["rgb"]
    (tmp_path / "fused.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"the stream '\.\./rgb', which is none of rgb, flow, warped"):
        read_inputs(tmp_path / "fused.json", **sources)
    (tmp_path / "fused.json").write_text(json.dumps(content | {"confusion": "none"}))
    with pytest.raises(InputError, match=r"fused\.json is damaged"):
        read_inputs(tmp_path / "fused.json", **sources)


@pytest.mark.parametrize("content", ["", "{}\n", "[1]\n", "no json\n", '{"iteration": 1, "loss": NaN}\n'])
def test_a_damaged_history_is_named(trained: Trained, sources: dict[str, Path], tmp_path: Path, content: str) -> None:
    shutil.copytree(trained.split, tmp_path / "split1")
    (tmp_path / "split1/flow/history.jsonl").write_text(content)
    if content:
        with pytest.raises(InputError, match=r"history\.jsonl is not the history of a training"):
            read_inputs(tmp_path / "split1/fused.json", **sources)
    else:
        assert read_inputs(tmp_path / "split1/fused.json", **sources).histories["flow"] == []


def test_a_missing_quarantine_list_is_named(trained: Trained, sources: dict[str, Path], tmp_path: Path) -> None:
    given = sources | {"quarantine": tmp_path / "q.csv"}
    with pytest.raises(InputError, match=r"q\.csv is no list of quarantined videos"):
        read_inputs(trained.split / "fused.json", **given)
    given["quarantine"].write_text("video,what\na,b\n")
    with pytest.raises(InputError, match=r"q\.csv is no list of quarantined videos"):
        read_inputs(trained.split / "fused.json", **given)
