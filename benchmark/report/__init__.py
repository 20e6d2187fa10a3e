"""From rows to a report: `python -m benchmark.report STUDY`. Reads rows and example files, never logits. No torch.

gather.py      rows -> one line per planned run (frame.py), grouped by task and entry
quantities.py  what every metric and cost is called, its unit, formula and source (quantity.py says what
               a quantity is)     sources.py  its short name
compare.py     two entries in one column, by the test that the column allows
tables.py      TABLES of a task (table.py says what a table is)      across.py  tables over all tasks
formats.py     tables as Markdown, CSV, LaTeX
plots/         PLOTS: a plot is one function and one line in the list                 palette.py  colours, markers
findings.py    the summary in sentences      provenance.py  where the numbers come from
published.py   the papers' numbers and claims: against_papers.py, claims.py; planned.py knows what would run them
page.py        report.html and report.md     write.py       write_report(), summary_table()
answers.py     what --claims, --claim, --budget and a selection print instead
speed.py       `python -m benchmark.report.speed`: how fast all this is, on rows that simulated.py makes up
"""
