import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from atw.evaluate.compare import compare, compare_results, outcomes, print_comparison
from atw.files import InputError
from tests.unit.scored import result, scored, write_scores


def test_mcnemar_by_hand() -> None:
    # The first alone is right about 1 to 6, the second alone about 7; both about 0, neither about the rest.
    first, second = scored([0, 1, 2, 3, 4, 5, 6]), scored([0, 7])
    compared = compare(outcomes(first.video_logits, first), outcomes(second.video_logits, second), seed=0)
    assert (compared.videos, compared.only_first, compared.only_second) == (13, 6, 1)
    assert compared.accuracy == pytest.approx((7 / 13, 2 / 13))
    assert compared.difference == pytest.approx(-5 / 13)
    # Two-sided, 7 tosses of a coin: 2 (C(7,0) + C(7,1)) / 2^7
    assert compared.p_value == pytest.approx(2 * (1 + 7) / 2**7)
    low, high = compared.difference_ci95
    assert -0.9 < low < -5 / 13 < high < 0.1


def test_a_quarantined_video_is_wrong_in_both() -> None:
    first = scored([0, 1], quarantined=[(f"lost {number}", 0, "empty") for number in range(8)])
    compared = compare(outcomes(first.video_logits, first), outcomes(first.video_logits, first), seed=0)
    assert compared.accuracy == (0.1, 0.1)
    assert (compared.p_value, compared.difference, compared.difference_ci95) == (1.0, 0.0, (0.0, 0.0))


def test_the_interval_of_a_difference_is_paired() -> None:
    # Two results that agree but for 40 of 400 videos: unpaired, the interval would be three times as wide.
    first = {("split1", str(i)): ("run", i < 200) for i in range(400)}
    second = {("split1", str(i)): ("run", i < 230 and i >= 10) for i in range(400)}
    compared = compare(first, second, seed=1)
    deviation = math.sqrt((40 / 400 - (20 / 400) ** 2) / 400)
    expected = 20 / 400 + deviation * stats.norm.ppf([0.025, 0.975])
    np.testing.assert_allclose(compared.difference_ci95, expected, atol=0.003)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quarantined": []}, "split1 lost is a video of jump in the first and not listed in the second"),
        ({"labels": np.array([1, 1] * 6)}, "split1 video 0 is a video of run in the first and a video of jump"),
        ({"split": "split2"}, "split1 lost is a video of jump in the first and not listed"),
    ],
)
def test_results_on_other_videos_are_not_compared(changes: dict[str, Any], message: str) -> None:
    first, second = scored([0]), scored([0], **changes)
    with pytest.raises(InputError, match=message):
        compare(outcomes(first.video_logits, first), outcomes(second.video_logits, second), seed=0)


def test_results_are_compared_by_their_score_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = result(tmp_path / "a", [0, 1], [0, 1, 2, 3])
    second = result(tmp_path / "b", [0, 1], [0, 9], experiment="average")
    compared = compare_results(first, second.parent)  # the folder means its fused.json
    assert (compared.dataset, compared.first, compared.second, compared.splits) == ("mine", None, "average", ["split1"])
    assert list(compared.results) == ["rgb", "flow", "fused"]
    assert compared.results["rgb"].p_value == 1
    assert (compared.results["fused"].only_first, compared.results["fused"].only_second) == (3, 1)
    assert compared.results["fused"].p_value == pytest.approx(2 * (1 + 4) / 2**4)
    print_comparison(compared)
    printed = capsys.readouterr().out
    assert "average" in printed
    assert "0.625" in printed


def test_splits_are_compared_together(tmp_path: Path) -> None:
    for split in ("split1", "split2"):
        result(tmp_path / "a" / split, [0], [0, 1], split=split)
        result(tmp_path / "b" / split, [0], [0, 2, 3], split=split, experiment="b")
    compared = compare_results(tmp_path / "a", tmp_path / "b")
    assert compared.splits == ["split1", "split2"]
    fused = compared.results["fused"]
    assert (fused.videos, fused.only_first, fused.only_second) == (26, 2, 4)


def test_a_comparison_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    first = result(tmp_path / "a", [0], [0])
    with pytest.raises(InputError, match=r"is of dataset mine and .* of theirs"):
        compare_results(first, result(tmp_path / "b", [0], [0], dataset="theirs"))
    with pytest.raises(InputError, match=r"holds no fused\.json"):
        compare_results(first, tmp_path / "a" / "rgb")
    write_scores(tmp_path / "a" / "rgb" / "scores.h5", scored([0, 1]))
    with pytest.raises(InputError, match=r"was not made from the score files beside it: they differ in rgb"):
        compare_results(first, first)


def test_the_command_compares(tmp_path: Path) -> None:
    first, second = result(tmp_path / "a", [0], [0]), result(tmp_path / "b", [0], [1, 2], experiment="b")
    command = [sys.executable, "-m", "atw", "compare", str(first), str(second)]
    said = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert said["results"]["fused"]["difference"] == pytest.approx(1 / 13)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"fused +│ 0\.077 │ 0\.154 │ +\+0\.077 │ -0\.\d+ to \+0\.\d+ │ 1 : 2 │ 1 ", printed)
