"""What is specific to the command driver."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agents.confinement.attempt_limits import Limits
from tests.support.work.driver_runs import DriverRun, RecordingReporter, brief


def test_without_a_written_result_the_end_of_the_output_is_the_result(tmp_path: Path) -> None:
    evidence = DriverRun("command", brief(tmp_path, shell="seq 10000")).end()
    assert isinstance(evidence.result, dict)
    output = evidence.result["output"]
    assert isinstance(output, str)
    assert len(output) == 4_000
    assert output.endswith("9999\n10000\n")


def test_a_prompt_of_any_size_is_passed_on_standard_input(tmp_path: Path) -> None:
    prompt = "wörd " * 200_000
    evidence = DriverRun("command", brief(tmp_path, argv=("sh", "-c", "wc -c; true"), stdin=prompt)).end()
    assert evidence.result == {"output": f"{len(prompt.encode())}\n"}
    unread = DriverRun("command", brief(tmp_path, argv=("true",), stdin=prompt)).end()
    assert unread.ok


@pytest.mark.parametrize(
    "write, message",
    [
        ("echo '{' > $FLEET_RESULT", "is not JSON"),
        ("echo NaN > $FLEET_RESULT", "the value is not a finite number"),
        ("echo 1e999 > $FLEET_RESULT", "the value is not a finite number"),
        ("printf '\\377' > $FLEET_RESULT", "is not JSON"),
        ("head -c 100000 /dev/zero | tr '\\0' '[' > $FLEET_RESULT", "nested more than 40 levels deep"),
        (": > $FLEET_RESULT", "is not JSON"),
        ("mkfifo $FLEET_RESULT", "not a regular file"),
        ("mkdir $FLEET_RESULT", "not a regular file"),
        ("ln -s /dev/zero $FLEET_RESULT", "cannot be read"),
        ("ln -s /etc/passwd $FLEET_RESULT", "cannot be read"),
        ("head -c 2000000 /dev/zero > $FLEET_RESULT", "larger than 1,000,000 bytes"),
        ("echo '{}' > $FLEET_SORTIES", "not a list"),
        ("echo null > $FLEET_SORTIES", "not a list"),
        ("ln -s /dev/zero $FLEET_SORTIES", "cannot be read"),
    ],
)
def test_an_unacceptable_result_is_a_failure_and_is_explained(write: str, message: str, tmp_path: Path) -> None:
    evidence = DriverRun("command", brief(tmp_path, shell=write)).end()
    assert (evidence.finished, evidence.ok, evidence.result, evidence.added) == (True, False, None, ())
    assert message in evidence.error


def test_a_link_in_place_of_the_exchange_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "result.json").write_text('"a secret"')
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    swap = f"mv $FLEET_SCRATCH/.fleet $FLEET_SCRATCH/gone; ln -s {elsewhere} $FLEET_SCRATCH/.fleet"
    evidence = DriverRun("command", brief(scratch, shell=swap)).end()
    assert evidence.result == {"output": ""}
    with pytest.raises(OSError):
        DriverRun("command", brief(scratch, shell="true")).end()
    assert [path.name for path in elsewhere.iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "options, error",
    [
        ({"argv": ("no-such-program",)}, "'no-such-program' was not found"),
        ({"argv": ("/etc/passwd",)}, "is not executable"),
        ({"argv": ("./script",)}, "The interpreter in the first line"),
        ({"shell": "true", "cwd": Path("/no/such/folder")}, "'/no/such/folder' cannot be entered (No such file"),
        ({"shell": "true", "cwd": Path("/etc/passwd")}, "cannot be entered (Not a directory"),
        ({"argv": ("echo", "a\0b")}, "NUL"),
        ({"shell": "true", "env": {"A": "a\0b"}}, "NUL"),
        ({"shell": "true", "env": {"A": "\ud800"}}, "surrogate"),
        ({"argv": ("echo", "x" * 3_000_000)}, "too long"),
        ({"shell": "kill -9 $$"}, "killed by signal 9 (SIGKILL)"),
        ({"shell": "echo one; echo two >&2; exit 7"}, "exit code 7. Its last output: two"),
    ],
)
def test_a_failure_is_explained_in_one_sentence(options: dict[str, object], error: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    evidence = DriverRun("command", brief(tmp_path, **options)).end()
    assert not evidence.ok
    assert error in evidence.error


def test_large_needs_and_inputs_are_passed_only_as_files(tmp_path: Path) -> None:
    needs = {f"n{number}": "x" * 30_000 for number in range(40)} | {"large": "x" * 40_000, "a/../b": 1}
    attempt_brief = brief(
        tmp_path,
        shell='echo "${FLEET_NEED_N0:+in} ${FLEET_NEED_LARGE:-out}"; env | wc -c; cat $FLEET_NEEDS/large.json | wc -c; '
        "cat $FLEET_NEEDS/_a_.._b-*.json; echo; echo ${FLEET_INPUT_BIG:-out}; wc -c < $FLEET_INPUTS",
        needs=needs,
        inputs={"big": "y" * 200_000},
    )
    reporter = RecordingReporter()
    assert DriverRun("command", attempt_brief, reporter=reporter).end().ok
    first, size, large, other, big, inputs = reporter.out.splitlines()
    assert first == "in out"
    assert int(size) < 600_000
    assert (large, other, big) == ("40002", "1", "out")
    assert int(inputs) > 200_000


def test_hostile_needs_are_data_and_not_shell_text(tmp_path: Path) -> None:
    text = "$(touch pwned); `touch pwned`\n'\"; touch pwned"
    attempt_brief = brief(tmp_path, shell='printf %s "$FLEET_NEED_A" > "$FLEET_RESULT"', needs={"a": text})
    assert DriverRun("command", attempt_brief).end().result == text
    assert not (tmp_path / "pwned").exists()


def test_its_input_is_readable_only_by_its_user(tmp_path: Path) -> None:
    attempt_brief = brief(
        tmp_path, shell="stat -c %a $FLEET_SCRATCH/.fleet/* $FLEET_NEEDS/*", needs={"a": 1}, stdin="prompt"
    )
    reporter = RecordingReporter()
    DriverRun("command", attempt_brief, reporter=reporter).end()
    assert set(reporter.out.split()) == {"600", "700"}


def test_it_inherits_only_the_standard_descriptors(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        DriverRun("command", brief(tmp_path, shell="ls /proc/self/fd"), reporter=reporter).end()
    assert reporter.out.split() == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


def test_progress_counts_as_activity_and_a_flood_of_it_does_no_harm(tmp_path: Path) -> None:
    beat = "for i in 1 2 3 4 5 6 7 8; do echo 0.$i step > $FLEET_PROGRESS; sleep 0.15; done"
    reporter = RecordingReporter()
    attempt_brief = brief(tmp_path, shell=beat, limits=Limits(silence_s=0.8, timeout_s=20, grace_s=1))
    assert DriverRun("command", attempt_brief, reporter=reporter).end().ok
    assert reporter.reports[-1] == (0.8, "step")
    flood = RecordingReporter()
    attempt_brief = brief(
        tmp_path, shell="yes 'and so on' | head -c 5000000 > $FLEET_PROGRESS; echo 2 lines > $FLEET_PROGRESS"
    )
    assert DriverRun("command", attempt_brief, reporter=flood).end().ok
    assert len(flood.reports) < 5_000
    assert flood.reports[-1] == (None, "2 lines")


def test_a_second_run_in_the_same_scratch_folder_finds_the_result(tmp_path: Path) -> None:
    work = brief(tmp_path, shell="echo '{\"n\": 1}' > $FLEET_RESULT", needs={"a": 1})
    assert DriverRun("command", work).end().ok
    reporter = RecordingReporter()
    assert DriverRun("command", brief(tmp_path, shell="cat $FLEET_RESULT", needs={"a": 2}), reporter=reporter).end().ok
    assert json.loads(reporter.out) == {"n": 1}


def test_thousands_of_needs_with_long_names_are_files_listed_in_an_index(tmp_path: Path) -> None:
    needs: dict[str, object] = {f"scan2[{'😀' * 120}{number}]": number for number in range(3_000)}
    needs |= {"states": "mine", "a/b": 1, "a_b": 2, ".hidden": 3, "x-0123456789abcdef": 4, "large": "y" * 40_000}
    script = """
