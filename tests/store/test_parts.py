"""The folder of a sweep: what is finished stays finished, whoever writes beside it and whatever is killed."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from implicit_cli.errors import EnvironmentProblem, InputError
from implicit_cli.result import Header, Variable
from implicit_cli.status import Status
from implicit_cli.store import MergeReport, Parts, parts, read_summary, write_result
from implicit_cli.store.guard import opened
from implicit_cli.store.identity import differences

from .conftest import make_case, make_header

IDENTITY = {"spec": {"problem": "ridge", "solver": {"tol": 1e-10, "name": "auto"}}, "versions": {"jax": "0.12.0"}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out.h5.parts"


@pytest.fixture
def here(folder):
    return Parts(folder, IDENTITY)


def named(name, status=Status.OK, score=0.25):
    case = make_case()
    return dataclasses.replace(case, id=name, status=status, outputs={**case.outputs, "score": np.array(score)}, products=())


def inside(folder):
    return sorted(path.name for path in folder.iterdir())


def flipped(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


# What is done


def test_what_was_added_is_done_for_everyone(folder, here):
    assert here.done() == {}
    first = here.add(make_header(), [named("a1"), named("b2", Status.NOT_CONVERGED)])
    other = Parts(folder, IDENTITY)
    second = other.add(make_header(), [named("c3", Status.PARTIAL)])
    assert here.done() == other.done() == {"a1": 0, "b2": 2, "c3": 1}
    assert here.files() == (first, second)
    assert inside(folder) == [first.name, second.name, "sweep.json"]
    assert first.name.startswith("a1-")
    assert read_summary(first).cases[1].status == "not_converged"
    assert here.damaged == []


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_id_makes_a_name_that_is_found_again(here, name):
    path = here._new(name)
    assert path.parent == here.folder
    assert len(path.name.encode()) < 80
    assert not path.name.startswith((".", "-"))
    assert parts._PART.fullmatch(path.name)
    assert here._new(name) != path


def test_the_first_good_status_counts_of_a_case_that_is_there_twice(folder, here):
    header, bad = make_header(), Status.NOT_CONVERGED
    for name, cases in {
        "a": [named("x", bad), named("y", bad), named("z", Status.PARTIAL)],
        "b": [named("x", Status.PARTIAL), named("y", Status.NOT_FINITE), named("z", bad)],
        "c": [named("x"), named("z")],
    }.items():
        write_result(folder / f"{name}-{'0' * 16}.h5", header, cases)
    assert here.done() == {"x": Status.PARTIAL, "y": bad, "z": Status.PARTIAL}


def test_what_is_not_ours_is_left_alone(folder, here):
    part = here.add(make_header(), [named("a")])
    for name in ("notes.txt", "other.h5", ".implicit-0123456789abcdef.part"):
        (folder / name).write_bytes(b"no result")
    assert here.done() == {"a": 0}
    assert here.files() == (part,)
    here.remove()
    assert inside(folder) == ["notes.txt", "other.h5"]


def test_remove_takes_all_that_is_ours_and_the_folder(folder, here):
    here.add(make_header(), [named("a")])
    flipped(here.add(make_header(), [named("b")]))
    assert here.done() == {"a": 0}
    assert [name for name in inside(folder) if name.endswith(".damaged")] != []
    (folder / ".implicit-0123456789abcdef.part").write_bytes(b"left by a killed process")
    here.remove()
    assert not folder.exists()
    here.remove()
    assert here.done() == {}


def test_the_identity_is_removed_last(folder, here, monkeypatch):
    """After a kill on the way, what is left is still known to be this sweep's."""
    for name in "abc":
        here.add(make_header(), [named(name)])
    removed = []
    unlink = parts.Path.unlink
    monkeypatch.setattr(parts.Path, "unlink", lambda path, **options: removed.append(path.name) or unlink(path, **options))
    here.remove()
    assert len(removed) == 4
    assert removed[-1] == "sweep.json"


# Damage


