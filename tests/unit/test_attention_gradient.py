"""The gradient of the attention at uniform weights: against autograd, and from a score file."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atw.evaluate.scores import read_scores, snippet_reader
from benchmarks.attention_gradient import main, measure, of_video
from tests.unit.trained import Trained


@pytest.mark.parametrize("labels", [[1], [0, 3]])
def test_the_gradient_is_that_of_autograd(labels: list[int]) -> None:
    scores = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 5)))
    energies = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    target = torch.zeros(5, dtype=torch.float64).index_fill(0, torch.tensor(labels), 1 / len(labels))
    (gradient,) = torch.autograd.grad(F.cross_entropy(energies.softmax(0) @ scores, target), energies)
    found = of_video(scores.numpy(), target.numpy() > 0)
    assert found.gradient == pytest.approx(float((7 * gradient).abs().mean()))
    own = scores[:, labels].amax(1)
    others = scores[:, [k for k in range(5) if k not in labels]].amax(1)
    assert found.spread == pytest.approx(float((own - others).std(correction=0)))


def test_equal_snippets_push_nowhere() -> None:
    assert of_video(np.tile([[2.0, -1.0, 0.5]], (4, 1)), np.array([True, False, False])) == (0, 0)


def test_a_file_is_the_mean_of_its_videos(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    path = trained.split / "flow" / "scores.h5"
    scores = read_scores(path)
    with snippet_reader(path) as read:
        each = [
            of_video(read(row)[:, : scores.snippets[row]].mean(axis=0), scores.truth[row])
            for row in range(len(scores.videos))
        ]
    assert measure(path) == pytest.approx(np.mean(each, axis=0), rel=1e-4)
    assert measure(path).gradient > 0
    assert main([str(path)]) == 0
    assert f"{measure(path).gradient:.3f}" in capsys.readouterr().out


def test_what_is_no_score_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.h5")]) == 2
    assert str(tmp_path / "none.h5") in capsys.readouterr().err
    assert main([]) == 2
