"""Examples of schedules: they compile, they are well formed, and they stop a run the way it wants to be stopped."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[1] / "pipelines" / "schedulers"
PYTHON = sorted(FOLDER.glob("*.py"))
CODES = {0, 2, 3, 4, 75}
"""Exit codes that are told apart by number; 1 and signals are what is left."""


def fences(language):
    """Return the code of a language in the page of documentation."""
    return re.findall(rf"^```{language}\n(.*?)^```", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def _words(source):
    """Return the lists of a program whose first word is geomm; parts that are not literal stand as a word."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.List) and node.elts and getattr(node.elts[0], "value", None) == "geomm":
            yield [e.value if isinstance(e, ast.Constant) else "SOMETHING" for e in node.elts]


def _containers(value):
    """Return the commands of a manifest."""
    if isinstance(value, dict):
        for key in ("command", "args"):
            if value.get(key, [""])[0] == "geomm":
                yield value[key]
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _containers(part)


def geomm_commands():
    """Return every geomm command line of the examples and their documentation: where, and the words after ``geomm``."""
    found = []
    for path in PYTHON:
        found += [(path.name, words) for words in _words(path.read_text())]
    for code in fences("python"):
        found += [("README.md", words) for words in _words(code)]
    for code in fences("yaml"):
        found += [("README.md", words) for words in _containers(yaml.safe_load(code))]
    shell = [("README.md", line) for code in fences("bash") for line in code.splitlines()]
    shell += [("crontab", line) for line in (FOLDER / "crontab").read_text().splitlines() if not line.startswith("#")]
    shell += [("geomm@.service", line) for line in (FOLDER / "geomm@.service").read_text().splitlines()]
    for name, line in shell:
        for match in re.finditer(r"(?:^|[\s=/])(geomm (?:run|verify)\b[^|&;>]*)", line):
            if not line.startswith(("#", "Description")):
                found.append((name, shlex.split(match[1])))
    return [(name, words[1:]) for name, words in found]


def test_commands_are_found_everywhere():
    commands = geomm_commands()
    assert {name for name, _ in commands} == {
        "README.md", "airflow_dag.py", "crontab", "dagster_job.py", "geomm@.service", "prefect_flow.py"
    }  # fmt: skip
    runs = [words for _, words in commands if words[0] == "run"]
    assert len(runs) == 8
    assert all("--out" in words and not words[1].startswith("-") for words in runs)


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: p.name)
def test_python_examples_compile_and_tell_the_exit_codes_apart(path):
    tree = ast.parse(path.read_text(), str(path))
    compile(tree, str(path), "exec", dont_inherit=True)
    compared = {
        c.value
        for node in ast.walk(tree) if isinstance(node, ast.Compare)
        for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, int)
    }  # fmt: skip
    assert compared <= CODES
    assert {3, 75} <= compared
    calls = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    assert "subprocess.Popen" in calls
    assert not {"subprocess.run", "os.system", "eval", "exec"} & calls
    assert "shell=True" not in path.read_text()
    assert len(path.read_text().splitlines()) <= 65


