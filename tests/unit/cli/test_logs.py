"""`fyre logs` finds the files of each part, as supervisor and Ray name them, and goes on with what comes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fyretoolkit.cli.main import app
from fyretoolkit.launch.paths import Home
from fyretoolkit.launch.processes import boot_id, read_process
from fyretoolkit.launch.state import RunState, write_state
from tests.support.fyre_command import program, program_environment

REFUSED, MISUSED, INTERRUPTED = 1, 2, 130
JOB, OTHER_JOB = "job_01M8D37QCKDS2155P92D3B8B3E", "job_01M8D37QCKDS2155P92D3B8B3F"
OWN, WOKEN = "dep_01M8D33KCFJR1Z58FFWQBJBSG0", "dep_01M8D33KCFJR1Z58FFWQBJBSG1"
STANDBY = "sby_01M8D33XWMMXC0XS89JBN1AVZE"


class Copy:
    """The folders of one copy whose supervisor is this process."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.home.prepare()
        self.session = folder / "runtime" / "ray" / "session_latest" / "logs"
        (self.session / "serve").mkdir(parents=True)
        own = read_process(os.getpid())
        assert own is not None
        runtime = str(folder / "runtime")
        write_state(
            self.home,
            RunState(
                "run", own.pid, own.start_ticks, boot_id(), 8123, "development", runtime, status="ready"
            ),
        )

    def worker(self, actor: str, pid: int, *lines: str) -> Path:
        """What a worker of Ray's wrote: its header, then its lines."""
        path = self.session / f"worker-{pid:056x}-01000000-{pid}.err"
        header = [":job_id:01000000", f":actor_name:{actor}"]
        path.write_text("".join(f"{line}\n" for line in (*header, *lines)), "utf-8")
        return path

    def logs(self, *arguments: str) -> list[str]:
        """The lines that `fyre logs …` prints."""
        result = CliRunner().invoke(app, ["logs", *arguments, "--home", str(self.home.root)])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_what_the_supervisor_starts_logs_into_the_home(copy: Copy) -> None:
    """So many lines of the end."""
    copy.home.log("redis").write_text("".join(f"line {number}\n" for number in range(300)), "utf-8")
    assert copy.logs("redis", "-n", "2") == ["line 298", "line 299"]
    assert len(copy.logs("redis")) == 100


def test_lines_of_several_processes_are_in_the_order_of_time(copy: Copy) -> None:
    """Each with its process; a traceback stays below its line; Ray's header is left out."""
    copy.worker(
        "StandbyRunner", 11, "2026-11-26 23:30:01,000 ERROR a", "Traceback", "2026-11-26 23:30:05,000 INFO d"
    )
    copy.worker("RunnerActor", 12, "2026-11-26 23:30:02,500 INFO b")
    assert copy.logs("runners") == [
        "StandbyRunner 11 | 2026-11-26 23:30:01,000 ERROR a",
        "StandbyRunner 11 | Traceback",
        "RunnerActor 12 | 2026-11-26 23:30:02,500 INFO b",
        "StandbyRunner 11 | 2026-11-26 23:30:05,000 INFO d",
    ]


def test_the_ingress_logs_in_two_places(copy: Copy) -> None:
    """Serve's file of the replica, and what its process wrote."""
    copy.worker("ServeReplica:ingress:Ingress", 13, "2026-11-26 23:30:02,000 ERROR by the process")
    access = copy.session / "serve" / "replica_ingress_Ingress_2im42p8s.log"
    access.write_text("INFO 2026-11-26 23:30:01,000 ingress GET /models 200\n", "utf-8")
    (copy.session / "serve" / "controller_14.log").write_text("INFO 2026-11-26 23:30:00,000 up\n", "utf-8")
    assert [line.split(" | ")[0] for line in copy.logs("ingress")] == [access.stem, "ServeReplica 13"]
    assert copy.logs("serve") == ["INFO 2026-11-26 23:30:00,000 up"]


