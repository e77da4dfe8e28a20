rule render:
    output:
        listing="data/{dataset}/split{number}.csv",
        videos=directory("data/{dataset}/split{number}"),
    log:
        "logs/render/{dataset}/split{number}.log",
    wildcard_constraints:
        dataset="|".join(PLAN.demos) or "(?!)",
        number="[123]",
    conda:
        "../../envs/atw.yaml"
    threads: 4
    params:
        settings=from_plan(PLAN.render_settings, "dataset", "number"),
    shell:
        "python -m atw render {output.listing:q} --settings {params.settings:q} --threads {threads} &> {log:q}"
