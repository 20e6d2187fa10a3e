"""Which of several ways to train the same members is the fastest here, found by a few steps of each and then kept."""

import json
import math
import shutil
import statistics
from pathlib import Path

import torch

from benchmark.config import Run
from benchmark.data.load import TaskData
from benchmark.files import warn, write_atomically
from benchmark.method import Method
from benchmark.speed.subject import Driven, Subject
from benchmark.temporary import temporary
from benchmark.timing import in_turns

ROUNDS = 3


def fastest(run: Run, method: Method, data: TaskData, folder: Path, device: torch.device) -> Method:
    """The form of a method that trains a run soonest on this device.

    A run keeps the first choice in its folder: stages of another form have other names, so that it could not go on.
    """
    forms = method.forms()
    if len(forms) == 1:
        return forms[0]
    path = folder / "execution.json"
    try:
        form = json.loads(path.read_bytes())["form"]
        if type(form) is int and 0 <= form < len(forms):
            return forms[form]
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        pass  # not chosen yet, or not to be read: no weights are lost by choosing again, only found under other names
    seconds = [_seconds_or_never(run, form, data, folder, device) for form in forms]
    chosen = seconds.index(min(seconds))
    told = [each if each < math.inf else None for each in seconds]
    content = json.dumps({"form": chosen, "seconds": told}).encode()
    write_atomically(path, lambda file: file.write(content))
    return forms[chosen]


def _seconds_or_never(run: Run, form: Method, data: TaskData, folder: Path, device: torch.device) -> float:
    """Infinite for a form that can't be trained here, as stacked networks on a GPU by torch 2.11."""
    try:
        return _training_seconds(run, form, data, folder, device)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        warn(f"{run.label}: one of the forms of execution: auto can't be trained on {device}: {reason}")
        return math.inf


def _training_seconds(run: Run, method: Method, data: TaskData, folder: Path, device: torch.device) -> float:
    """Of all stages, from a few steps of each kind; one form at a time is in memory."""
    trial = temporary(folder / "execution")
    trial.mkdir(parents=True)
    try:
        subject = Subject(run, method, data, trial, device)
        total = 0.0
        for driven in subject.driven:

            def step(driven: Driven = driven) -> None:
                driven.step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

            [seconds] = in_turns({"step": step}, ROUNDS).values()
            total += driven.num_steps * statistics.median(seconds)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return total
