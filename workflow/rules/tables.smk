rule table:
    input:
        found=from_plan(PLAN.table_inputs, "dataset", "number"),
        audit=from_plan(PLAN.table_audit, "dataset", "number"),
    output:
        json="results/{dataset}/tables/table{number}.json",
        csv="results/{dataset}/tables/table{number}.csv",
        latex="results/{dataset}/tables/table{number}.tex",
        markdown="results/{dataset}/tables/table{number}.md",
        html=report(
            "results/{dataset}/tables/table{number}.html",
            caption="../report/table.rst",
            category="{dataset}",
            labels={"split": "as the paper", "result": "Table {number}"},
        ),
    log:
        "logs/table/{dataset}/table{number}.log",
    wildcard_constraints:
        dataset="[^/]+",
        number="[1-4]",
    conda:
        "../../envs/atw.yaml"
    params:
        settings=from_plan(PLAN.table_settings, "dataset", "number"),
    shell:
        "python -m atw table {output.json:q} {input.found:q} --settings {params.settings:q} &> {log:q}"


rule consensus_table:
    input:
        scores=from_plan(PLAN.consensus_table_inputs, "dataset"),
        audits=from_plan(PLAN.consensus_table_audits, "dataset"),
    output:
        json="results/{dataset}/tables/consensus.json",
        markdown=report(
            "results/{dataset}/tables/consensus.md",
            caption="../report/consensus.rst",
            category="{dataset}",
            labels={"split": "all", "result": "consensus functions"},
        ),
    log:
        "logs/table/{dataset}/consensus.log",
    wildcard_constraints:
        dataset="[^/]+",
    conda:
        "../../envs/atw.yaml"
    params:
        settings=from_plan(PLAN.consensus_table_settings, "dataset"),
    shell:
        "python -m atw consensus {output.json:q} {input.scores:q} --settings {params.settings:q} &> {log:q}"
