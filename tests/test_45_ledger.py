"""The ledger: what a dictionary of units would hold, whatever is done, and however its process ends; and when to retry."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib
import itertools
import os
import pickle
import pkgutil
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import geomm
from geomm.errors import GeommError, OutputError, PackageError, ReadError, UnavailableError
from geomm.ledger import STATES, Failure, Ledger, Part, Retries, RunNote, Standing, Unit, book, failure_of
from geomm.ledger.retry import WORKER_LOST

STAGES = st.sampled_from(["maps", "tiles"])
IDS = st.sampled_from("abcdef")
TEXTS = st.sampled_from(["", "E304", "umlaut \u00e9", "it's; DROP TABLE units", 'a "quoted"\nline', "\U0001f6f0"])
MONTHS = st.sampled_from(["2024-01", "2024-02", "2023-12"])
JSON = st.dictionaries(
    TEXTS, st.one_of(TEXTS, st.integers(-9, 9), st.booleans(), st.lists(st.floats(-1, 1), max_size=2)), max_size=2
)


@st.composite
def units(draw):
    month = draw(MONTHS)
    return Unit(
        draw(STAGES),
        draw(IDS),
        draw(st.sampled_from(["scene", "other", "it's"])),
        f"maps/{month}/{draw(st.integers(0, 9))}",
        draw(st.sampled_from(["", f"{month}-05T10:00:00Z", f"{month}-31T00:00:00Z"])),
        draw(st.sampled_from([None, (-1.5, 0.0, 1.0, 2.25), (179.0, -1.0, -179.0, 1.0)])),
        draw(st.lists(st.builds(Part, TEXTS, TEXTS, TEXTS, TEXTS), max_size=2).map(tuple)),
        draw(JSON),
    )


FAILURES = st.builds(
    Failure,
    st.sampled_from(["E304", "E501", WORKER_LOST, "ValueError"]),
    st.one_of(TEXTS, st.just("long " * 2000)),
    st.booleans(),
    TEXTS,
    TEXTS,
    TEXTS,
)


def copy_of(path, folder):
    """Copy what is on disk of a ledger, as if its process had been killed now."""
    folder.mkdir()
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        if (path.parent / name).exists():
            shutil.copy(path.parent / name, folder / name)
    return folder / path.name


class LedgerMachine(RuleBasedStateMachine):
    """A ledger does what a dictionary of units, a set of months and a dictionary of runs do."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock, self.number = 1.7e9, 0
        self.known, self.planned, self.changed = {}, {}, {}
        self.months, self.notes = set(), {}
        self.patch = mock.patch.object(book, "time", SimpleNamespace(time=lambda: self.clock))
        self.patch.start()
        self.ledger = None

    @initialize()
    def make(self):
        self.ledger = Ledger(self.folder / "ledger.sqlite", write=True)

    def teardown(self):
        self.patch.stop()
        if self.ledger is not None:
            self.ledger.close()
        shutil.rmtree(self.folder)

    def tick(self):
        self.clock += 1.0

    def pick(self, data, *, stale=True):
        """Return the key of a unit, and the unit as a run has it: as it is now, or as it was when it was planned."""
        key = data.draw(st.sampled_from(sorted(self.known)))
        return key, (self.planned if stale and data.draw(st.booleans()) else self.known)[key]

    def alter(self, key, **values):
        self.known[key] = dataclasses.replace(self.known[key], **values)
        self.changed[key] = self.clock

    @rule(new=st.lists(units(), max_size=4))
    def add(self, new):
        self.tick()
        fresh = {}
        for unit in new:
            if (unit.stage, unit.id) not in self.known:
                fresh.setdefault((unit.stage, unit.id), unit)
        assert self.ledger.add(iter(new)) == len(fresh)
        self.known |= fresh
        self.planned |= fresh
        self.changed |= dict.fromkeys(fresh, self.clock)

    @precondition(lambda self: self.known and self.notes)
    @rule(data=st.data())
    def claim(self, data):
        self.tick()
        (key, unit), note = self.pick(data), self.notes[data.draw(st.sampled_from(sorted(self.notes)))]
        self.ledger.claim(unit, note)
        self.alter(key, state="CLAIMED", run=note.id)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), state=st.sampled_from(["DONE", "SKIPPED"]), reason=TEXTS, manifest=JSON)
    def finish(self, data, state, reason, manifest):
        self.tick()
        key, unit = self.pick(data)
        self.ledger.finish(unit, state, reason=reason, manifest=manifest, seconds={"all": 1.5})
        self.alter(
            key, state=state, code=reason, manifest=manifest, seconds={"all": 1.5}, deaths=0, message="", item="",
            asset="", window="",
        )  # fmt: skip
        if unit.time:
            self.months.add((unit.stage, unit.time[:7]))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), state=st.sampled_from(["PENDING", "FAILED", "QUARANTINED"]), failure=FAILURES)
    def fail(self, data, state, failure):
        self.tick()
        key, unit = self.pick(data)
        self.ledger.fail(unit, state, failure)
        about = {name: getattr(failure, name) for name in ("code", "item", "asset", "window")}
        before = self.known[key]
        self.alter(
            key, state=state, message=failure.message[:4000], attempts=before.attempts + 1,
            deaths=before.deaths + (failure.code == WORKER_LOST), **about,
        )  # fmt: skip

    @precondition(lambda self: self.known)
    @rule(data=st.data(), state=st.sampled_from(["PENDING", "ABORTED"]))
    def release(self, data, state):
        self.tick()
        key, unit = self.pick(data)
        self.ledger.release(unit, state)
        self.alter(key, state=state)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), stage=STAGES)
    def reset(self, data, stage):
        self.tick()
        mine = sorted(number for name, number in self.known if name == stage)
        ids = data.draw(st.lists(st.sampled_from(mine), unique=True)) if mine else []
        self.ledger.reset(stage, ids)
        for number in ids:
            unit = self.known[stage, number]
            if unit.manifest and unit.time:
                self.months.add((stage, unit.time[:7]))
            self.alter(
                (stage, number), state="PENDING", attempts=0, deaths=0, code="", message="", item="", asset="",
                window="", manifest={},
            )  # fmt: skip

    @rule()
    def orphans(self):
        self.tick()
        self.ledger.orphans()
        for key, unit in self.known.items():
            if unit.state == "CLAIMED":
                self.alter(key, state="PENDING", deaths=unit.deaths + 1)

    @rule(pid=st.integers(1, 9), command=TEXTS, back=st.integers(0, 2))
    def begin(self, pid, command, back):
        self.tick()
        self.number += 1
        note = RunNote(f"{self.number:04d}-{pid}", self.clock - 1.5 * back, None, pid, "host", command, None)
        self.ledger.begin(note)
        self.notes[note.id] = note

    @precondition(lambda self: self.notes)
    @rule(data=st.data(), code=st.integers(0, 143), counts=st.dictionaries(st.sampled_from(STATES), st.integers(0, 9)))
    def end(self, data, code, counts):
        self.tick()
        number = data.draw(st.sampled_from(sorted(self.notes)))
        self.ledger.end(number, code, counts)
        self.notes[number] = dataclasses.replace(self.notes[number], finished=self.clock, code=code, counts=counts)

    @rule(stage=STAGES, month=MONTHS)
    def listed(self, stage, month):
        self.ledger.listed(stage, month)
        self.months.discard((stage, month))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), stage=STAGES)
    def choose(self, data, stage):
        mine = sorted(number for name, number in self.known if name == stage)
        units = {u.name: u for u in (self.known[stage, n] for n in data.draw(st.permutations(mine)))}
        before = self.ledger.current(stage)
        self.ledger.choose(stage, list(units.values()))
        for name, unit in units.items():
            if before.get(name) not in (None, unit.id):
                for one in (self.known[stage, before[name]], unit):
                    if one.manifest and one.time:
                        self.months.add((stage, one.time[:7]))
        assert self.ledger.current(stage) == before | {n: u.id for n, u in units.items()}

    @rule(unit=units(), act=st.sampled_from(["claim", "finish", "fail", "release", "reset"]))
    def what_is_not_known_changes_nothing(self, unit, act):
        unit = dataclasses.replace(unit, id="unknown")
        acts = {
            "claim": lambda: self.ledger.claim(unit, RunNote("x", 0.0, None, 1, "host", "", None)),
            "finish": lambda: self.ledger.finish(unit, "DONE", manifest={}, seconds={}),
            "fail": lambda: self.ledger.fail(unit, "FAILED", Failure("E304", "no answer")),
            "release": lambda: self.ledger.release(unit, "PENDING"),
            "reset": lambda: self.ledger.reset(unit.stage, ["unknown"]),
        }
        with pytest.raises(PackageError, match=r"does not know the unit.*unknown"):
            acts[act]()

    @rule()
    def open_again(self):
        path = self.ledger.path
        self.ledger.close()
        self.ledger = Ledger(path, write=True)

    @rule(on=st.booleans())
    def kill(self, on):
        """Go on with what is on disk while the ledger is open: all that was told of is there."""
        self.number += 1
        copy = Ledger(copy_of(self.ledger.path, self.folder / f"copy-{self.number}"), write=True)
        self.check(copy)
        if on:
            self.ledger, copy = copy, self.ledger
        copy.close()

    @rule(on=st.booleans())
    def kill_in_the_middle(self, on):
        """The same within a change: nothing of it is there."""
        self.number += 1
        with contextlib.suppress(KeyboardInterrupt), self.ledger._change() as base:
            base.execute("UPDATE units SET state = 'QUARANTINED', attempts = 99")
            base.execute("DELETE FROM behind")
            path = copy_of(self.ledger.path, self.folder / f"copy-{self.number}")
            raise KeyboardInterrupt
        copy = Ledger(path, write=True)
        self.check(copy)
        if on:
            self.ledger, copy = copy, self.ledger
        copy.close()

    @rule()
    def look_on_meanwhile(self):
        with Ledger(self.ledger.path) as reader:
            self.check(reader)
            with pytest.raises(OutputError, match="cannot be written"):
                reader.orphans()
            self.check(reader)

    @invariant()
    def the_same_is_there(self):
        if self.ledger is not None:
            self.check(self.ledger)

    def check(self, ledger):
        inorder = sorted(self.known.values(), key=lambda u: (u.stage, u.time, u.name, u.id))
        assert ledger.units() == inorder
        for stage in ("maps", "tiles", "none"):
            mine = [u for u in inorder if u.stage == stage]
            assert ledger.units(stage) == mine
            newest = sorted(mine, key=lambda u: (-self.changed[stage, u.id], u.name, u.id))
            assert ledger.units(stage, newest=True) == newest
            some = ("DONE", "FAILED")
            assert ledger.units(stage, some, newest=True) == [u for u in newest if u.state in some]
            found = ledger.standing(stage)
            assert set(found) == {u.id for u in mine}
            for u in mine:
                manifest = Unit.from_row(u.to_row() | {"manifest": found[u.id].manifest}).manifest
                assert manifest == u.manifest
                tried = u.attempts + u.deaths > 0
                assert found[u.id] == Standing(u.state, tried, u.place, found[u.id].manifest)
            counts = {state: sum(u.state == state for u in mine) for state in STATES}
            assert ledger.counts(stage) == {state: n for state, n in counts.items() if n}
            for number in ("a", "b", "unknown"):
                assert ledger.find(stage, number) == self.known.get((stage, number))
        states = [u.state for u in inorder]
        assert ledger.counts() == {state: states.count(state) for state in set(states)}
        assert ledger.behind() == sorted(self.months)
        assert ledger.runs() == sorted(self.notes.values(), key=lambda r: (r.started, r.id), reverse=True)


