rule train:
    input:
        shards=from_plan(PLAN.shards, "run", "split", "stream"),
        weights=get_weights,
    output:
        model="results/{run}/{split}/{stream}/model.pt",
        history="results/{run}/{split}/{stream}/history.jsonl",
    log:
        "logs/train/{run}/{split}/{stream}.log",
    priority: 2  # before shards: a GPU has work while the CPU computes the flow of the next stream
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).train_threads
    resources:
        gpu=get_gpus,
        compute=lambda wildcards: get_compute(wildcards).model_dump_json(),
        dataset=from_plan(PLAN.location, "run"),
        audit=from_plan(PLAN.audit_settings, "run", "split"),
    params:
        settings=from_plan(PLAN.train_settings, "run", "split", "stream"),
    shell:
        "python -m atw train {output.model:q} {input.shards:q} --settings {params.settings:q}"
        " --dataset {resources.dataset:q} --audit {resources.audit:q} --compute {resources.compute:q}"
        " --threads {threads} --gpus {resources.gpu} &> {log:q}"
