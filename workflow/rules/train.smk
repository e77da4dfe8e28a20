rule train:
    input:
        shards=get_split_shards,
        weights=get_weights,
    output:
        model="results/{run}/{split}/{stream}/model.pt",
        history="results/{run}/{split}/{stream}/history.jsonl",
    log:
        "logs/train/{run}/{split}/{stream}.log",
    wildcard_constraints:
        run=RUN,
        stream=STREAMS,
    conda:
        "../../envs/atw.yaml"
    threads: get_train_threads
    resources:
        gpu=get_gpus,
        compute=get_compute,
        dataset=get_location,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "train"),
    shell:
        "python -m atw train {output.model:q} {input.shards:q} --settings {params.settings:q}"
        " --dataset {resources.dataset:q} --compute {resources.compute:q}"
        " --threads {threads} --gpus {resources.gpu} &> {log:q}"