TestLedger = LedgerMachine.TestCase
SOAK = settings.default.max_examples > 50
TestLedger.settings = settings(max_examples=200 if SOAK else 20, stateful_step_count=50 if SOAK else 25)


# one by one -----------------------------------------------------------------------------------------------------------


def unit(number="a", **about):
    return Unit("maps", number, f"scene-{number}", f"maps/2024-06/{number}", "2024-06-01T00:00:00Z", **about)


def test_retries_within_a_run_are_all_counted(tmp_path):
    """A run keeps a unit as it was planned, however often it fails."""
    with Ledger(tmp_path / "ledger.sqlite", write=True) as ledger:
        ledger.add([unit()])
        for state in ("PENDING", "PENDING", "FAILED"):
            ledger.fail(unit(), state, Failure("E304", "no answer", transient=True))
        assert ledger.find("maps", "a").attempts == 3


def test_a_failure_of_its_process_is_a_death_too(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", write=True) as ledger:
        ledger.add([unit()])
        for code in (WORKER_LOST, "E304", WORKER_LOST):
            ledger.fail(unit(), "PENDING", Failure(code, "no answer", transient=True))
        assert (ledger.find("maps", "a").attempts, ledger.find("maps", "a").deaths) == (3, 2)


def test_a_ledger_that_is_not_there(tmp_path):
    for path in (tmp_path / "no" / "ledger.sqlite", tmp_path):
        with pytest.raises(OutputError, match=r"there is no ledger.*geomm run"):
            Ledger(path)
        with pytest.raises(OutputError, match="the ledger cannot be opened"):
            Ledger(path, write=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [False, True])
def test_no_ledger_at_all(tmp_path, write):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"not a database, but rather long " * 1000)
    with pytest.raises(PackageError, match=r"the ledger cannot be read.*the next run finds what is published"):
        Ledger(path, write=write)
    assert path.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("write", [False, True])