import json, os
index = json.load(open(os.environ["FLEET_NEEDS_INDEX"]))
read = {name: json.load(open(os.path.join(os.environ["FLEET_NEEDS"], file))) for name, file in index.items()}
states = json.load(open(os.environ["FLEET_NEED_STATES_FILE"]))
large = json.load(open(os.environ["FLEET_NEED_LARGE_FILE"]))
size = sum(len(name) + len(value) + 2 for name, value in os.environb.items())
longest = max(len(value) for value in os.environb.values())
print(json.dumps([len(set(index.values())), max(len(file.encode()) for file in index.values()), size, longest]))
json.dump([read, states, large], open(os.environ["FLEET_RESULT"], "w"))
"""
    small_first = dict(reversed(needs.items()))
    attempt_brief = brief(
        tmp_path,
        argv=("python3", "-c", script),
        needs=small_first,
        need_states=dict.fromkeys(needs, "succeeded"),
        limits=Limits(result_bytes=10_000_000),
    )
    reporter = RecordingReporter()
    evidence = DriverRun("command", attempt_brief, reporter=reporter).end()
    assert evidence.ok, evidence.error
    assert evidence.result == [needs, dict.fromkeys(needs, "succeeded"), "y" * 40_000]
    files, longest_name, size, longest = json.loads(reporter.out)
    assert files == len(needs)
    assert longest_name <= 130
    assert size < 600_000
    assert longest <= 32 * 1024