@pytest.mark.parametrize("path", PYTHON, ids=lambda p: p.name)
def test_python_examples_stop_a_run_with_time_to_finish(path, tmp_path):
    tree = ast.parse(path.read_text())
    call = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "call")
    run = tmp_path / "run.py"
    run.write_text(
        textwrap.dedent("""
        import pathlib, signal, sys, time
        def stop(*_):
            time.sleep(0.2)
            pathlib.Path(sys.argv[1]).write_text("finished")
            sys.exit(143)
        signal.signal(signal.SIGTERM, stop)
        time.sleep(0.5)  # until the example is at its wait, also on a busy machine
        print("ready", flush=True)
        time.sleep(60)
        """)
    )
    outer = tmp_path / "outer.py"
    outer.write_text(
        "import signal, subprocess, sys, time\n"
        "class Stopped(BaseException): pass\n"
        "def stop(*_): raise Stopped\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        f"{ast.unparse(call)}\n"
        "try:\n    call([sys.executable, *sys.argv[1:]])\nexcept Stopped:\n    sys.exit(7)\n"
    )
    command = [sys.executable, str(outer), str(run), str(tmp_path / "said")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 7
    assert (tmp_path / "said").read_text() == "finished"


def test_documentation_compiles():
    assert fences("python")
    for code in fences("python"):
        compile(code, "README.md", "exec", dont_inherit=True)
    kinds = [yaml.safe_load(code)["kind"] for code in fences("yaml")]
    assert kinds == ["DaskCluster", "CronJob"]
    for code in fences("bash"):
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


def test_documentation_names_every_file_and_every_exit_code():
    text = (FOLDER / "README.md").read_text()
    assert {p.name for p in FOLDER.iterdir() if p.is_file()} - {"README.md"} == set(re.findall(r"\[`([^`]+)`\]\(\1\) ", text)) | {
        "geomm@.service"
    }  # fmt: skip
    for code in (*CODES, 1, 130, 143):
        assert re.search(rf"^\|[^|]*\b{code}\b[^|]*\|", text, re.MULTILINE)


def test_crontab_is_one():
    star, number = r"\*(?:/\d+)?", r"\d+(?:-\d+)?(?:/\d+)?"
    field = rf"(?:{star}|{number}(?:,{number})*)"
    lines = [line for line in (FOLDER / "crontab").read_text().splitlines() if line and not line.startswith("#")]
    jobs = [line for line in lines if not re.fullmatch(r"[A-Z]+=\S+", line)]
    assert {line.split("=")[0] for line in lines if line not in jobs} == {"SHELL", "PATH", "MAILTO"}
    assert len(jobs) == 2
    for line in jobs:
        match = re.fullmatch(rf"{field} {field} {field} {field} {field} (\S.*)", line)
        assert match, line
        assert "%" not in line  # cron makes new lines of them
        subprocess.run(["sh", "-n", "-c", match[1]], check=True)


@pytest.mark.parametrize(("code", "mailed"), [(0, False), (75, False), (1, True), (3, True), (143, True)])
def test_crontab_mails_what_people_should_know(code, mailed, tmp_path):
    line = next(x for x in (FOLDER / "crontab").read_text().splitlines() if "geomm run" in x and x[0].isdigit())
    (tmp_path / "geomm").write_text(f"#!/bin/sh\necho at work\nexit {code}\n")
    (tmp_path / "geomm").chmod(0o755)
    command = line.split(" ", 5)[5].replace("/srv/geomm", shlex.quote(str(tmp_path)))
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout == f"geomm run exited with {code}\nat work\n") == mailed
    assert bool(done.stdout) == mailed
    assert not done.stderr


def settings(name):
    parser = configparser.RawConfigParser(strict=False)  # Environment= may be there more than once
    parser.optionxform = str
    parser.read_string((FOLDER / name).read_text())
    return parser


def test_service_leaves_time_and_may_do_little():
    service = settings("geomm@.service")["Service"]
    assert service["Type"] == "oneshot"
    assert set(service["SuccessExitStatus"].split()) == {"75", "143"}
    assert (service["KillSignal"], service["KillMode"], service["TimeoutStopSec"]) == ("SIGTERM", "mixed", "15min")
    assert (service["ProtectSystem"], service["NoNewPrivileges"]) == ("strict", "yes")
    assert {"MemoryMax", "ReadWritePaths", "StateDirectory"} <= set(service)
    assert not {"MemoryDenyWriteExecute", "PrivateDevices", "Restart"} & set(service)
    assert settings("geomm@.timer")["Timer"]["Persistent"] == "true"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault(tmp_path):
    for name in ("geomm@.service", "geomm@.timer"):
        text = (FOLDER / name).read_text().replace("/opt/geomm/bin/geomm", "/bin/true")
        (tmp_path / name.replace("@", "@daily")).write_text(text)
    units = [str(p) for p in tmp_path.iterdir()]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    # Of other units of the machine it may think what it likes.
    assert [line for line in done.stderr.splitlines() if "geomm@" in line] == []


def test_dask_knows_the_settings():
    distributed = pytest.importorskip("distributed")
    known = yaml.safe_load((Path(distributed.__file__).parent / "distributed.yaml").read_text())

    def unknown(mine, theirs, path=()):
        for key, value in mine.items():
            if key not in theirs:
                yield ".".join((*path, key))
            elif isinstance(value, dict):
                yield from unknown(value, theirs[key], (*path, key))

    mine = yaml.safe_load((FOLDER / "dask.yaml").read_text())
    assert list(unknown(mine, known)) == []
    memory = mine["distributed"]["worker"]["memory"]
    assert list(memory) == ["target", "spill", "pause", "terminate"]
    assert list(memory.values()) == sorted(memory.values())
    for name, value in memory.items():
        assert f"DASK_DISTRIBUTED__WORKER__MEMORY__{name.upper()}={value:.2f}" in (FOLDER / "README.md").read_text()


def test_commands_have_options_that_there_are():
    from typer.main import get_command

    from geomm.cli import app

    commands = get_command(app).commands
    for name, words in geomm_commands():
        command = commands[words[0]]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {w.partition("=")[0] for w in words[1:] if w.startswith("-")}
        assert given <= known, (name, words, given - known)
