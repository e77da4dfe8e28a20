"""`atw doctor`: report what this machine can do for the pipeline, and why it cannot do the rest.

Nothing may keep the report from being made: a part that fails says so in its own place.
"""

import sys
from collections.abc import Callable

from atw.errors import printable
from atw.extras.doctor import hardware, software
from atw.extras.doctor.hardware import Part
from atw.files import json_text
from atw.machine import usable_cores

Report = dict[str, Part]


def examine(*, measure: bool = True) -> Report:
    """Examine all parts of the machine; with `measure`, time the flow backends, which takes some seconds each."""
    parts: dict[str, Callable[[], Part]] = {
        "machine": hardware.examine_machine,
        "gpus": hardware.examine_gpus,
        "opencv": software.examine_opencv,
        "decoding": software.examine_decoding,
        "flow": lambda: _examine_flow(measure),
        "ray": software.examine_ray,
        "slurm": software.examine_slurm,
    }
    report = {}
    for name, examine_part in parts.items():
        try:
            report[name] = examine_part()
        except Exception as error:
            report[name] = Part({"fails": f"{type(error).__name__}: {error}"}, [])
    return report


def _examine_flow(measure: bool) -> Part:
    # Imported here, so that a broken library costs this part of the report only.
    from atw.extras.doctor.speed import examine_flow

    return examine_flow(cores=usable_cores(), measure=measure)


def works(report: Report) -> bool:
    """Return whether flow and decoding work at all."""
    return report["flow"].content.get("auto") is not None and not report["decoding"].content["fails"]


def show(report: Report, *, as_json: bool) -> None:
    """Print the report as JSON, as a table on a terminal, or else as plain lines."""
    if as_json:
        print(json_text({"works": works(report)} | {name: part.content for name, part in report.items()}))
        return
    rows = []
    for name, part in report.items():
        fails = part.content.get("fails")
        rows += [(name, f"FAILS: {fails}")] if fails else part.rows
    rows.append(("verdict", "flow and decoding work" if works(report) else "flow or decoding does NOT work"))
    if not sys.stdout.isatty():
        width = max(len(name) for name, _ in rows) + 2
        for name, text in rows:
            print(printable(f"{name:{width}}{text}".rstrip()))
        return
    from rich.table import Table

    from atw.terminal import console

    table = Table("what", "here", show_lines=False)
    for row in rows:
        table.add_row(*row)
    console().print(table)
