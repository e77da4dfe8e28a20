# Input and params functions of the rules, which ask the plan. Import nothing heavy: every remote job reads this file.

import json
import os
import sys

from atw.config import RECIPES, STREAMS, Location, RecipeSettings, StageSettings
from atw.datasets import NoVideosError
from atw.plan import Plan
from atw.train.ray.sockets import require_place
from atw.workflow import ESTIMATE


def from_plan(method, *names):
    """Return an input or params function that asks the plan for the named wildcards; dictionaries become JSON."""

    @explained
    def ask(wildcards):
        answer = method(*(wildcards[name] for name in names))
        if isinstance(answer, StageSettings | Location):
            return answer.to_json()
        return json.dumps(answer) if isinstance(answer, dict) else answer or []

    return ask


PLAN = explained(Plan)(config, CONFIG_FILES, workflow.config_settings.config, estimate=ESTIMATE in os.environ)
SHARDS = PLAN.config.shards
# Jobs in other processes make their own plan and run no hooks.
if not workflow.is_main_process or "--no-hooks" in sys.argv:
    PLAN.start()


onstart:
    PLAN.start()


@explained
def get_shard_settings(wildcards, stream):
    return PLAN.shard_settings(wildcards.dataset, stream, wildcards.shard).to_json()


@explained
def get_weights(wildcards):
    """Return the initial weights of a training; fail before anything runs if Ray has no place for its sockets."""
    require_place(workers=get_compute(wildcards).workers)
    return PLAN.weights(wildcards.run, wildcards.stream) or []


@explained
def get_of_streams(wildcards, *files):
    streams = PLAN.fused_streams(wildcards.run, wildcards.split)
    return expand("results/{run}/{split}/{stream}/{file}", **wildcards, stream=streams, file=files)


@explained
def get_scores(wildcards):
    return get_of_streams(wildcards, *PLAN.score_files(wildcards.run))


@explained
def get_all_splits(wildcards):
    return expand("results/{run}/{split}/fused.json", run=wildcards.run, split=PLAN.splits(wildcards.run))


@explained
def get_all_audits(wildcards):
    return expand(
        "results/{dataset}/{split}/quarantine.csv", dataset=wildcards.dataset, split=PLAN.splits(wildcards.dataset)
    )


@explained
def get_all_summaries(wildcards):
    """Return summary and list of bad videos of every dataset `in_all` whose videos exist; name those without videos."""
    targets = []
    for name in PLAN.in_all:
        try:
            PLAN.splits(name)
        except NoVideosError as error:
            print(f"left out of `all`: {error}", file=sys.stderr)
        else:
            targets += [f"results/{name}/summary.json", f"results/{name}/quarantine.csv"]
    return targets


@explained
def get_compute(wildcards):
    return PLAN.compute(wildcards.get("run", wildcards.get("dataset")), wildcards.get("stream", "rgb"))


@explained
def get_gpus(wildcards):
    # A cluster's job, or one that joins a Ray cluster, has the GPUs of other machines.
    here = workflow.local_exec and not workflow.remote_exec and "RAY_ADDRESS" not in os.environ
    return PLAN.gpus(wildcards.run, wildcards.get("stream", "rgb"), here=here)


@explained
def get_flow_gpus(wildcards):
    return PLAN.flow_gpus(wildcards.dataset)
