rule attention:
    input:
        scores=get_scores,
        frames=from_plan(lambda run, split: PLAN.shards(run, split, "rgb"), "run", "split"),
    output:
        picture=report(
            "results/{run}/{split}/attention.png",
            caption="../report/attention.rst",
            category="{run}",
            labels={"split": "{split}", "result": "attention"},
        ),
        numbers="results/{run}/{split}/attention.json",
    log:
        "logs/attention/{run}/{split}.log",
    conda:
        "../../envs/atw.yaml"
    resources:
        frames=from_plan(PLAN.frames_folder, "run"),
    params:
        settings=from_plan(PLAN.attention_settings, "run"),
    shell:
        "python -m atw attention {output.picture:q} {input.scores:q} --frames {resources.frames:q}"
        " --settings {params.settings:q} &> {log:q}"


rule films:
    input:
        scores=get_scores,
        frames=from_plan(lambda run, split: PLAN.shards(run, split, "rgb"), "run", "split"),
        detections="results/{run}/{split}/detections.json",
    output:
        directory("results/{run}/{split}/films"),
    log:
        "logs/films/{run}/{split}.log",
    conda:
        "../../envs/atw.yaml"
    resources:
        frames=from_plan(PLAN.frames_folder, "run"),
    params:
        settings=from_plan(PLAN.attention_settings, "run"),
    shell:
        "python -m atw films {output:q} {input.scores:q} --frames {resources.frames:q}"
        " --detections {input.detections:q} --settings {params.settings:q} &> {log:q}"
