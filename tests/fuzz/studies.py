"""Study files: read, resolved, expanded, planned, written and read again."""

from pathlib import Path
from typing import Any

from benchmark.config import STUDIES, expand
from benchmark.errors import UserError
from benchmark.report.gather import _name_tasks
from benchmark.run import planned, resolved_study
from benchmark.store import Results
from benchmark.strict import read_yaml

from .judge import Finding, accepted_or_refused
from .near_valid import Way, near_valid

LONGEST_FILE_NAME = 255


def kind(folder: Path) -> tuple[Any, Any]:
    paths = [path for path in sorted(STUDIES.rglob("*.yaml")) if "papers" not in path.parts]
    texts = [path.read_text() for path in paths]
    results, path = Results(folder / "results"), folder / "study.yaml"
    usual = {run.key for known in paths for run in expand(resolved_study(str(known)))}

    def plan() -> int:
        study = resolved_study(str(path))
        runs = expand(study)
        results.write_study(study)
        try:
            read = results.read_study(study.name)
        except UserError as error:
            raise Finding("a grid can't be read again", str(error)) from None
        if read != study or [run.key for run in expand(read)] != [run.key for run in runs]:
            raise Finding("a grid is not read as it was written")
        names = [*(f"{run.key}.parquet.damaged" for run in runs), *(name for name, _, _ in _name_tasks(study.tasks))]
        for name in names:
            if "/" in name or not name.isprintable() or len(name.encode()) > LONGEST_FILE_NAME:
                raise Finding("what a run or task is called is no file name", name)
        for run in runs:
            if run.key not in usual:
                planned(run)
                break
        return 0

    return near_valid(texts, lambda text: parsed(text, folder), _is_free), (
        lambda near: accepted_or_refused(path, near, plan)
    )


def _is_free(way: Way) -> bool:
    return way[-1] == "compile"  # takes a word too


def parsed(text: str, folder: Path) -> Any:
    path = folder / "parsed.yaml"
    path.write_text(text)
    return read_yaml(path, "a mapping")
