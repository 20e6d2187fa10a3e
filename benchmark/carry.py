"""Take studies to a machine that reaches no network, and bring back what came of them, in archives of limited size.

python -m benchmark.carry out gpu/h200-cifar100-resnet18 --wheels wheels --to away    # here
sh train.sh 25 --workers 2                                                            # there, the archives unpacked
python -m benchmark.carry in back/*.tar                                               # here

`out` packs the code, the data sets' files, wheels, the rows that are there already, and train.sh, which sweeps there and
packs what came of it (docs/gpu.md). `back` packs what a report needs of each run that ended there: row, example file,
history and log. `in` puts that beside the runs of this machine; a run that is finished here too stays as it is.
"""

import re
import shlex
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmark.code_version import write_snapshot
from benchmark.config import Study, expand, load_study, read_study
from benchmark.data.sources import Location, Part, find
from benchmark.errors import Parser, UserError, exit_code
from benchmark.files import is_own_file, warn, write_if_changed
from benchmark.lock import is_held
from benchmark.machine import named_path, positive
from benchmark.rows import CHECKED_FILES, is_as_written, parse_row, written_checksum
from benchmark.store import Results

MIB = 2**20
SCRIPT = """# sh train.sh MINUTES [options of benchmark.sweep]: trains what ends in time and packs all that ended into back/.
set -eu
cd "$(dirname "$0")"
minutes=$1 begun=$(date +%s)
shift
if [ -d wheels ] && [ ! -d site ]; then
    python3 -m pip install --quiet --no-index --no-deps --target site wheels/*.whl
fi
export PYTHONPATH="$PWD:$PWD/site"
for study in {studies}; do
    left=$((minutes - ($(date +%s) - begun) / 60))
    if [ "$left" -ge 1 ]; then  # a sweep that leaves something to do says so and exits with 1
        python3 -m benchmark.sweep "$study" --offline --data-dir data --time-limit "$left" "$@" || [ $? -eq 1 ]
    fi
done
rm -rf back
python3 -m benchmark.carry back {studies} --to back
"""
OF_A_RUN = ("examples.parquet", "history.jsonl", "log", "row.json")
"""What comes back, the row last: it marks the run finished."""
NAME_BROUGHT = re.compile(
    rf"runs/(?P<key>\w[\w.-]*)/({'|'.join(map(re.escape, OF_A_RUN))})|(?P<study>\w[\w.-]*)/study\.yaml"
)
END_OF_ARCHIVE = tarfile.RECORDSIZE
"""Blocks of zeros, in bytes."""


def take_out(
    names: Sequence[str], results: Results, location: Location, wheels: Path | None, to: Path, most: int
) -> None:
    """Archives of at most `most` bytes, to be unpacked into one empty folder. Raises UserError."""
    files: dict[str, Path] = {}
    names_there = []
    for name in names:
        study = load_study(name)
        files |= _data_files(study, location)
        if name.endswith((".yaml", ".yml")):
            name_there = f"studies/{Path(name).name}"
            files[name_there] = Path(name)
            names_there.append(name_there)
        else:
            names_there.append(name)
        if (results.study_dir(study.name) / "study.yaml").is_file():
            results.collect(results.read_study(study.name), trusting=True)
        rows = results.study_dir(study.name) / "rows.jsonl"
        if rows.is_file():
            files[f"results/{study.name}/rows.jsonl"] = rows
    if wheels is not None:
        files |= {f"wheels/{path.name}": path for path in sorted(wheels.glob("*.whl"))}
    with tempfile.TemporaryDirectory() as folder:
        write_snapshot(Path(folder))
        (Path(folder) / "train.sh").write_text(SCRIPT.replace("{studies}", shlex.join(names_there)))
        files |= {str(path.relative_to(folder)): path for path in sorted(Path(folder).rglob("*")) if path.is_file()}
        _write_archives(files, to, most)


