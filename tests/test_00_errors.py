"""Errors say what, where, why and what next, and survive a process border."""

from __future__ import annotations

import pickle

import pytest

from geomm import errors
from geomm.errors import GeommError

LEAVES = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, GeommError) and v is not GeommError]


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_are_builtin_types_with_a_code_of_their_own(leaf):
    builtin = [b for b in leaf.__mro__ if b.__module__ == "builtins" and b not in (Exception, BaseException, object)]
    assert builtin
    assert [other for other in LEAVES if other.code == leaf.code] == [leaf]


@pytest.mark.parametrize("leaf", LEAVES)
def test_message_and_pickle(leaf):
    error = leaf("it broke", where="item x", why="a is not b", fix="do c")
    text = f"it broke. Where: item x. Why: a is not b. Next: do c. [GEOMM-{leaf.code}]"
    assert str(error) == text
    assert str(pickle.loads(pickle.dumps(error))) == text
