"""Every code of an error is explained, by itself and on the command line, and what is advised exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import geomm
import geomm.batch.coordinator
import geomm.batch.task
from geomm import cli, errors
from geomm.errors import GeommError, UnknownNameError, nearest
from geomm.explanations import EXPLANATIONS

PACKAGE = Path(geomm.__file__).parent
RUNNER = CliRunner()


def _leaves(kind=GeommError):
    return [
        kind,
        *(leaf for sub in kind.__subclasses__() if sub.__module__.startswith("geomm") for leaf in _leaves(sub)),
    ]


@pytest.mark.parametrize("leaf", _leaves(), ids=lambda leaf: leaf.code)
def test_an_explanation_says_what_the_class_is(leaf):
    told = EXPLANATIONS[leaf.code]
    assert told.name == leaf.__name__
    assert told.retry == leaf.transient
    builtin = {b.__name__ for b in leaf.__mro__ if b.__module__ == "builtins"}
    assert set(told.also) <= builtin
    assert bool(told.also) == (leaf is not GeommError)
    assert geomm.explain(leaf("x")) is told


def test_nothing_else_is_explained():
    assert set(EXPLANATIONS) == {leaf.code for leaf in _leaves()} | {"WORKER_LOST"}
    assert list(EXPLANATIONS) == sorted(EXPLANATIONS)
    for told in EXPLANATIONS.values():
        assert told.meaning
        assert 1 <= len(told.causes) <= 4
        assert 1 <= len(told.remedies) <= 4
        assert max(len(line) for line in str(told).splitlines()) <= 120


@pytest.mark.parametrize(
    "text", ["E301", "e301", "GEOMM-E301", "geomm-e301", " E301 ", "GridError", "griderror", "It broke. [GEOMM-E301]"]
)
def test_a_code_is_found_however_it_is_written(text):
    assert geomm.explain(text).code == "E301"


def test_an_unknown_code_names_the_nearest():
    with pytest.raises(UnknownNameError, match="GridError"):
        geomm.explain("GriddError")
    with pytest.raises(UnknownNameError, match="did you mean 'E30"):
        geomm.explain("E310")
    with pytest.raises(UnknownNameError, match="`geomm explain` lists all codes"):
        geomm.explain("")


def _commands(group, path=()):
    for name, command in group.commands.items():
        yield from _commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]


def test_commands_that_are_advised_exist():
    known = dict(_commands(typer.main.get_command(cli.app)))
    advised = [c for e in EXPLANATIONS.values() for text in e.remedies for c in re.findall("`(geomm [^`]*)`", text)]
    assert len(advised) > 30
    for text in advised:
        words = text.split()[1:]
        name = next(n for n in (tuple(words[:2]), tuple(words[:1])) if n in known)
        options = {o for p in known[name].params for o in p.opts} | {"--help"}
        assert {w.partition("=")[0] for w in words if w.startswith("-")} <= options, text


def test_the_command_line_explains():
    shown = RUNNER.invoke(cli.app, ["explain", "geomm-e701"])
    assert shown.exit_code == 0
    assert shown.output.startswith("GEOMM-E701  ConfigError\n")
    listed = RUNNER.invoke(cli.app, ["explain"]).output.splitlines()
    assert [line.split()[0] for line in listed] == list(EXPLANATIONS)


def test_an_unknown_code_on_the_command_line_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["geomm", "explain", "E999"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert re.fullmatch(r"geomm: .*\[GEOMM-E101\]\n", capsys.readouterr().err)
    assert "geomm explain CODE" in " ".join(RUNNER.invoke(cli.app, ["--help"]).output.split())


def test_explaining_is_light():
    code = "import geomm, sys; geomm.explain('E301'); print(*[m for m in ('numpy', 'pydantic', 'yaml') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("optcal", ["optical"]),
        ("Optical", ["optical"]),
        ("sentinel2", ["sentinel2-l1c", "sentinel2-l2a"]),
        ("Sentinel-2 L2A", ["sentinel2-l2a"]),
        ("sar", []),
        ("", []),
    ],
)
def test_near_names(name, near):
    assert sorted(nearest(name, ["optical", "thermal", "sentinel2-l2a", "sentinel2-l1c", "sentinel1-grd"])) == near


# --- what every error says


def _raised():
    """Yield every call of an error's class in the package, with its file."""
    names = {leaf.__name__ for leaf in _leaves()}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in names:
                    yield path.relative_to(PACKAGE), node


def test_every_error_says_what_to_do_next():
    calls = list(_raised())
    assert len(calls) > 400
    silent = [f"{p}:{c.lineno}" for p, c in calls if "fix" not in {k.arg for k in c.keywords}]
    assert silent == []


def test_no_advice_is_empty_or_says_nothing():
    lazy = re.compile(r"(correct|change|fix|check|name) (it|them|another|one|that)\.?")
    texts = [(p, k.value) for p, c in _raised() for k in c.keywords if k.arg == "fix"]
    empty = [
        f"{p}:{v.lineno}"
        for p, v in texts
        if isinstance(v, ast.Constant) and (not str(v.value).strip() or lazy.fullmatch(v.value))
    ]
    assert empty == []


def test_a_question_ends_as_one():
    error = errors.UnknownNameError.of("sensor", "sentinel2-l2", ["sentinel2-l2a"])
    assert str(error).endswith("Next: did you mean 'sentinel2-l2a'? [GEOMM-E101]")
    many = errors.UnknownNameError.of("model", "x", [f"m{k}" for k in range(1000)])
    assert "and 960 more" in str(many)