def bring_back(names: Sequence[str], results: Results, to: Path, most: int) -> None:
    """Archives of at most `most` bytes of the runs in this results folder that have a row. Raises UserError."""
    files: dict[str, Path] = {}
    for name in names:
        study_name = load_study(name).name
        if not (results.study_dir(study_name) / "study.yaml").is_file():
            print(f"{study_name}: not swept here")
            continue
        study = results.read_study(study_name)
        ended = [run.key for run in expand(study) if (results.run_dir(run.key) / "row.json").is_file()]
        files[f"{study.name}/study.yaml"] = results.study_dir(study.name) / "study.yaml"
        for key in ended:
            paths = [results.run_dir(key) / part for part in OF_A_RUN]
            files |= {f"runs/{key}/{path.name}": path for path in paths if is_own_file(path)}
        print(f"{study.name}: {len(ended)} runs ended here")
    if not files:
        raise UserError(f"{results.root}: there is nothing to bring back of {', '.join(names)}")
    _write_archives(files, to, most)


def take_in(archives: Sequence[Path], results: Results) -> None:
    """Put runs into the results folder, and grids, which were swept last; collect their rows. Raises UserError."""
    found = {name: content for path in archives for name, content in _contents(path).items()}
    studies = [_study(name, content) for name, content in found.items() if name.endswith("/study.yaml")]
    keys = sorted({match["key"] for name in found if (match := NAME_BROUGHT.fullmatch(name)) and match["key"]})
    results.create()
    whole = [key for key in keys if _is_whole(key, found)]
    for key in sorted({*keys} - {*whole}):
        warn(f"{key}: its row is missing, or a file of it is damaged; left out")
    new = [key for key in whole if _is_news(key, found, results)]
    for key in new:
        for part in OF_A_RUN:
            if f"runs/{key}/{part}" in found:
                write_if_changed(results.run_dir(key) / part, found[f"runs/{key}/{part}"])
    for study in studies:
        results.write_study(study)
        results.collect(study, trusting=True)
    print(f"{len(new)} runs brought in, {len(keys) - len(new)} left out: they are here already or damaged")


def _study(name: str, content: bytes) -> Study:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_bytes(content)
        try:
            return read_study(path)
        except UserError as error:
            raise UserError(f"{name} in the archives: {str(error).replace(str(path), path.name)}") from None


def _contents(path: Path) -> dict[str, bytes]:
    """Raises UserError where an archive is damaged or not one of `back`."""
    contents = {}
    try:
        # Neither compressed nor sparse: no larger than it looks.
        with tarfile.open(path, "r:") as archive, path.open("rb") as whole:
            for member in archive:
                is_ours = NAME_BROUGHT.fullmatch(member.name) and member.isfile() and not member.issparse()
                file = archive.extractfile(member) if is_ours else None
                if file is None:
                    raise UserError(f"{path}: {member.name!r} is nothing that `carry back` packs")
                contents[member.name] = file.read()
            whole.seek(archive.offset)
            rest = whole.read()
            if len(rest) < 2 * tarfile.BLOCKSIZE or any(rest):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("it is cut off or damaged")
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{path}: can't be read as an archive ({why})") from None
    return contents


def _is_whole(key: str, found: dict[str, bytes]) -> bool:
    """Whether a run's row and the files that it speaks of came as they were written."""
    text = found.get(f"runs/{key}/row.json", b"")
    row = parse_row(text)
    if row is None or row["key"] != key or written_checksum(text) is None:
        return False
    there = [name for name in CHECKED_FILES if f"runs/{key}/{name}" in found]
    return all(is_as_written(found[f"runs/{key}/{name}"], row.get("files"), name) for name in there)


def _is_news(key: str, found: dict[str, bytes], results: Results) -> bool:
    """Whether a run is brought that has no row here, nor is trained here; one that is done is news where it failed, too."""
    if is_held(results.run_dir(key)):
        return False
    here, brought = results.row(key), parse_row(found[f"runs/{key}/row.json"])
    assert brought is not None, "it is whole"
    return here is None or (here["status"], brought["status"]) == ("failed", "done")


