rule train:
    input:
        shards=from_plan(PLAN.shards, "run", "split", "stream"),
        audit=ancient(from_plan(PLAN.audit, "run", "split")),
        weights=get_weights,
    output:
        model="results/{run}/{split}/{stream}/model.pt",
        history="results/{run}/{split}/{stream}/history.jsonl",
    log:
        "logs/train/{run}/{split}/{stream}.log",
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).train_threads
    resources:
        gpu=get_gpus,
        compute=lambda wildcards: get_compute(wildcards).model_dump_json(),
        dataset=from_plan(PLAN.location, "run"),
    params:
        settings=from_plan(PLAN.train_settings, "run", "split", "stream"),
    shell:
        "python -m atw train {output.model:q} {input.shards:q} --settings {params.settings:q}"
        " --dataset {resources.dataset:q} --compute {resources.compute:q}"
        " --threads {threads} --gpus {resources.gpu} &> {log:q}"
