"""The training of a network of the workflow, for Python: its samples, and the network itself."""

from pathlib import Path

from atw import config
from atw.files import InputError
from atw.plan import Plan
from atw.train.task import TrainingTask, task_of


def training_task(folder: str | Path, *, configfile: str | Path = "config.yaml") -> TrainingTask:
    """Return what the job trains that writes `folder`/model.pt, such as results/demo/split1/flow.

    The shards have to be there. `snippets()` of the task is a torch `Dataset` of its samples.

    Args:
        folder: results/{dataset}/{split}/{stream} or results/{dataset}/experiments/{experiment}/{split}/{stream}.
        configfile: of the workflow.

    Raises:
        InputError: no stream of a dataset in the configuration has that folder, or an input is wrong.
    """
    parts = Path(folder).parts
    if len(parts) not in (4, 6) or parts[0] != "results" or parts[-1] not in config.STREAMS:
        raise InputError(f"{folder} is no folder of a stream; give one such as results/demo/split1/flow")
    run, split, stream = "/".join(parts[1:-2]), parts[-2], parts[-1]
    document = config.read(Path(configfile))
    plan = Plan(document.content, [document])
    plan.start()
    paths = [Path(path) for path in plan.shards(run, split, stream)]
    for path in paths:
        if not path.is_file():
            raise InputError(f"shard {path} is not there; make it by `atw run {path}`")
    return task_of(plan.train_settings(run, split, stream), plan.dataset(run), paths, plan.compute(run, stream))
