"""What a command says and how it exits when something is wrong: 2 for wrong input, 1 for work that failed."""

import difflib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable


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


def exit_code(main: Callable[[], int]) -> int:
    """Run a command and turn what it raises into one line on standard error and an exit code."""
    try:
        code = main()
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        return code
    except UserError as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return 2
    except WorkError as error:
        print(f"failed: {printable(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # `… | head` closed the pipe; nothing may be flushed into it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        where = f"{error.filename}: " if error.filename else ""
        print(printable(f"failed: {where}{error.strerror or error}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