def test_a_ledger_of_another_version(tmp_path, write):
    path = tmp_path / "ledger.sqlite"
    Ledger(path, write=True).close()
    with contextlib.closing(sqlite3.connect(path)) as base:
        base.execute(f"PRAGMA user_version={book.VERSION + 1}")
    with pytest.raises(PackageError, match=r"another version.*2, not 1"):
        Ledger(path, write=write)


def test_an_empty_file_is_no_ledger_until_it_is_written(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.touch()
    with pytest.raises(PackageError, match=r"another version.*0, not 1"):
        Ledger(path)
    with Ledger(path, write=True) as ledger:
        assert ledger.units() == []


def large(path):
    with Ledger(path, write=True) as ledger:
        ledger.add(unit(f"{k:04d}", note={"text": "x" * 500}) for k in range(200))
        ledger.begin(RunNote("one", 1.0, None, 1, "host", "geomm run", None))


READS = {
    "units": lambda ledger: ledger.units(),
    "standing": lambda ledger: ledger.standing("maps"),
    "find": lambda ledger: [ledger.find("maps", f"{k:04d}") for k in range(200)],
    "counts": lambda ledger: ledger.counts(),
    "runs": lambda ledger: ledger.runs(),
    "behind": lambda ledger: ledger.behind(),
}
WRITES = {
    "add": lambda ledger: ledger.add(unit(f"new-{k}") for k in range(500)),
    "finish": lambda ledger: ledger.finish(unit("0100"), "DONE", manifest={}, seconds={}),
    "orphans": lambda ledger: ledger.orphans(),
    "begin": lambda ledger: ledger.begin(RunNote("two", 2.0, None, 1, "host", "geomm run", None)),
    "listed": lambda ledger: ledger.listed("maps", "2024-06"),
}


@pytest.mark.parametrize("act", [*READS, *WRITES])
def test_damage_behind_the_first_page_is_told_of(tmp_path, act):
    path = tmp_path / "ledger.sqlite"
    large(path)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes([0xA5]) * (len(content) - 4096))
    with Ledger(path, write=True) as ledger, pytest.raises(PackageError, match="the ledger cannot be read"):
        (READS | WRITES)[act](ledger)


