rule frames:
    input:
        from_plan(PLAN.rendered_of_shard, "dataset", "shard"),
    output:
        f"{SHARDS}/{{dataset}}/rgb/{{shard}}.h5",
    log:
        "logs/frames/{dataset}/{shard}.log",
    cache: True  # for --cache: the settings in `params` determine all bytes
    priority: 2  # before flow: they take little time, and the first training begins
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).preprocess_threads
    resources:
        dataset=from_plan(PLAN.location, "dataset"),
    params:
        settings=lambda wildcards: get_shard_settings(wildcards, "rgb"),
    shell:
        "python -m atw shard {output:q} --settings {params.settings:q} --dataset {resources.dataset:q}"
        " --threads {threads} &> {log:q}"


rule flow:
    input:
        from_plan(PLAN.rendered_of_shard, "dataset", "shard"),
        frames=from_plan(PLAN.frames_of_shard, "dataset", "shard"),
    output:
        f"{SHARDS}/{{dataset}}/flow/{{shard}}.h5",
    log:
        "logs/flow/{dataset}/{shard}.log",
    cache: True  # for --cache: the settings in `params` determine all bytes
    priority: 1
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).preprocess_threads
    resources:
        dataset=from_plan(PLAN.location, "dataset"),
        gpu=get_flow_gpus,
    params:
        settings=lambda wildcards: get_shard_settings(wildcards, "flow"),
    shell:
        "python -m atw shard {output:q} --settings {params.settings:q} --dataset {resources.dataset:q}"
        " --threads {threads} --gpus {resources.gpu} &> {log:q}"


rule warped:
    input:
        flow=f"{SHARDS}/{{dataset}}/flow/{{shard}}.h5",
        frames=from_plan(PLAN.frames_of_shard, "dataset", "shard"),
    output:
        f"{SHARDS}/{{dataset}}/warped/{{shard}}.h5",
    log:
        "logs/warped/{dataset}/{shard}.log",
    cache: True  # for --cache: the settings in `params` determine all bytes
    priority: 3  # the longest way to a result leads through them, and where cores are few, the last training waits
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).preprocess_threads
    resources:
        dataset=from_plan(PLAN.location, "dataset"),
        gpu=get_flow_gpus,
    params:
        settings=lambda wildcards: get_shard_settings(wildcards, "warped"),
    shell:
        "python -m atw shard {output:q} --flow {input.flow:q} --settings {params.settings:q}"
        " --dataset {resources.dataset:q} --threads {threads} --gpus {resources.gpu} &> {log:q}"
