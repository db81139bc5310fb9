"""`implicit run`: what reaches the use case, what is refused before any work, and what is said at the end."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from implicit_cli import api
from implicit_cli.status import Status


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple]:
    """The calls of `api.run`, which reports two stages, one residual, and three cases."""
    monkeypatch.chdir(tmp_path)
    found: list[tuple] = []

    def run(spec, output, *, observer, stopped, **options):
        assert not stopped()
        found.append((spec, output, options))
        observer.stage("compiling")
        observer.stage("solving")
        observer.progress(3, 1.25e-7, 1e-10)
        lines = tuple(api.CaseLine(str(n), s, s.text if s else "") for n, s in enumerate(STATUSES))
        return api.RunReport(output, Counter(STATUSES), lines, 3.21)

    monkeypatch.setattr(api, "run", run)
    return found


STATUSES = [Status.OK, Status.PARTIAL, Status.SINGULAR]


def test_everything_reaches_the_use_case(implicit, calls, tmp_path):
    done = implicit(
        "run", "dir/spec.yaml", "-o", "out.h5", "--set", "seed=1", "--set", "data.y=[1, 2]", "--device", "gpu:1",
        "--allow-plugin", "--plugin", "a.py", "--plugin", "b.py", "--allow-path", "data", "--shard", "2/3",
        "--jobs", "3", "--cluster", "slurm",
    )  # fmt: skip
    options = {"overrides": ("seed=1", "data.y=[1, 2]"), "device": "gpu:1", "allow_plugin": True}
    assert calls == [
        (
            "dir/spec.yaml",
            Path("out.h5"),
            {
                **options,
                "plugins": (Path("a.py"), Path("b.py")),
                "allow_paths": (Path("data"),),
                "shard": "2/3",
                "jobs": 3,
                "cluster": "slurm",
            },
        )
    ]
    assert (done.code, done.out) == (1, "")


def test_defaults(implicit, calls):
    implicit("run", "-", "-o", "out.h5")
    options = {"overrides": (), "device": None, "allow_plugin": False, "plugins": (), "allow_paths": ()}
    assert calls == [("-", Path("out.h5"), {**options, "shard": None, "jobs": None, "cluster": None})]


def test_what_a_pipe_is_told(implicit, calls):
    done = implicit("run", "spec.yaml", "-o", "results/packing.h5")
    assert done.err.splitlines() == [
        "implicit: compiling",
        "implicit: solving",
        "implicit: wrote results/packing.h5: 3 cases, 1 ok, 1 partial, 1 singular, 3.2 s",
        f"implicit: case 1: partial: {Status.PARTIAL.text}",
        f"implicit: case 2: singular: {Status.SINGULAR.text}",
    ]


def test_verbose_prints_the_residual(implicit, calls):
    assert (
        "implicit: step 3: residual 1.250e-07, tolerance 1.0e-10" in implicit("run", "s.yaml", "-o", "o.h5", "-v").err.splitlines()
    )


def test_quiet_still_tells_of_what_is_not_ok(implicit, calls):
    done = implicit("run", "s.yaml", "-o", "o.h5", "-q")
    assert done.err.splitlines() == [
        f"implicit: case 1: partial: {Status.PARTIAL.text}",
        f"implicit: case 2: singular: {Status.SINGULAR.text}",
    ]


def test_one_good_case(implicit, calls, monkeypatch):
    monkeypatch.setitem(globals(), "STATUSES", [Status.OK])
    done = implicit("run", "s.yaml", "-o", "o.h5")
    assert (done.code, done.err.splitlines()[-1]) == (0, "implicit: wrote o.h5: 1 case, ok, 3.2 s")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("folder", "folder: found a folder, allowed: a file name for the result"),
        (".", ".: found a folder, allowed: a file name for the result"),
        ("-", "-: found standard output, allowed: a file name for the result, which is no text"),
        ("spec.yaml", "spec.yaml: found an input of this run, allowed: another name for the result"),
        ("folder/../spec.yaml", "folder/../spec.yaml: found an input of this run, allowed: another name for the result"),
        ("spec.yaml/a/out.h5", "spec.yaml/a/out.h5: found a file at '{here}/spec.yaml', allowed: a folder"),
        ("/dev/null", "/dev/null: found a device or a pipe, allowed: a file name for the result"),
    ],
)
def test_outputs_that_are_refused_before_any_work(implicit, monkeypatch, tmp_path, output, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "spec.yaml").touch()  # itself wrong, and not even read
    done = implicit("run", "spec.yaml", "-o", output)
    assert (done.code, done.err) == (2, f"implicit: error: {message.format(here=tmp_path)}\n")
    assert sorted(os.listdir()) == ["folder", "spec.yaml"]


def test_a_link_to_the_spec_is_the_spec(implicit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.yaml").touch()
    (tmp_path / "link.h5").symlink_to("spec.yaml")
    done = implicit("run", "spec.yaml", "-o", "link.h5")
    assert (done.code, done.err) == (
        2,
        "implicit: error: link.h5: found an input of this run, allowed: another name for the result\n",
    )


def test_a_folder_without_permission(implicit, monkeypatch, tmp_path):
    def refuse(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    # Tests may run as root, whom no permission bits hold.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    done = implicit("run", "spec.yaml", "-o", str(tmp_path / "new" / "out.h5"))
    assert done.code == 3
    assert "new/out.h5: cannot write the result: Permission denied; choose a folder that you may write to" in done.err
    assert not list(tmp_path.iterdir())


def test_quiet_and_verbose_exclude_each_other(implicit, calls):
    done = implicit("run", "spec.yaml", "-o", "out.h5", "-q", "-v")
    assert (done.code, done.err) == (2, "implicit: error: --quiet: found with --verbose, allowed: one of the two\n")