def _data_files(study: Study, location: Location) -> dict[str, Path]:
    """What a study reads, by where `--data-dir data` finds it. Published files of corrupted images are left: they take
    gigabytes. Where they are missing such images are generated, and rows say so.
    """
    parts: list[tuple[str, Part, str | None, int | None]] = []
    for task in study.tasks:
        parts += [(task.dataset, part, task.folder, task.image_size) for part in ("train", "test")]
        parts += [(other, "test", None, None) for other in task.out_of_distribution]
    files: dict[str, Path] = {}
    for dataset, part, folder, image_size in dict.fromkeys(parts):
        source = find(dataset, part, location, folder=folder, image_size=image_size)
        origin = Path(source.origin)
        below = f"{folder}/{origin.name}" if folder else dataset
        files |= {f"data/{below}/{file.relative_to(origin)}": file for file in source.files}
    return files


def _write_archives(files: dict[str, Path], to: Path, most: int) -> None:
    """1.tar, 2.tar, … in `to`, the largest files first, each where it fits."""
    if to.is_dir() and any(to.iterdir()):
        raise UserError(f"--to {to}: the folder is not empty")
    bins: list[list[str]] = []
    sizes: list[int] = []
    for name in sorted(files, key=lambda name: (-files[name].stat().st_size, name)):
        size = _size_in_archive(files[name].stat().st_size)
        if size + END_OF_ARCHIVE > most:
            raise UserError(f"{files[name]} takes {size / MIB:.1f} MiB, more than an archive may (--mib {most // MIB})")
        place = next((i for i, filled in enumerate(sizes) if filled + size + END_OF_ARCHIVE <= most), len(bins))
        if place == len(bins):
            bins.append([])
            sizes.append(0)
        bins[place].append(name)
        sizes[place] += size
    to.mkdir(parents=True, exist_ok=True)
    for number, names in enumerate(bins, start=1):
        path = to / f"{number}.tar"
        # Links are followed: a data set's files may lie elsewhere.
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, dereference=True) as archive:
            for name in names:
                archive.add(files[name], name)
        print(f"{path}: {len(names)} files, {path.stat().st_size / MIB:.1f} MiB")


def _size_in_archive(size: int) -> int:
    """Bytes of a file with its headers, a long name's included."""
    blocks = -(-size // tarfile.BLOCKSIZE)
    return (blocks + 4) * tarfile.BLOCKSIZE


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmark.carry", description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    out, back = (
        ways.add_parser("out", help="pack what a sweep needs"),
        ways.add_parser("back", help="pack what it left"),
    )
    into = ways.add_parser("in", help="put into the results folder what was brought back")
    for way, most in ((out, 60), (back, 15)):
        way.add_argument("study", nargs="+", help="a packaged study or a YAML file")
        way.add_argument(
            "--to", type=named_path, required=True, metavar="FOLDER", help="for the archives; empty or new"
        )
        way.add_argument(
            "--mib", type=positive, default=most, help=f"the most that an archive may take (default: {most})"
        )
    out.add_argument("--wheels", type=named_path, metavar="FOLDER", help="packages that are missing there")
    out.add_argument(
        "--data-dir", type=named_path, help="where data sets lie (then $BENCHMARK_DATA, then the user's cache)"
    )
    into.add_argument("archive", nargs="+", type=named_path)
    for way in (out, back, into):
        way.add_argument(
            "--results", type=named_path, default=Path("results"), help="results folder (default: results)"
        )
    return parser


def main() -> int:
    arguments = _parser().parse_args()
    results = Results(arguments.results)
    if arguments.way == "in":
        take_in(arguments.archive, results)
        return 0
    most = arguments.mib * MIB
    if arguments.way == "back":
        bring_back(arguments.study, results, arguments.to, most)
        return 0
    if arguments.wheels is not None and not arguments.wheels.is_dir():
        raise UserError(f"--wheels {arguments.wheels}: no such folder")
    take_out(arguments.study, results, Location(arguments.data_dir), arguments.wheels, arguments.to, most)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
