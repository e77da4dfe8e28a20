"""The page of a result: report.html, one file that opens offline, and says whether to believe the number.

`gathered` reads what a run left, a module a section makes numbers and figures of it, `page` writes them down.
"""
