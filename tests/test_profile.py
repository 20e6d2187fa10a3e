"""Cluster profiles: those packaged load, and whatever is wrong in one of a user's is told in a line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.errors import UserError
from slurm import profile
from slurm.profile import OURS, Profile, load_profile, minutes_of

CLUSTERS = sorted((Path(profile.__file__).parent / "clusters").glob("*.yaml"))
TEXTS = ("partition", "account", "qos", "constraint", "wckey", "python", "device")
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A profile with a time limit and what is given."""

    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text if "time_limit_minutes" in text else f"time_limit_minutes: 60\n{text}\n")
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_profile(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_packaged_profile_loads_before_and_after_oom(path: Path) -> None:
    loaded = load_profile(path)
    assert loaded.partition
    assert Profile.model_validate(loaded.after_oom().model_dump()) == loaded.after_oom()


def test_there_are_packaged_profiles_for_the_three_cases() -> None:
    assert {"one_gpu_per_run", "several_short_runs", "preemptible"} <= {path.stem for path in CLUSTERS}


def test_commented_lines_of_the_packaged_profiles_are_right_too(write: Write) -> None:
    """What a user uncomments must load."""
    lines = next(path for path in CLUSTERS if path.stem == "one_gpu_per_run").read_text().splitlines()
    uncommented = [re.sub(r"^(\s*)# (?=[\w-]+:|  \w|- )", r"\1", line) for line in lines]
    assert uncommented != lines
    loaded = load_profile(write("\n".join(uncommented)))
    assert (loaded.account, loaded.device, loaded.wckey) == ("my-project", "NVIDIA H200", "ensembles")
    assert loaded.sbatch == {"exclude": "node[13-14]"}
    assert len(loaded.setup) == 3


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("90", 90),
        ('"90"', 90),
        ('"90:00"', 90),
        ("90:00", 90),
        ("72:00:00", 4320),
        ('"72:00:00"', 4320),
        ("24:00:00", 1440),
        ("1:30:00", 90),
        ("0:30:01", 31),
        ("01:00:00", 60),
        ("90:01", 91),
        ("3-0", 4320),
        ("1-0", 1440),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("0-1", 60),
        ("3-00:00:00", 4320),
        ("3-01:02:03", 4383),
        ('" 60 "', 60),
        ("527040", 527040),
    ],
)
def test_time_limit_is_read_as_slurm_writes_it(written: str, minutes: int, write: Write) -> None:
    assert load_profile(write(f"time_limit_minutes: {written}")).time_limit_minutes == minutes


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1:2:3:4", "1-", "-1:00", "1-0:0:0:0", "90m", "1.5", "3 days", "1--2", "1e3"]
)
def test_other_times_are_refused(text: str, write: Write) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        minutes_of(text)
    assert refusal(write(f'time_limit_minutes: "{text}"')).startswith("time_limit_minutes: ")


@pytest.mark.parametrize(
    "written", ["0", "-1", "527041", '"0:00"', "90.0", "1e3", "true", "null", "[60]", "2026-01-01"]
)
def test_time_limit_is_a_whole_number_of_minutes_up_to_a_year(written: str, write: Write) -> None:
    assert refusal(write(f"time_limit_minutes: {written}")).startswith("time_limit_minutes: ")


