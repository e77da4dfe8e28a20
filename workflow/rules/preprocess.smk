rule frames:
    input:
        get_rendered,
    output:
        f"{CONFIG.shards}/{{dataset}}/rgb/{{shard}}.h5",
    log:
        "logs/frames/{dataset}/{shard}.log",
    conda:
        "../../envs/atw.yaml"
    threads: get_preprocess_threads
    resources:
        dataset=get_location,
    params:
        settings=lambda wildcards: get_shard_settings(wildcards, "rgb"),
    shell:
        "python -m atw shard {output:q} --settings {params.settings:q} --dataset {resources.dataset:q}"
        " --threads {threads} &> {log:q}"


rule flow:
    input:
        get_rendered,
    output:
        f"{CONFIG.shards}/{{dataset}}/flow/{{shard}}.h5",
    log:
        "logs/flow/{dataset}/{shard}.log",
    conda:
        "../../envs/atw.yaml"
    threads: get_preprocess_threads
    resources:
        dataset=get_location,
    params:
        settings=lambda wildcards: get_shard_settings(wildcards, "flow"),
    shell:
        "python -m atw shard {output:q} --settings {params.settings:q} --dataset {resources.dataset:q}"
        " --threads {threads} &> {log:q}"


rule warped:
    input:
        flow=f"{CONFIG.shards}/{{dataset}}/flow/{{shard}}.h5",
    output:
        f"{CONFIG.shards}/{{dataset}}/warped/{{shard}}.h5",
    log:
        "logs/warped/{dataset}/{shard}.log",
    conda:
        "../../envs/atw.yaml"
    threads: get_preprocess_threads
    resources:
        dataset=get_location,
    params:
        settings=lambda wildcards: get_shard_settings(wildcards, "warped"),
    shell:
        "python -m atw shard {output:q} --flow {input.flow:q} --settings {params.settings:q}"
        " --dataset {resources.dataset:q} --threads {threads} &> {log:q}"
