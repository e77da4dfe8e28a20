rule audit:
    input:
        from_plan(PLAN.audited_shards, "dataset", "split"),
    output:
        "results/{dataset}/{split}/quarantine.csv",
    log:
        "logs/audit/{dataset}/{split}.log",
    wildcard_constraints:
        dataset="[^/]+",
    priority: 2
    conda:
        "../../envs/atw.yaml"
    resources:
        dataset=from_plan(PLAN.location, "dataset"),
    params:
        settings=from_plan(PLAN.audit_settings, "dataset", "split"),
    shell:
        "python -m atw audit {output:q} {input:q} --settings {params.settings:q}"
        " --dataset {resources.dataset:q} &> {log:q}"


rule quarantine:
    input:
        get_all_audits,
    output:
        report(
            "results/{dataset}/quarantine.csv",
            caption="../report/quarantine.rst",
            category="{dataset}",
            labels={"split": "all", "result": "quarantined and repaired videos"},
        ),
    log:
        "logs/quarantine/{dataset}.log",
    wildcard_constraints:
        dataset="[^/]+",
    conda:
        "../../envs/atw.yaml"
    shell:
        "python -m atw quarantine {output:q} {input:q} &> {log:q}"
