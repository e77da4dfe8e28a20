"""The slow trials work in the same kind of folder as the tests of the rules."""

import shutil

import pytest

from tests.rules.conftest import REPOSITORY, Workplace, workplace

__all__ = ["workplace"]

DEMO = "results/demo/split1/fused.json"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder in which the demo has run up to `DEMO`."""
    place = Workplace(tmp_path_factory.mktemp("demo"))
    shutil.copy(REPOSITORY / "config.yaml", place.folder)
    place.snakemake(DEMO, timeout=1500)
    return place