@pytest.mark.parametrize("place", [0.02, 0.5, 0.97])
def test_a_flipped_bit_sets_a_part_aside(folder, here, place):
    here.add(make_header(), [named("a")])
    broken = here.add(make_header(), [named("b"), named("c")])
    flipped(broken, place)
    assert here.done() == {"a": 0}
    assert not broken.exists()
    assert (folder / f"{broken.name}.damaged").exists()
    assert len(here.damaged) == 1
    assert here.damaged[0].startswith(f"{broken}: damaged")
    assert here.damaged[0].endswith(f"; set aside as {broken.name}.damaged, its cases run again")
    assert "\n" not in here.damaged[0]
    # another process finds it no more; the cases can be added anew
    other = Parts(folder, IDENTITY)
    other.add(make_header(), [named("b"), named("c")])
    assert other.done() == {"a": 0, "b": 0, "c": 0}
    assert other.damaged == []


@pytest.mark.parametrize("length", [0, 1, 2000, -1])
def test_a_part_that_is_cut_short_is_set_aside(here, length):
    broken = here.add(make_header(), [named("b")])
    broken.write_bytes(broken.read_bytes()[:length])
    assert here.done() == {}
    assert len(here.damaged) == 1
    assert str(broken) in here.damaged[0]


def test_another_process_may_be_quicker_to_set_aside(here, monkeypatch):
    broken = here.add(make_header(), [named("b")])
    flipped(broken)

    def gone(path, other):
        os.replace(path, other)
        raise FileNotFoundError

    monkeypatch.setattr(parts.Path, "rename", gone)
    assert here.done() == {}
    assert len(here.damaged) == 1


def test_what_may_not_be_read_is_not_damaged(here, monkeypatch):
    """The machine's fault, which passes: nothing is set aside."""
    part = here.add(make_header(), [named("a")])

    def refuse(path):
        raise EnvironmentProblem(f"{path}: cannot read the file: Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(parts, "opened", refuse)
        with pytest.raises(EnvironmentProblem, match="Permission denied"):
            here.done()
    assert part.exists()
    assert here.done() == {"a": 0}


# Whose it is


def test_another_sweep_is_refused_with_what_differs(folder, here):
    other = {"spec": {"problem": "ridge", "solver": {"tol": 1e-8, "polish": True, "name": "auto"}}, "versions": {"jax": "0.12.0"}}
    with pytest.raises(InputError) as caught:
        Parts(folder, other)
    assert [line.removeprefix(f"{folder}: belongs to another sweep: ") for line in caught.value.messages] == [
        "spec.solver.tol: found 1e-08, it was 1e-10",
        "spec.solver.polish: found true, it was nothing",
        "go on with what it belongs to, or remove the folder to start anew",
    ]
    Parts(folder, IDENTITY)


def test_not_a_number_does_not_differ_from_itself():
    assert list(differences({"a": float("nan"), "b": 1.0}, {"a": float("nan"), "b": 1})) == []
    assert list(differences({"a": float("nan")}, {"a": 1.0})) == ["a: found 1.0, it was NaN"]


def test_two_sweeps_that_race_for_a_folder_are_told_apart_before_anything_is_added(folder, here):
    """The last to write says whose it is; the other one finds out before it writes a result."""
    (folder / "sweep.json").unlink()
    Parts(folder, {"spec": "other"})
    with pytest.raises(InputError, match=r"belongs to another sweep: spec: found .*, it was \"other\""):
        here.add(make_header(), [named("a")])
    assert inside(folder) == ["sweep.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged, or no file of a sweep: go on with what it belongs to, or remove the folder to start anew"),
        (b"[]", "damaged, or no file"),
        (b'{"format": "implicit-sweep", "version": "x"}', "damaged, or no file"),
        (b'{"format": "implicit-sweep", "version": 1}', "damaged, or no file"),
        (b'{"format": "other", "version": 1}', "found format 'other', expected 'implicit-sweep'"),
        (b'{"format": "implicit-sweep", "version": 2}', "version 2, this implicit-cli reads up to 1"),
        (b"\xff\xfe", "damaged, or no file"),
    ],
)
def test_an_identity_that_is_none(folder, here, content, message):
    (folder / "sweep.json").write_bytes(content)
    with pytest.raises(InputError, match=r"sweep.json: ") as caught:
        Parts(folder, IDENTITY)
    assert message in str(caught.value)


def test_results_without_an_identity_are_nobodys(folder, here):
    here.add(make_header(), [named("a")])
    (folder / "sweep.json").unlink()
    with pytest.raises(InputError, match=r"found 1 results without sweep.json, which says whose they are"):
        Parts(folder, IDENTITY)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "parts").write_text("notes")
    with pytest.raises(InputError, match="found a file, allowed: a folder"):
        Parts(tmp_path / "parts", IDENTITY)


