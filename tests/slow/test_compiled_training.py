"""A compiled training against one that is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch._dynamo.utils import counters

from atw.train import loop
from tests.unit.trainings import run_training, task_of


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_training_is_the_same_by_rounding(tmp_path: Path, write_shard: Callable[..., Any]) -> None:
    model = {"dropout": 0.0, "partial_bn": "all"}
    results = []
    for compiled in (False, True):
        task = task_of(
            tmp_path, write_shard, model=model, train={"ema": 0.5}, compute={"compile": compiled, "microbatch": 5}
        )
        counters.clear()
        rows, states = run_training(task, tmp_path / f"{compiled}.jsonl")
        assert (counters["stats"]["unique_graphs"] > 0) == compiled
        assert not counters["graph_break"]
        results.append((np.array([row["loss"] for row in rows]), states[7]))
    (losses, plain), (compiled_losses, state) = results
    np.testing.assert_allclose(compiled_losses, losses, rtol=1e-4)
    start = loop.build_network(task).state_dict()
    for kept in (state["network"], loop.final_parameters(state)):
        assert kept.keys() == start.keys()
    moved = max(float((plain["network"][name] - start[name]).abs().max()) for name in start)
    apart = max(float((plain["network"][name] - state["network"][name]).abs().max()) for name in start)
    assert apart < moved / 1000
