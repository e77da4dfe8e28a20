# No other rule needs it. On a cluster it runs where Snakemake runs, because nodes often have no network.
localrules:
    download,
    weights,


rule download:
    output:
        "data/downloads/{dataset}.json",
    log:
        "logs/download/{dataset}.log",
    wildcard_constraints:
        dataset="|".join(PLAN.downloadable) or "(?!)",
    conda:
        "../../envs/atw.yaml"
    resources:
        dataset=from_plan(PLAN.location, "dataset"),
        archives=from_plan(lambda name: PLAN.downloadable[name].archives().model_dump(), "dataset"),
    shell:
        "python -m atw download {output:q} --dataset {resources.dataset:q} --archives {resources.archives:q} &> {log:q}"


# Nothing asks for it but people: a training never fetches its weights.
rule weights:
    output:
        "weights/{backbone}.json",
    log:
        "logs/weights/{backbone}.log",
    wildcard_constraints:
        backbone=r"\w+",
    conda:
        "../../envs/atw.yaml"
    shell:
        "python -m atw weights {wildcards.backbone:q} &> {log:q}"
