"""A Slurm of two virtual nodes on this machine, in a folder of its own: for the tests of arrays, requeues and preemption."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue")
NODES = ("n1", "n2")
HELD = 5
"""Seconds for which Slurm holds a job that was requeued, until its credential has run out; below 5 it takes its default of 120."""

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire={held}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
MailProg=/bin/true
SchedulerParameters=sched_interval=1,sched_min_interval=1000,bf_interval=2
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=2000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""

Found = TypeVar("Found")


def missing() -> str:
    """Why there can be no cluster here; empty where there can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"needs Slurm: {', '.join(absent)} not found (Debian: slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "needs root, which the daemons of Slurm run as"


def awaited(look: Callable[[], Found], what: str, seconds: float = 60.0, every: float = 0.2) -> Found:
    """What `look` returns, as soon as that is true; AssertionError where it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain until {what}"
        time.sleep(every)
    return found


class Cluster:
    """The daemons, and what can be asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "slurm.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns when both nodes are idle."""
        self.folder.chmod(0o755)  # of munged's socket, all above must be safe
        host, ports = socket.gethostname().partition(".")[0], list(_free_ports(1 + len(NODES)))
        self.config.write_text(CONFIG.format(host=host, ports=ports, folder=self.folder, held=HELD))
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        places = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *places)
        awaited((self.folder / "munge.socket").exists, "munged listens", 20)
        self._daemon("slurmctld", "-D", "-f", str(self.config))
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
            self._daemon("slurmd", "-D", "-f", str(self.config), "-N", node)
        awaited(self._idle, "both nodes are idle", 60)

    def stop(self) -> None:
        """Cancels what runs, and ends the daemons, the first last."""
        with contextlib.suppress(AssertionError, subprocess.CalledProcessError):
            self.call("scancel", "--user=root")
            awaited(lambda: not self.call("squeue", "--noheader"), "no job runs", 40)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def call(self, *words: object) -> str:
        """Run a command of Slurm's; what it prints."""
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def tasks(self, job: str) -> dict[int, dict[str, str]]:
        """What `scontrol` tells of each task of an array, by its number: JobState, Restarts and so on."""
        found = {}
        for line in self.call("scontrol", "--oneliner", "show", "job", job).splitlines():
            fields = dict(word.partition("=")[::2] for word in line.split() if "=" in word)
            number = fields.get("ArrayTaskId", "0")
            found.update(dict.fromkeys(_numbers(number), fields))
        return found

    def states(self, job: str) -> dict[int, str]:
        """The state of each task."""
        return {number: fields["JobState"] for number, fields in self.tasks(job).items()}

    def ended(self, job: str, seconds: float = 120.0) -> dict[int, str]:
        """The states of all tasks, when none waits or runs any more."""

        def look() -> dict[int, str]:
            states = self.states(job)
            return {} if {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"} & set(states.values()) else states

        return awaited(look, f"job {job} has ended", seconds, 0.5)

    def _daemon(self, *words: str) -> None:
        log = (self.folder / f"{words[0]}.out").open("ab")
        environment = {**os.environ, "SLURM_CONF": str(self.config)}
        self._daemons.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment))
        log.close()

    def _idle(self) -> bool:
        broken = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
        assert not broken, f"{broken} ended: {self.logs()}"
        done = subprocess.run(["sinfo", "--noheader", "--Node", "--format=%N %T"], capture_output=True, text=True, check=False)
        return set(done.stdout.splitlines()) == {f"{node} idle" for node in NODES}

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(self.folder.glob("*.log")))


def _numbers(text: str) -> Iterator[int]:
    """`1-3,7%2` one by one."""
    for part in text.partition("%")[0].split(","):
        begin, _, end = part.partition("-")
        yield from range(int(begin), int(end or begin) + 1)


def _free_ports(count: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        yield from [each.getsockname()[1] for each in sockets]
