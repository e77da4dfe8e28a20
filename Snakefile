# From raw videos to results/{dataset}/{split}/fused.json. Every path there is:
#
#   data/{dataset}/...                            raw videos, never written to (rendered for a demo dataset)
#   data/downloads/{dataset}.json                 on demand: the dataset's archives, downloaded and unpacked
#   shards/{dataset}/{stream}/{shard}.h5          frames, flow and warped flow for all splits and experiments
#   results/{run}/{split}/{stream}/model.pt       a network, with history.jsonl, scores.h5 and, on demand, held_out.h5
#   results/{dataset}/{split}/quarantine.csv      bad videos; results/{dataset}/quarantine.csv covers all splits
#   results/{run}/{split}/fused.json              the three streams together: the result
#   results/{run}/{split}/detections.json         on demand: what each video shows from when to when
#   results/{run}/{split}/attention.png           where each stream's attention is high; attention.json has numbers
#   results/{run}/{split}/films                   on demand: the same videos as films, with actions and detections
#   results/{run}/{split}/report.html             one page that helps to judge the result; it opens offline
#   results/{run}/summary.json                    the mean over the splits
#   results/{dataset}/tables/table{1,2,3,4}.json  the paper's tables, also as .csv, .html, .tex and .md
#   results/{dataset}/tables/consensus.json       on demand: consensus functions over seeds and splits; also as .md
#   logs/{rule}/...                               one log per job; checkpoints/ is for resumption, .atw/ for digests
#
# {run} is {dataset} or {dataset}/experiments/{experiment}; {stream} is rgb, flow or warped; {split} is split1, ...

from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/configfiles.smk"


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


wildcard_constraints:
    run=r"[^/]+(/experiments/[^/]+)?",
    split=r"split\d+",
    stream="|".join(STREAMS),
    shard=r"\d{5}",


include: "workflow/rules/download.smk"
include: "workflow/rules/render.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        get_all_summaries,
