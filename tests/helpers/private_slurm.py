"""A real SLURM of one's own for tests: in one folder, without systemd or root, started in about a second.

`private_slurm(folder)` runs munged, slurmctld and two slurmd on this machine, and ends them and every job at the end.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")

NODES = ("cpu1", "gpu1")
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun")
PACKAGES = "slurmctld slurmd slurm-client munge"
PATIENCE = 60.0  # s; a machine that others use too stalls now and then
MARK = "PRIVATE_SLURM_OF_MMS_REGIONS"  # in the environment of the daemons, so also of the slurmstepd of each job
LINGER = 20.0  # s that a process may take to end after its job
SOCKET_PATH_LIMIT = 107  # bytes that the kernel takes for the path of a socket
ENDED = set("COMPLETED CANCELLED FAILED TIMEOUT DEADLINE PREEMPTED OUT_OF_MEMORY NODE_FAIL BOOT_FAIL".split())

# config_overrides: a node may declare more than the machine has, so tests with many workers run on two cores.
# pgid: the linuxproc tracker loses workers. DefMemPerCPU: without it one job takes all memory of its node.
# PropagateResourceLimits: an ordinary user may not raise its limits, and a container's root may not either.
# MinJobAge: ended jobs stay in sight (0 would mean 2 s). MessageTimeout: the machine may be slow.
SLURM_CONF = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdSpoolDir={folder}/spool-%n
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
DefMemPerCPU=500
KillWait=2
MinJobAge=86400
MessageTimeout=60
ReturnToService=2
GresTypes=gpu
NodeName=cpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={cpu_port} CPUs=16 RealMemory=64000 State=UNKNOWN
NodeName=gpu1 NodeHostname={host} NodeAddr=127.0.0.1 Port={gpu_port} CPUs=16 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes=gpu1 MaxTime=1440 State=UP
PartitionName=all Nodes=cpu1,gpu1 MaxTime=1440 State=UP
PartitionName=short Nodes=cpu1 MaxTime=1 State=UP
PartitionName=closed Nodes=cpu1 MaxTime=1440 State=DOWN
"""
MUNGE_FILES = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
# A count alone, without a device file, makes the node INVAL.
GRES_CONF = "NodeName=gpu1 Name=gpu File=/dev/null\n"


class SlurmMissing(Exception):
    """There is no SLURM to start here; the message says what is missing."""


class SlurmRefused(Exception):
    """A SLURM command failed; the message is its own words."""


class SlurmTrouble(Exception):
    """A daemon died, an answer did not come, or a job's process outlived its job; the message ends in the logs."""


@dataclass(frozen=True)
class Job:
    """One job as squeue shows it: `state` in full (PENDING), `reason` as slurmctld gives it, `node` when it has one."""

    id: int
    partition: str
    state: str
    reason: str
    node: str
    name: str

    @property
    def ended(self) -> bool:
        """Whether the job is over, however it went."""
        return self.state in ENDED


