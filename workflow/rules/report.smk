rule report_page:
    input:
        result="results/{run}/{split}/fused.json",
        scores=lambda wildcards: get_of_streams(wildcards, "scores.h5"),
        histories=lambda wildcards: get_of_streams(wildcards, "history.jsonl"),
        shards=from_plan(PLAN.report_shards, "run", "split"),
        quarantine=from_plan(PLAN.audit, "run", "split"),
        compared=from_plan(PLAN.compared_results, "run", "split"),
    output:
        report(
            "results/{run}/{split}/report.html",
            caption="../report/report.rst",
            category="{run}",
            labels={"split": "{split}", "result": "report"},
        ),
    log:
        "logs/report/{run}/{split}.log",
    conda:
        "../../envs/atw.yaml"
    resources:
        shards=from_plan(PLAN.shards_folder, "run"),
    params:
        settings=from_plan(PLAN.page_settings, "run", "split"),
    shell:
        "python -m atw report {output:q} --result {input.result:q} --shards {resources.shards:q}"
        " --quarantine {input.quarantine:q} --settings {params.settings:q} &> {log:q}"