def test_time_limit_must_be_told(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("partition: gpu\n")
    assert refusal(path) == "time_limit_minutes: is missing"


@pytest.mark.parametrize(
    "line",
    [
        *(f"{key}: 5" for key in TEXTS),
        *(f"{key}: true" for key in TEXTS),
        *(f"{key}: [a]" for key in TEXTS),
        *(f'{key}: "1"' for key in ("gpus", "cpus", "memory_gb", "margin", "signal_seconds", "array_parallelism")),
        *(f"{key}: 1.5" for key in ("gpus", "cpus", "signal_seconds", "runs_per_task", "parallel_runs")),
        *(f"{key}: true" for key in ("gpus", "cpus", "memory_gb", "margin", "runs_per_task", "training_tflops")),
        *(f"{key}: null" for key in ("gpus", "cpus", "signal_seconds", "requeue", "setup", "sbatch", "retry_oom")),
        *(f"{key}: 0" for key in ("cpus", "memory_gb", "array_parallelism", "runs_per_task", "parallel_runs")),
        *(f"{key}: .nan" for key in ("memory_gb", "margin", "training_tflops")),
        *(f"{key}: .inf" for key in ("memory_gb", "margin", "training_tflops")),
        "gpus: -1",
        "gpus: 65",
        "cpus: 1025",
        "memory_gb: -1",
        "margin: 0.9",
        "signal_seconds: 9",
        "signal_seconds: 3601",
        'requeue: "yes"',
        "requeue: 1",
        "check_results_folder: 0",
        "training_tflops: 0",
        "training_tflops: 1e-300",
        "memory_gb: 1e308",
        "margin: 1e308",
        "runs_per_task: 1000001",
        "array_parallelism: 1000001",
        "setup: module load cuda",
        "setup: [1]",
        "setup: [[a]]",
        "setup: [null]",
        "sbatch: [exclude]",
        "sbatch: exclude",
        "retry_oom: 64",
        "retry_oom: [64]",
    ],
)
def test_value_of_the_wrong_kind_is_refused_by_its_key(line: str, write: Write) -> None:
    assert refusal(write(line)).startswith(line.partition(":")[0])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("partitionn: gpu", "unknown key 'partitionn', did you mean 'partition'?"),
        ("memory: 5", "unknown key 'memory'"),
        ("retry_oom: {memry_gb: 5}", "retry_oom: unknown key 'memry_gb', did you mean 'memory_gb'?"),
        ("retry_oom: {gpus: 2}", "retry_oom: unknown key 'gpus'"),
        ("retry_oom: {memory_gb: 0}", "retry_oom.memory_gb: "),
        ("retry_oom: {partition: 5}", "retry_oom.partition: "),
        ("gpus: 1\ngpus: 2", "key 'gpus' stands twice"),
        ("gpus: [", "not valid YAML"),
        ("5: 5", "key 5 is not text"),
        ("partition: !!python/name:os.system x", "not valid YAML"),
    ],
)
def test_what_is_no_profile_is_refused(line: str, says: str, write: Write) -> None:
    assert says in refusal(write(line))


@pytest.mark.parametrize("content", [b"", b"- gpus: 1", b"gpu", b"\xff\xfe\x00", b"null", b"gpus: \x00"])
def test_file_that_is_no_mapping_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    refusal(path)
    refusal(tmp_path)
    refusal(tmp_path / "none.yaml")


@pytest.mark.parametrize(("name", "instead"), OURS.items())
def test_parameter_of_sbatch_that_is_ours_is_refused_with_the_key_that_sets_it(
    name: str, instead: str, write: Write
) -> None:
    message = refusal(write(f"sbatch: {{{name}: 5}}"))
    assert message.startswith(f"sbatch: {name} can't stand here")
    assert instead in message
    assert not instead or instead in Profile.model_fields


@pytest.mark.parametrize(
    "name",
    [
        *(
            "array",
            "time",
            "mem",
            "signal",
            "requeue",
            "no-requeue",
            "partition",
            "account",
            "qos",
            "constraint",
            "wckey",
        ),
        *("cpus-per-task", "gpus-per-node", "nodes", "ntasks", "ntasks-per-node"),
        *("job-name", "output", "error", "open-mode"),
    ],
)
def test_parameters_that_would_break_the_jobs_are_ours(name: str) -> None:
    assert name in OURS


@pytest.mark.parametrize("written", ["false", "null", "1.5", "[a]", "{a: b}", '""', '" "'])
def test_value_that_sbatch_cannot_take_is_refused(written: str, write: Write) -> None:
    assert refusal(write(f"sbatch: {{exclusive: {written}}}")).startswith("sbatch")