@given(seed=st.integers(0, 2**32), cut=st.booleans())
@settings(max_examples=max(10, settings.default.max_examples // 4))
def test_whatever_is_damaged_nothing_but_our_own_errors_is_raised(tmp_path_factory, seed, cut):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path, dice = folder / "ledger.sqlite", random.Random(seed)
    large(path)
    content = bytearray(path.read_bytes())
    if cut:
        del content[dice.randrange(len(content)) :]
    else:
        for _ in range(20):
            start = dice.randrange(len(content))
            content[start : start + 64] = dice.randbytes(min(64, len(content) - start))
    path.write_bytes(content)
    with contextlib.suppress(PackageError, OutputError), Ledger(path, write=True) as ledger:
        for act in [*READS.values(), *WRITES.values()]:
            with contextlib.suppress(PackageError, OutputError):
                act(ledger)


def test_a_reader_sees_one_state_and_no_half_of_a_change(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, write=True) as ledger, Ledger(path) as reader:
        ledger.add([unit("a"), unit("b")])
        assert [u.id for u in reader.units()] == ["a", "b"]
        with contextlib.suppress(KeyboardInterrupt), ledger._change() as base:
            base.execute("DELETE FROM units WHERE id = 'a'")
            assert [u.id for u in reader.units()] == ["a", "b"]
            raise KeyboardInterrupt
        assert [u.id for u in ledger.units()] == ["a", "b"]
        ledger.release(unit("a"), "ABORTED")
        assert reader.counts() == {"ABORTED": 1, "PENDING": 1}


# when to try again ----------------------------------------------------------------------------------------------------


@given(
    st.builds(Retries, st.integers(1, 12), st.floats(0.0, 1e3), st.floats(0.0, 1e4), st.integers(0, 12)),
    st.lists(
        st.tuples(
            st.integers(1, 15),
            st.builds(
                Failure, st.just("E304"), st.just("no answer"), st.booleans(),
                after=st.one_of(st.none(), st.floats(0.0, 1e5)),
            ),
        ),
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_delays(retries, met, dice):
    retries.dice, granted = random.Random(dice.randrange(2**32)), 0
    for tried, failure in met:
        delay = retries.delay(tried, failure)
        may = failure.transient and tried < retries.attempts and granted < retries.budget
        assert (delay is not None) is may
        if delay is not None:
            granted += 1
            assert 0.0 <= delay <= retries.cap
            assert delay >= min(failure.after or 0.0, retries.cap)
            assert delay <= max(
                min(retries.cap, retries.base * 2 ** (tried - 1)), min(failure.after or 0.0, retries.cap)
            )
        assert retries.used == granted <= retries.budget


class Most(random.Random):
    """Dice that always show the most."""

    def uniform(self, low, high):
        assert low == 0.0
        return high


@given(st.floats(1e-3, 10.0), st.floats(1.0, 1e3))
def test_the_bound_doubles_until_it_is_the_greatest(base, cap):
    retries = Retries(attempts=30, base=base, cap=cap, dice=Most())
    bounds = [retries.delay(tried, Failure("E304", "", transient=True)) for tried in range(1, 30)]
    assert bounds[0] == min(base, cap)
    for one, other in itertools.pairwise(bounds):
        assert other == min(2 * one, cap)
    assert bounds[-1] == cap


def test_jitter_spreads_over_the_whole_bound():
    retries = Retries(attempts=9, base=8.0, budget=2000, dice=random.Random(0))
    delays = [retries.delay(1, Failure("E304", "", transient=True)) for _ in range(1000)]
    assert min(delays) < 0.1
    assert max(delays) > 7.9
    assert sum(delays) / 1000 == pytest.approx(4.0, rel=0.05)
    assert len(set(delays)) == 1000


def every(cls):
    yield cls
    for below in cls.__subclasses__():
        yield from every(below)


def codes():
    for module in pkgutil.walk_packages(geomm.__path__, "geomm."):
        if module.name.startswith(("geomm.batch", "geomm.archive", "geomm.catalog", "geomm.cube")):
            importlib.import_module(module.name)
    return sorted(set(every(GeommError)), key=lambda cls: (cls.code, cls.__name__))


@pytest.mark.parametrize("kind", codes(), ids=lambda cls: f"{cls.code}-{cls.__name__}")
@pytest.mark.parametrize("away", [False, True])
def test_errors_of_geomm_say_themselves_what_they_are(kind, away):
    error = kind("it did not work", where="here", about={"item": "i", "asset": "a", "window": "w"})
    if away:
        error = pickle.loads(pickle.dumps(error))
    failure = failure_of(error)
    assert failure == Failure(
        kind.code,
        str(error),
        kind.code in ("E203", "E304", "E503", "E603"),
        "i",
        "a",
        "w",
        after=None,
        output=kind.code == "E601",
    )
    assert failure_of(kind("so")).item == failure_of(kind("so")).asset == failure_of(kind("so")).window == ""
    assert Retries(base=1.0).delay(1, failure) is None or kind.transient


def test_what_a_server_asks_for_is_kept():
    error = UnavailableError("the server is busy", about={"retry_after": "30"})
    assert failure_of(error).after == 30.0
    assert Retries(base=1.0).delay(1, failure_of(error)) == 30.0
    assert Retries(base=1.0, cap=10.0).delay(1, failure_of(error)) == 10.0


PASSING = {"ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ETIMEDOUT", "EPIPE", "EHOSTUNREACH", "ENETUNREACH", "ESTALE"}
FULL = {"ENOSPC", "EROFS", "EDQUOT", "EACCES", "EPERM"}


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_of_the_system_only_the_network_passes(number):
    error = OSError(number, os.strerror(number), "file.tif")
    failure, name = failure_of(error), errno.errorcode[number]
    assert failure.code == type(error).__name__
    assert os.strerror(number) in failure.message
    assert failure.transient is (name in PASSING | {"ESHUTDOWN"})  # the latter is a ConnectionError of Python's
    assert failure.output is (name in FULL)
    assert (failure.item, failure.asset, failure.window, failure.after) == ("", "", "", None)


def throw(error):
    raise error


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (MemoryError(), False),
        (TimeoutError("slow"), True),
        (ConnectionResetError("gone"), True),
        (ConnectionError("gone"), True),
        (OSError("no number"), False),
        (ZeroDivisionError("x"), False),
        (AssertionError(), False),
        (KeyboardInterrupt(), False),
        (type("Odd", (Exception,), {"__str__": lambda self: ""})(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_nobody_expected_is_kept_with_its_place(error, transient):
    bare = failure_of(error)
    assert (bare.code, bare.transient, bare.output) == (type(error).__name__, transient, False)
    assert bare.message == f"{type(error).__name__}: {error}"
    with pytest.raises(type(error)):
        throw(error)
    told = failure_of(error)
    assert told.message.startswith(f"{bare.message} (test_45_ledger.py:")
    assert dataclasses.replace(told, message=bare.message) == bare


def test_an_error_of_geomm_that_is_one_of_the_system_is_ours():
    error = ReadError("it cannot be read")
    error.errno = errno.ENOSPC
    assert (failure_of(error).code, failure_of(error).output) == ("E302", False)