@dataclass(frozen=True)
class Slurm:
    """A SLURM that runs, with two nodes, cpu1 and gpu1 (one GPU that is /dev/null), of 16 CPUs each.

    Partitions: cpu and gpu (a node each), all (both), short (one minute on cpu1; slurmctld looks twice a minute, so a
    job may live 30 s longer) and closed (its jobs stay pending: PartitionDown).
    """

    folder: Path
    environment: Mapping[str, str] = field(repr=False)  # SLURM_CONF, and a PATH with SLURM's commands and this Python

    def command(self, *words: object, env: Mapping[str, str] | None = None) -> str:
        """What a SLURM command prints; raises SlurmRefused with its words where it fails."""
        done = subprocess.run(
            [*map(str, words)],
            env={**_plain_environment(), **(env or {}), **self.environment},
            cwd=self.folder / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise SlurmRefused(done.stderr.strip() or f"{words[0]} ended with exit code {done.returncode}.")
        return done.stdout

    def sbatch(
        self,
        script: str | Path,
        *words: object,
        arguments: Iterable[object] = (),
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Submit the lines of a bash script, or a script file, with options of sbatch and arguments of the script.

        Returns the job's number. The job has the environment of this process, changed by `env`, and starts in the
        folder `work`; what it writes, `output` reads.
        """
        file = script.absolute() if isinstance(script, Path) else self._written(script)
        answer = self.command("sbatch", "--parsable", *words, file, *arguments, env=env)
        return int(answer.split(";")[0])

    def squeue(self) -> list[Job]:
        """The jobs that wait, run or are being ended."""
        return self._squeue()

    def jobs(self) -> list[Job]:
        """Every job since the start, with those that have ended."""
        return self._squeue("--states=all")

    def scancel(self, *words: object) -> None:
        """Cancel jobs: `scancel(12, 13)`, `scancel("--partition=gpu")`."""
        self.command("scancel", *words)

    def job(self, number: int) -> Job:
        """The job with this number, ended or not."""
        return {job.id: job for job in self.jobs()}[number]

    def finish(self, number: int, seconds: float = PATIENCE) -> Job:
        """Wait until this job is over."""
        self.wait_until(lambda: self.job(number).ended, seconds, what=f"job {number} to end")
        return self.job(number)

    def output(self, number: int) -> str:
        """What a batch job has written to its standard output so far."""
        shown = self.command("scontrol", "show", "job", number)
        path = re.search(r"^ *StdOut=(.+)$", shown, re.MULTILINE)
        if not path:
            raise SlurmTrouble(f"Job {number} has no output file: {shown}")
        return Path(path[1]).read_text() if Path(path[1]).exists() else ""

    def wait_until(
        self, predicate: Callable[[], Answer], seconds: float = PATIENCE, what: str = "a predicate of the test"
    ) -> Answer:
        """The first answer of the predicate that is true; raises SlurmTrouble with queue and logs when time is up."""
        answer = wait_for(predicate, seconds)
        if not answer:
            raise SlurmTrouble(f"Waited {seconds:g} s in vain for {what}.\n{self.log()}")
        return answer

    def processes(self) -> dict[int, str]:
        """Command lines, by process id, of all that lives of this SLURM's jobs: their processes and slurmstepd."""
        configured = f"SLURM_CONF={self.environment['SLURM_CONF']}"
        marked = f"{MARK}={self.folder}"
        return {
            pid: command
            for pid, (command, variables) in _running()
            if (configured in variables and any(one.startswith("SLURM_JOB_ID=") for one in variables))
            or (marked in variables and "slurmstepd" in command)
        }

    def log(self, lines: int = 30) -> str:
        """The jobs and the last lines of each daemon's log, to show where a test fails."""
        try:
            jobs = "\n".join(map(str, self.jobs()))
        except (SlurmRefused, subprocess.TimeoutExpired) as problem:
            jobs = str(problem)
        said = sorted(self.folder.glob("*.stderr"))
        logs = [path.with_suffix(".log") if path.with_suffix(".log").exists() else path for path in said]
        tails = [f"== {path.name}\n" + "\n".join(_lines(path)[-lines:]) for path in logs]
        return "\n".join(["== jobs", jobs, *tails])

    def _written(self, lines: str) -> Path:
        with tempfile.NamedTemporaryFile("w", suffix=".sh", dir=self.folder / "work", delete=False) as file:
            file.write(f"#!/bin/bash\n{lines}\n")
        return Path(file.name)

    def _squeue(self, *words: str) -> list[Job]:
        shown = self.command("squeue", "--noheader", "--format=%A|%P|%T|%r|%N|%j", *words)
        rows = [row.split("|", 5) for row in shown.splitlines()]
        return [Job(int(number), *others) for number, *others in rows]


def why_not() -> str | None:
    """Why no private SLURM can be started here, in capitals; None where it can."""
    missing = [name for name in (*DAEMONS, *COMMANDS) if not shutil.which(name, path=_path())]
    if missing:
        return f"SLURM IS NOT INSTALLED (MISSING: {' '.join(missing)}). TO RUN THESE TESTS, INSTALL {PACKAGES}."
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return (
            f"SLURM CANNOT RUN AS USER {os.getuid()}, WHO HAS NO NAME: ADD A LINE TO /etc/passwd, OR BE ANOTHER USER."
        )
    return None


@contextmanager
def private_slurm(folder: Path) -> Iterator[Slurm]:
    """A SLURM in this folder while the block runs; afterwards no process of its daemons and jobs is left.

    Raises SlurmMissing without SLURM or munge, SlurmTrouble where it does not start, and at the end where a job's
    process outlived its job (after ending it).
    """
    if reason := why_not():
        raise SlurmMissing(reason)
    slurm = _prepare(folder.absolute())
    with ExitStack() as stack:
        ports = [stack.enter_context(_reserved_port()) for _ in range(3)]
        _configure(slurm, *ports)
        stack.callback(_end_processes, slurm)  # last of all: what neither scancel nor the daemons could end
        _start(slurm, stack)
        try:
            yield slurm
        finally:
            problems = _cancel_all(slurm)
    if problems:
        raise SlurmTrouble("\n".join(problems))


def _prepare(folder: Path) -> Slurm:
    """The folders and the key, which only this user may read."""
    if len(os.fsencode(folder / "munge.socket")) > SOCKET_PATH_LIMIT:
        raise SlurmTrouble(f"{folder} is too long a path for munge's socket: choose a shorter one.")
    for name in ("work", "state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o711)  # munged wants its socket's folder open to pass through
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    return Slurm(folder, {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()})


def _configure(slurm: Slurm, ctld_port: int, cpu_port: int, gpu_port: int) -> None:
    host = socket.gethostname().split(".")[0]
    user = pwd.getpwuid(os.getuid()).pw_name
    text = SLURM_CONF.format(
        host=host, user=user, folder=slurm.folder, ctld_port=ctld_port, cpu_port=cpu_port, gpu_port=gpu_port
    )
    (slurm.folder / "slurm.conf").write_text(text)
    (slurm.folder / "gres.conf").write_text(GRES_CONF)


def _start(slurm: Slurm, stack: ExitStack) -> None:
    """Start the daemons, each when the one before it answers; the stack ends them in reverse order."""
    conf = slurm.environment["SLURM_CONF"]
    munge = [f"--{name}={slurm.folder}/munge.{ending}" for name, ending in MUNGE_FILES.items()]
    daemons: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> None:
        daemons.append(stack.enter_context(_daemon(slurm, name, *words)))

    def wait(answers: Callable[[], bool], name: str) -> None:
        def state() -> str:
            return "dead" if any(one.poll() is not None for one in daemons) else "up" if answers() else ""

        if wait_for(state, PATIENCE) != "up":
            raise SlurmTrouble(f"{name} did not start.\n{slurm.log()}")

    start("munged", "munged", "--foreground", "--force", *munge)
    wait((slurm.folder / "munge.socket").exists, "munged")
    start("slurmctld", "slurmctld", "-D", "-f", conf)
    wait(lambda: "is UP" in _asked(slurm, "scontrol", "ping"), "slurmctld")
    for node in NODES:
        start(f"slurmd-{node}", "slurmd", "-D", "-N", node, "-f", conf)
    idle = ["idle"] * len(NODES)
    wait(lambda: _asked(slurm, "sinfo", "-h", "-N", "-p", "cpu,gpu", "-o", "%T").split() == idle, "slurmd")


@contextmanager
def _daemon(slurm: Slurm, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """One daemon in the foreground, in a session of its own, so that Ctrl-C does not end it before its jobs."""
    environment = {**_plain_environment(), **slurm.environment, MARK: str(slurm.folder)}
    with (slurm.folder / f"{name}.stderr").open("wb") as said:
        daemon = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
    try:
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(timeout=PATIENCE / 2)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextmanager
def _reserved_port() -> Iterator[int]:
    """A port that nobody else is given while the block runs, though a daemon can listen on it (SO_REUSEADDR)."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def _cancel_all(slurm: Slurm) -> list[str]:
    """Cancel every job and wait for the end of its processes; what did not end is said, not raised."""
    try:
        slurm.scancel(f"--user={os.getuid()}")
        slurm.wait_until(lambda: not slurm.squeue(), what="an empty queue")
    except (SlurmRefused, SlurmTrouble, subprocess.TimeoutExpired) as problem:
        return [f"The private SLURM did not end its jobs: {problem}"]
    if wait_for(lambda: not slurm.processes(), LINGER):
        return []
    left = "\n".join(f"  {pid}: {command}" for pid, command in slurm.processes().items())
    return [f"Processes outlived their jobs in the private SLURM:\n{left}\n{slurm.log()}"]


def _end_processes(slurm: Slurm) -> None:
    """Kill what is left, again and again: a process may fork before the signal comes, and dies a moment after it."""

    def none_left() -> bool:
        left = slurm.processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_for(none_left, PATIENCE)


def wait_for(predicate: Callable[[], Answer], seconds: float) -> Answer:
    """The predicate's first answer that is true, or its last when the time is up; asked ten times a second."""
    limit = time.monotonic() + seconds
    while not (answer := predicate()) and time.monotonic() < limit:
        time.sleep(0.1)
    return answer


def _asked(slurm: Slurm, *words: str) -> str:
    """What a command prints, or nothing while the daemon that should answer does not."""
    try:
        return slurm.command(*words)
    except SlurmRefused:
        return ""


def _running() -> Iterator[tuple[int, tuple[str, list[str]]]]:
    """Process id, command line and first environment of each process that this user may look at."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command, variables = ((entry / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:  # ended meanwhile, or another user's
            continue
        yield int(entry.name), (os.fsdecode(command).replace("\0", " ").strip(), os.fsdecode(variables).split("\0"))


def _plain_environment() -> dict[str, str]:
    """This process's environment without what SLURM's commands take as options, or have set in a job."""
    ours = ("SLURM", "SBATCH_", "SRUN_", "SQUEUE_", "SCANCEL_", "SINFO_", "SCONTROL_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def _path() -> str:
    """PATH with this Python first, and where daemons stand last: an ordinary user's has them seldom."""
    here = str(Path(sys.executable).parent)
    return os.pathsep.join([here, os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()
