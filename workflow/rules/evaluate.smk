rule score:
    input:
        model="results/{run}/{split}/{stream}/model.pt",
        shards=from_plan(PLAN.shards, "run", "split", "stream"),
        rendered=from_plan(PLAN.rendered, "run", "split"),
    output:
        "results/{run}/{split}/{stream}/scores.h5",
    log:
        "logs/score/{run}/{split}/{stream}.log",
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).train_threads
    resources:
        gpu=get_gpus,
        compute=lambda wildcards: get_compute(wildcards).model_dump_json(),
        dataset=from_plan(PLAN.location, "run"),
    params:
        settings=from_plan(PLAN.score_settings, "run", "split", "stream"),
    shell:
        "python -m atw score {output:q} {input.shards:q} --model {input.model:q}"
        " --settings {params.settings:q} --dataset {resources.dataset:q} --compute {resources.compute:q}"
        " --threads {threads} --gpus {resources.gpu} &> {log:q}"


rule score_held_out:
    input:
        model="results/{run}/{split}/{stream}/model.pt",
        shards=from_plan(PLAN.shards, "run", "split", "stream"),
        rendered=from_plan(PLAN.rendered, "run", "split"),
    output:
        "results/{run}/{split}/{stream}/held_out.h5",
    log:
        "logs/score_held_out/{run}/{split}/{stream}.log",
    conda:
        "../../envs/atw.yaml"
    threads: lambda wildcards: get_compute(wildcards).train_threads
    resources:
        gpu=get_gpus,
        compute=lambda wildcards: get_compute(wildcards).model_dump_json(),
        dataset=from_plan(PLAN.location, "run"),
    params:
        settings=from_plan(PLAN.score_settings, "run", "split", "stream"),
    shell:
        "python -m atw score {output:q} {input.shards:q} --held-out --model {input.model:q}"
        " --settings {params.settings:q} --dataset {resources.dataset:q} --compute {resources.compute:q}"
        " --threads {threads} --gpus {resources.gpu} &> {log:q}"


rule fuse:
    input:
        scores=get_scores,
        audit=from_plan(PLAN.audit, "run", "split"),
    output:
        report(
            "results/{run}/{split}/fused.json",
            caption="../report/fused.rst",
            category="{run}",
            labels={"split": "{split}", "result": "fused streams"},
        ),
    log:
        "logs/fuse/{run}/{split}.log",
    conda:
        "../../envs/atw.yaml"
    params:
        settings=from_plan(PLAN.fuse_settings, "run"),
    shell:
        "python -m atw fuse {output:q} {input.scores:q} --settings {params.settings:q} &> {log:q}"


rule detect:
    input:
        result="results/{run}/{split}/fused.json",
        scores=lambda wildcards: get_of_streams(wildcards, "scores.h5"),
    output:
        "results/{run}/{split}/detections.json",
    log:
        "logs/detect/{run}/{split}.log",
    conda:
        "../../envs/atw.yaml"
    params:
        settings=from_plan(PLAN.detect_settings, "run"),
    shell:
        "python -m atw detect {output:q} {input.scores:q} --result {input.result:q}"
        " --settings {params.settings:q} &> {log:q}"


rule summary:
    input:
        get_all_splits,
    output:
        report(
            "results/{run}/summary.json",
            caption="../report/summary.rst",
            category="{run}",
            labels={"split": "all", "result": "mean over splits"},
        ),
    log:
        "logs/summary/{run}.log",
    conda:
        "../../envs/atw.yaml"
    params:
        settings=RecipeSettings(recipe=RECIPES["summary"]).to_json(),
    shell:
        "python -m atw summary {output:q} {input:q} --settings {params.settings:q} &> {log:q}"