@pytest.mark.parametrize(
    "name",
    [
        "--exclude",
        "-w",
        "Exclude",
        "node_list",
        "exclude ",
        "exclude=x",
        '"exclude\\n#SBATCH --mem"',
        '"exclude\\n"',
        '""',
    ],
)
def test_name_that_is_no_parameter_of_sbatch_is_refused(name: str, write: Write) -> None:
    name = name if name.startswith('"') else f'"{name}"'
    assert refusal(write(f"sbatch: {{{name}: 5}}")).startswith("sbatch: ")


def test_parameters_of_sbatch_are_kept_as_written(write: Write) -> None:
    loaded = load_profile(write('sbatch: {exclude: "node[1-2]", exclusive: true, nice: 0, switches: "1"}'))
    assert loaded.sbatch == {"exclude": "node[1-2]", "exclusive": True, "nice": 0, "switches": "1"}
    assert loaded.sbatch["exclusive"] is True
    assert type(loaded.sbatch["nice"]) is int


INJECTIONS = [
    "gpu\\n#SBATCH --mem=0",
    "gpu\\n",
    "\\ngpu",
    "gpu\\r",
    "gpu\\0",
    "gpu\\x1b[2J",
    "gpu\\u2028x",
    "gpu\\x85x",
]
PLACES = [
    *(f'{key}: "%s"' for key in TEXTS),
    'setup: [ulimit -c 0, "%s"]',
    'sbatch: {comment: "%s"}',
    'retry_oom: {partition: "%s"}',
    'retry_oom: {constraint: "%s"}',
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: re.split(r'[ "]*%', place)[0])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_text_that_is_no_printable_line_is_refused(injection: str, place: str, write: Write) -> None:
    assert refusal(write(place % injection)).startswith(place.partition(":")[0])


@pytest.mark.parametrize("place", PLACES, ids=lambda place: re.split(r'[ "]*%', place)[0])
@pytest.mark.parametrize("nothing", ["", " "])
def test_empty_text_is_refused(nothing: str, place: str, write: Write) -> None:
    """sbatch would read the next word for it; null leaves it out."""
    assert refusal(write(place % nothing)).startswith(place.partition(":")[0])


@pytest.mark.parametrize("place", PLACES, ids=lambda place: re.split(r'[ "]*%', place)[0])
def test_printable_text_is_taken(place: str, write: Write) -> None:
    load_profile(write(place % "größer & 'b' $c"))


def test_as_many_runs_side_by_side_as_a_task_has_at_most(write: Write) -> None:
    assert load_profile(write("runs_per_task: 3\nparallel_runs: 3")).parallel_runs == 3
    message = refusal(write("runs_per_task: 3\nparallel_runs: 4"))
    assert "parallel_runs (4)" in message
    assert "runs_per_task (3)" in message
    assert "parallel_runs (2)" in refusal(write("parallel_runs: 2"))


def test_signal_comes_after_the_start(write: Write) -> None:
    assert load_profile(write("time_limit_minutes: 2\nsignal_seconds: 119")).signal_seconds == 119
    for seconds in (120, 121, 3600):
        assert f"signal_seconds ({seconds})" in refusal(write(f"time_limit_minutes: 2\nsignal_seconds: {seconds}"))
    assert "signal_seconds (90)" in refusal(write("time_limit_minutes: 1"))


def test_after_oom_only_what_is_told_changes(write: Write) -> None:
    loaded = load_profile(write("partition: gpu\nconstraint: a100\nmemory_gb: 16\nretry_oom: {memory_gb: 64}"))
    assert loaded.after_oom() == loaded.model_copy(update={"memory_gb": 64.0})
    loaded = load_profile(write("partition: gpu\nmemory_gb: 16\nretry_oom: {partition: big, constraint: h200}"))
    assert loaded.after_oom() == loaded.model_copy(update={"partition": "big", "constraint": "h200"})
    loaded = load_profile(write("memory_gb: 16"))
    assert loaded.after_oom() == loaded


def test_margin_may_be_null_and_numbers_may_be_whole(write: Write) -> None:
    loaded = load_profile(write("margin: null\nmemory_gb: 16\ntraining_tflops: 100"))
    assert (loaded.margin, loaded.memory_gb, loaded.training_tflops) == (None, 16.0, 100.0)
    assert load_profile(write("margin: 1")).margin == 1.0
