"""A table as Markdown, CSV and LaTeX. Labels and reasons come from users: every format escapes them."""

import csv
import io
import re
import unicodedata

from benchmark.errors import one_line
from benchmark.report.table import Cell, Column, Table


def markdown(table: Table) -> str:
    """A GitHub table, padded so that it reads well as plain text too."""
    header = [escape_markdown(column.header) for column in table.columns]
    body = [[_markdown_cell(cell) for cell in row] for row in table.rows]
    widths = [max(3, *(len(line[index]) for line in [header, *body])) for index in range(len(header))]
    numeric = [column.quantity is not None for column in table.columns]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    lines = [_padded(line, widths, numeric) for line in [header, rule, *body]]
    lines += [f"\n{escape_markdown(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Plain text that Markdown and the HTML within it leave as it is; `deep_ensemble` needs no backslash."""
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", one_line(text))
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def comma_separated(table: Table) -> str:
    """Unrounded numbers in the row's own units; mean, half width, runs behind them and runs planned are four columns, and two
    more the ends of intervals that are not centred on the mean."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header: list[str] = []
    for column in table.columns:
        name = column.source.replace("/", "_")
        header += [f"{name}_{part}" for part in _parts(table, column)] if column.quantity else [name]
    writer.writerow(header)
    for row in table.rows:
        values: list[str] = []
        for cell, column in zip(row, table.columns, strict=True):
            if isinstance(cell, Cell):
                values += [_csv_number(cell, part) for part in _parts(table, column)]
            else:
                values.append(_csv_text(cell))
        writer.writerow(values)
    return out.getvalue()


def latex(table: Table, label: str) -> str:
    r"""A booktabs table to be put into a paper by \input; needs \usepackage{booktabs} and nothing else."""
    alignment = "".join(
        _LATEX_ALIGNMENT.get(column.source, "r" if column.quantity else "l") for column in table.columns
    )
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(f'{table.title}. {table.text}'.strip())}}}",
        f"\\label{{tab:{re.sub(r'[^A-Za-z0-9.:=+-]', '-', label)}}}",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        _latex_row([escape_latex(column.header) for column in table.columns]),
        "\\midrule",
        *(_latex_row([_latex_cell(cell) for cell in row]) for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        *(f"\\par\\footnotesize {escape_latex(note)}" for note in table.notes),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


_LATEX_ALIGNMENT = {"reason": r"p{0.5\linewidth}"}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is; characters that its default fonts lack become ASCII or their code point."""
    escaped = "".join(_LATEX.get(char) or _latex_char(char) for char in one_line(text).replace("--", _TWO_HYPHENS))
    return escaped.replace(_TWO_HYPHENS, "-{}-")


_TWO_HYPHENS = "\0"
"""Stands for hyphens that LaTeX would draw together as a dash."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "#": r"\#",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # after \\ a bracket or a star would be read as its argument
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
}


def _latex_char(char: str) -> str:
    if char.isascii():
        return char
    ascii_form = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(c, c) for c in ascii_form) or f"\\texttt{{U+{ord(char):04X}}}"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return escape_latex(cell)
    text = escape_latex(cell.text)
    return f"\\textbf{{{text}}}" if cell.best else text


def _markdown_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return escape_markdown(cell)
    return f"**{cell.text}**" if cell.best else cell.text


def _padded(line: list[str], widths: list[int], numeric: list[bool]) -> str:
    cells = (
        text.rjust(width) if right else text.ljust(width)
        for text, width, right in zip(line, widths, numeric, strict=True)
    )
    return f"| {' | '.join(cells)} |"


def _parts(table: Table, column: Column) -> list[str]:
    """What of a column of numbers stands in CSV."""
    index = table.columns.index(column)
    cells = [cell for row in table.rows if isinstance(cell := row[index], Cell)]
    ends = ["low", "high"] if any(cell.low is not None for cell in cells) else []
    return ["mean", "half_width", *ends, "finished", "planned"]


def _csv_number(cell: Cell, part: str) -> str:
    estimate = cell.estimate
    numbers = {
        "mean": estimate.mean if estimate else None,
        "half_width": estimate.half_width if estimate else None,
        "low": cell.low,
        "high": cell.high,
        "finished": estimate.num_values if estimate else 0,
        "planned": cell.planned,
    }
    return "" if numbers[part] is None else repr(numbers[part])


def _csv_text(text: str) -> str:
    """Spreadsheets run a cell that starts like a formula; an apostrophe keeps it text. A number stays one."""
    text = one_line(text)
    is_formula = text.startswith(("=", "+", "-", "@")) and not re.fullmatch(r"[+-]\d+(\.\d+)?(e[+-]?\d+)?", text)
    return f"'{text}" if is_formula else text
