"""The report page of a result: report.html, one file that opens offline and says whether to believe the number.

`inputs` reads the files of a run; `accuracy`, `videos` and `pipeline` make numbers and figures; `page` writes the file.
"""
