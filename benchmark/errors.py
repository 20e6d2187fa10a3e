"""What a command says and how it exits when something is wrong: 2 for wrong input, 1 for work that failed."""

import argparse
import difflib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

LONGEST_LINE = 4000
"""Characters of what is said; the names of all packaged studies take half of it."""


class UserError(Exception):
    """Wrong input: one line saying what is wrong, where, and what is allowed (exit code 2)."""


class WorkError(Exception):
    """Work that was asked for correctly and failed (exit code 1)."""


def unknown(what: str, name: object, allowed: Iterable[str]) -> str:
    """The message for a misspelt name: the nearest valid one, then all of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}{hint} (allowed: {', '.join(names) or 'none'})"


def printable(message: object) -> str:
    """Without line breaks and control characters: in text that comes from files they would steer a terminal."""
    spaced = "".join(" " if char.isspace() else char for char in str(message))
    return "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cf", "Cs"))


def one_line(message: object) -> str:
    """The same with single blanks, which is what a table needs."""
    return " ".join(printable(message).split())


class Parser(argparse.ArgumentParser):
    """Takes options in full only, and says what is wrong with a command line as everything else is said: in one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(message)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Where a parser of a part is asked too, so that it is the part's options that are named."""
        known, extra = super().parse_known_args(args, namespace)
        if extra:
            told = [action for action in self._actions if action.help != argparse.SUPPRESS]
            options = [option for action in told for option in action.option_strings if option.startswith("--")]
            name = extra[0].partition("=")[0]
            self.error(
                unknown("option", name, options) if name.startswith("-") else f"unexpected argument {extra[0]!r}"
            )
        return known, extra


def exit_code(main: Callable[[], int]) -> int:
    """Run a command and turn what it raises into one line on standard error and an exit code."""
    try:
        code = main()
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        return code
    except UserError as error:
        print(_said(f"error: {error}"), file=sys.stderr)
        return 2
    except WorkError as error:
        print(_said(f"failed: {error}"), file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `… | head` closed the pipe; nothing may be flushed into it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        where = f"{error.filename}: " if error.filename else ""
        print(_said(f"failed: {where}{error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _said(text: str) -> str:
    """What is said may hold names from files and command lines, which hold anything of any length."""
    line, half = one_line(text), LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[:half]} … {line[-half:]}"
