"""A dry run in words."""

import json

import pytest

from atw.extras.planned import Planned, explain

BEFORE = {"recipe": 2, "train": {"learning_rate": 0.03, "steps": [1, 2], "clip": None}, "videos": "a"}


def changed(**train: object) -> str:
    now = json.dumps(BEFORE | {"train": BEFORE["train"] | train})  # type: ignore[operator]
    return f"Params have changed since last execution: Union of ...: before: {json.dumps(BEFORE)!r} now: {now!r}"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Missing output files: a.h5", "not made yet"),
        ("Updated input files: a; b.h5; Code has changed since last execution", "its rule is another one than before"),
        ("Input files updated by another job: a.h5", "what it takes is made anew"),
        (changed(learning_rate=0.05), "train.learning_rate was 0.03, is 0.05"),
        (changed(steps=[1], clip=20.0), "train.steps was [1, 2], is [1]; train.clip was null, is 20.0"),
        ("Missing output files: a; " + changed(new=1), "train.new was null, is 1"),
        ("Missing output files: a; " + changed(members="of videos as the job finds them"), "not made yet"),
        ("Params have changed since last execution: before: 'x' now: 'y'", "other settings than before"),
        ("something else", "something else"),
    ],
)
def test_reasons(reason: str, words: str) -> None:
    assert explain(reason) == words


def test_what_is_no_setting_has_words_of_its_own() -> None:
    now = json.dumps(BEFORE | {"videos": "b", "recipe": 3})
    reason = f"Params have changed since last execution: before: {json.dumps(BEFORE)!r} now: {now!r}"
    assert explain(reason) == "the version of its computation changed; the videos of the split changed"


def test_jobs_of_one_reason_share_a_line() -> None:
    planned = Planned()
    assert planned.lines() == []
    for number in range(5):
        planned.add("warped", f"mine 0000{number}", "Input files updated by another job: x")
        planned.add("flow", f"mine 0000{number}", "Missing output files: y")
    assert planned.lines() == [
        "10 jobs would run:",
        "  flow of mine 00000, mine 00001, mine 00002 and 2 more: not made yet",
        "  warped of mine 00000, mine 00001, mine 00002 and 2 more: what it takes is made anew",
    ]
