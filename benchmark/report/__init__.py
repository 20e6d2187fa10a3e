"""From rows to a report: `python -m benchmark.report STUDY`. Reads rows and example files, never logits. No torch.

gather.py      rows -> one line per planned run, grouped by task
quantities.py  what every metric and cost is called, its unit, which way is better, what it means
tables.py      TABLES: a table is one function and one line in the list      formats.py  Markdown, CSV, LaTeX
plots.py       PLOTS: a plot is one function and one line in the list        palette.py  colours and markers
findings.py    the summary in sentences      provenance.py  where the numbers come from
page.py        report.html                   write.py       write_report(), summary_table()
"""