def test_a_deployment_has_the_logs_of_its_replicas(copy: Copy) -> None:
    """Those under its own name, and those of a replica that stood by and took it."""
    copy.worker(f"ServeReplica:{OWN}:ModelServer", 15, f"2026-11-26 23:30:01,000 INFO {OWN} runs on CPU")
    copy.worker(
        f"ServeReplica:{STANDBY}:ModelServer", 16, f"2026-11-26 23:30:01,000 INFO {WOKEN} runs on CPU"
    )
    for application in (OWN, STANDBY):
        path = copy.session / "serve" / f"replica_{application}_ModelServer_abc.log"
        path.write_text(f"INFO 2026-11-26 23:30:02,000 {application} POST\n", "utf-8")
    for deployment, application in ((OWN, OWN), (WOKEN, STANDBY)):
        first, second = copy.logs(deployment)
        assert f"{deployment} runs on" in first
        assert f"{application} POST" in second


def test_a_job_has_the_lines_that_name_it(copy: Copy) -> None:
    """With what goes on from them, and nothing of another job."""
    copy.worker(
        "ControllerActor",
        17,
        f"2026-11-26 23:30:01,000 INFO job {JOB}: run 1 starts",
        f"2026-11-26 23:30:02,000 INFO job {OTHER_JOB}: run 1 starts",
        f"2026-11-26 23:30:03,000 ERROR job {JOB} failed",
        "Traceback (most recent call last):",
        "2026-11-26 23:30:04,000 INFO something else",
    )
    assert copy.logs(JOB) == [
        f"2026-11-26 23:30:01,000 INFO job {JOB}: run 1 starts",
        f"2026-11-26 23:30:03,000 ERROR job {JOB} failed",
        "Traceback (most recent call last):",
    ]


def test_a_log_cannot_move_the_cursor(copy: Copy) -> None:
    """A file name of a caller's may be in it."""
    copy.home.log("supervisor").write_text("a\x1b[2Jb\n", "utf-8")
    assert copy.logs("supervisor") == ["a [2Jb"]


def test_without_a_part_it_says_which_there_are(copy: Copy) -> None:
    copy.home.log("supervisor").write_text("x\n", "utf-8")
    copy.worker("ControllerActor", 18)
    counts = {line.split("\t")[0]: line.split("\t")[1] for line in copy.logs()[1:]}
    assert (counts["supervisor"], counts["controller"], counts["redis"]) == ("1", "1", "0")


def test_what_is_not_there_is_said(tmp_path: Path, copy: Copy) -> None:
    """A part that does not exist, one that wrote nothing, and a platform that does not run."""
    home = ["--home", str(copy.home.root)]
    result = CliRunner().invoke(app, ["logs", "redsi", *home])
    assert (result.exit_code, result.stdout) == (MISUSED, "")
    assert "redis" in result.stderr
    assert CliRunner().invoke(app, ["logs", "webhooks", *home]).exit_code == REFUSED
    copy.worker("WebhookActor", 19)
    silent = CliRunner().invoke(app, ["logs", "webhooks", *home])
    assert (silent.exit_code, silent.stdout, silent.stderr) == (0, "", "webhooks has written nothing.\n")
    nothing = CliRunner().invoke(app, ["logs", "webhooks", "--home", str(tmp_path / "other")])
    assert nothing.exit_code == REFUSED
    assert "Nothing runs" in nothing.stderr


def test_following_goes_on_with_what_comes(copy: Copy) -> None:
    """Whole lines of a file that grows, of one that is there later, and of one that was replaced; Ctrl-C ends it."""
    log = copy.home.log("supervisor")
    log.write_text("first\nhal", "utf-8")
    command = program("logs", "supervisor", "-f", "--home", str(copy.home.root))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=program_environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        with log.open("a", encoding="utf-8") as file:
            file.write("f\nwhole\n")
        assert [process.stdout.readline() for _ in range(2)] == [b"half\n", b"whole\n"]
        log.write_text("anew\n", "utf-8")
        assert process.stdout.readline() == b"anew\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == INTERRUPTED
        assert process.stderr is not None
        assert process.stderr.read() == b""