def test_a_full_disk_is_one_line_and_leaves_nothing(folder, here, monkeypatch):
    before = inside(folder)

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(sys.modules["implicit_cli.store.atomic"].os, "write", full)
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        here.add(make_header(), [named("a")])
    assert inside(folder) == before


@pytest.mark.parametrize(
    ("call", "act", "message"),
    [
        ("read_bytes", lambda parts: parts.add(make_header(), [named("a")]), "sweep.json: cannot read the file"),
        ("unlink", lambda parts: parts.remove(), "sweep.json: cannot delete the file"),
    ],
)
def test_what_the_machine_refuses_is_one_line(here, monkeypatch, call, act, message):
    def refuse(*arguments, **options):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(parts.Path, call, refuse)
    with pytest.raises(EnvironmentProblem, match=f"{message}: Permission denied") as caught:
        act(here)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read_is_one_line(here, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(parts.os, "listdir", refuse)
    with pytest.raises(EnvironmentProblem, match="cannot read the folder: Permission denied"):
        here.done()


def test_nothing_is_no_part(here):
    with pytest.raises(ValueError, match="a result needs cases with different ids, found none"):
        here.add(make_header(), [])
    assert here.files() == ()


# Several files become one


def test_files_of_one_process_become_one(folder, here):
    other = Parts(folder, IDENTITY)
    foreign = other.add(make_header(), [named("z")])
    own = [here.add(make_header(), [named(name)]) for name in ("c", "a", "b")]
    before = here.done()
    (new,) = here.compact(own)
    assert inside(folder) == sorted([new.name, foreign.name, "sweep.json"])
    assert new.name.startswith("c-")
    assert here.done() == before == {"z": 0, "a": 0, "b": 0, "c": 0}
    with opened(new) as file:
        assert file["cases/id"].asstr()[()].tolist() == ["c", "a", "b"]
    # and again
    (last,) = here.compact([new, here.add(make_header(), [named("d")])])
    assert here.done() == {**before, "d": 0}
    assert here.files() == tuple(sorted((last, foreign)))


def test_a_kill_between_writing_and_deleting_leaves_every_case(here, monkeypatch):
    own = [here.add(make_header(), [named(name)]) for name in ("c", "a")]

    def killed(paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(here, "_delete", killed)
        with pytest.raises(KeyboardInterrupt):
            here.compact(own)
    assert len(here.files()) == 3
    assert here.done() == {"a": 0, "c": 0}
    report = here.merge(here.folder.parent / "out.h5")
    assert report == MergeReport(2, {"ok": 2}, 2, 0)


def test_a_damaged_file_is_left_out_of_the_one(here):
    own = [here.add(make_header(), [named(name)]) for name in ("a", "b", "c")]
    flipped(own[1])
    here.compact(own)
    assert here.done() == {"a": 0, "c": 0}
    assert [line for line in here.damaged if str(own[1]) in line] == here.damaged != []
    only = here.add(make_header(), [named("d")])
    flipped(only)
    assert here.compact([only]) == []
    assert str(only) in here.damaged[-1]


def test_files_that_another_process_has_taken_are_left_out(folder, here):
    """It has ended on the same sweep, and what was here is in its result."""
    own = [here.add(make_header(), [named(name)]) for name in ("a", "b")]
    Parts(folder, IDENTITY).remove()
    own.append(here.add(make_header(), [named("c")]))
    (left,) = here.compact(own)
    assert here.done() == {"c": 0}
    left.unlink()
    assert here.compact([left]) == []
    assert here.damaged == []


def test_others_may_make_one_file_of_theirs_while_this_looks(folder, here, monkeypatch):
    other = Parts(folder, IDENTITY)
    own = [other.add(make_header(), [named(name)]) for name in ("a", "b", "c")]
    read = here._read

    def later(path):
        if own:
            other.compact([own.pop() for _ in range(3)])
        return read(path)

    monkeypatch.setattr(here, "_read", later)
    assert here.done() == {"a": 0, "b": 0, "c": 0}
    assert here.damaged == []


def test_others_may_make_one_file_of_theirs_while_this_merges(folder, here, tmp_path, monkeypatch):
    other = Parts(folder, IDENTITY)
    own = [other.add(make_header(), [named(name)]) for name in ("a", "b", "c")]
    merge = parts.merge

    def later(files, path, **options):
        if path.parent != folder and own:
            other.compact([own.pop() for _ in range(3)])
        return merge(files, path, **options)

    monkeypatch.setattr(parts, "merge", later)
    earlier = tmp_path / "earlier.h5"
    write_result(earlier, make_header(), [named("d")])
    assert here.merge(tmp_path / "out.h5", ["d", "c", "b", "a"], also=[earlier]).cases == 4
    # what is wrong otherwise is not tried again
    flipped(here.files()[0])
    with pytest.raises(InputError, match="damaged"):
        here.merge(tmp_path / "out.h5")


def test_many_at_once(folder):
    """Threads here stand for processes: each has its own object and its own files, and all of them merge theirs."""
    failures = []

    def work(which):
        try:
            mine, files = Parts(folder, IDENTITY), []
            for number in range(4):
                header, case = small(f"{which}-{number}")
                files.append(mine.add(header, [case]))
                assert {f"{which}-{earlier}" for earlier in range(number + 1)} <= set(mine.done())
                if len(files) == 2:
                    files = mine.compact(files)
            assert mine.damaged == []
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Parts(folder, IDENTITY).done() == {f"{which}-{number}": 0 for which in range(3) for number in range(4)}


# kill -9

ROUNDS = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from implicit_cli.store import Parts
from tests.store.test_parts import small

folder, rng, told, leftovers = Path(sys.argv[1]), random.Random(0), 0, 0

def write(number, pipe):
    mine = Parts(folder, {"spec": 1})
    files = list(mine.files())  # nobody else writes any more
    while True:
        header, case = small(f"case {number}")
        files.append(mine.add(header, [case]))
        os.write(pipe, b"\\n")
        if len(files) > 3:
            files = mine.compact(files)
        number += 1

def writing_now():
    return any(name.startswith(".implicit") for name in os.listdir(folder))

turn = -1
while (turn := turn + 1) < 30 or (not leftovers and turn < 300):  # until one was killed while it wrote
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            write(told, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        stream.readline()
        if turn % 2:
            time.sleep(rng.uniform(0, 0.1))
        else:
            end = time.monotonic() + 0.5
            while not writing_now() and time.monotonic() < end:
                pass
        os.kill(child, signal.SIGKILL)
        told += 1 + stream.read().count(b"\\n")
    os.waitpid(child, 0)
    parts = Parts(folder, {"spec": 1})
    done = parts.done()
    # the last one may be finished and not told yet
    missing = {f"case {number}" for number in range(told)} - set(done)
    assert not missing, missing
    assert not parts.damaged, parts.damaged
    told = len(done)
    for name in os.listdir(folder):
        if name.startswith(".implicit"):
            leftovers += 1
            (folder / name).unlink()
parts.merge(folder.parent / "out.h5", [f"case {number}" for number in range(told)])
parts.remove()
print(told, leftovers, folder.exists())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as Unix does")
def test_kill_9_at_any_time_loses_no_finished_part(tmp_path):
    """Each round forks a writer from a process that has done the imports, which take longer than all that is to be interrupted."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", ROUNDS, str(tmp_path / "parts"), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    told, leftovers, there = done.stdout.split()
    assert int(told) >= 30
    assert int(leftovers) > 0  # some were killed while they wrote
    assert there == "False"
    assert len(read_summary(tmp_path / "out.h5").cases) == int(told)


def small(name):
    """A case with as little in it as there can be."""
    header = Header("p", "", (), (Variable("x", ()),), (), (), (), {}, "", "{}", {})
    case = dataclasses.replace(make_case(), id=name, theta={}, solution={"x": np.array(1.0)}, outputs={}, products=(), linear=())
    return header, dataclasses.replace(case, bounds={})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no folder with the parts of a sweep"),
        ("{", r"sweep\.json: damaged, or no file of a sweep"),
        ('{"identity": 3}', r"sweep\.json: damaged, or no file of a sweep"),
        ("{}", r"sweep\.json: damaged, or no file of a sweep"),
    ],
)
def test_a_folder_that_is_none_of_a_sweep(tmp_path, content, message):
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(InputError, match=message):
        Parts.of(tmp_path)
