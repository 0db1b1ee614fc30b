"""Metrics of ranked lists against loops over sorted lists; captions that are shared; intervals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomm import metrics
from geomm.errors import ConfigError
from geomm.metrics.duplicates import fold


def naive(scores, gains, k):
    """Every figure of one query, from the sorted list: ties by gain, those without any first."""
    order = sorted(range(len(scores)), key=lambda j: (-scores[j], gains[j]))
    listed = [gains[j] for j in order]
    hits = [n for n, g in enumerate(listed, 1) if g > 0]
    best = sorted(gains, reverse=True)
    return {
        "first": hits[0],
        "recall": float(any(g > 0 for g in listed[:k])),
        "precision": sum(g > 0 for g in listed[:k]) / k,
        "ap": sum(m / n for m, n in enumerate(hits, 1)) / len(hits),
        "ap@k": sum(m / n for m, n in enumerate(hits, 1) if n <= k) / min(k, len(hits)),
        "ndcg": sum(g / math.log2(n + 1) for n, g in enumerate(listed, 1))
        / sum(g / math.log2(n + 1) for n, g in enumerate(best, 1)),
        "ndcg@k": sum(g / math.log2(n + 1) for n, g in enumerate(listed[:k], 1))
        / sum(g / math.log2(n + 1) for n, g in enumerate(best[:k], 1)),
    }


def fast(ranks, k):
    return {
        "first": ranks.first,
        "recall": ranks.recall(k),
        "precision": ranks.precision(k),
        "ap": ranks.average_precision(),
        "ap@k": ranks.average_precision(k),
        "ndcg": ranks.ndcg(),
        "ndcg@k": ranks.ndcg(k),
    }


@st.composite
def cases(draw):
    """Few levels of scores and gains, so that ties and duplicates abound; some queries without an answer."""
    queries, rows = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    level = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.25, 1.0, np.inf])
    line = lambda of: st.lists(of, min_size=rows, max_size=rows)
    scores = draw(st.lists(line(level), min_size=queries, max_size=queries))
    gains = draw(st.lists(line(st.sampled_from([0, 0, 0, 1, 1, 3])), min_size=queries, max_size=queries))
    dtype = draw(st.sampled_from([np.float64, np.float32, np.float16]))
    return np.array(scores, dtype), np.array(gains, float), draw(st.integers(1, 14))


@given(cases())
def test_figures_equal_those_of_the_sorted_list(case):
    scores, gains, k = case
    answered = np.flatnonzero((gains > 0).any(1))
    if not len(answered):
        with pytest.raises(ConfigError, match="no query is left"):
            metrics.rank_rows(scores, gains, unanswered="leave out")
        return
    graded = metrics.rank_rows(scores, gains, unanswered="leave out")
    assert graded.queries.tolist() == answered.tolist()
    assert len(graded) + graded.left_out == len(scores)
    binary = metrics.rank_rows(scores, gains > 0, unanswered="leave out")
    sets = metrics.rank_rows(scores, [set(np.flatnonzero(g)) for g in gains], unanswered="leave out")
    for found, table in ((graded, gains), (binary, gains > 0), (sets, gains > 0)):
        want = [naive(scores[q].tolist(), table[q].astype(float).tolist(), k) for q in answered]
        for name, values in fast(found, k).items():
            np.testing.assert_allclose(values, [w[name] for w in want], rtol=1e-12, err_msg=name)


def test_many_rows_and_many_answers():
    generator = np.random.default_rng(0)
    scores = np.round(generator.normal(size=(20, 700)), 1)
    gains = generator.integers(0, 4, (20, 700)) * (generator.random((20, 700)) < 0.4)
    found, want = (
        metrics.rank_rows(scores, gains),
        [naive(s.tolist(), g.tolist(), 10) for s, g in zip(scores, gains, strict=True)],
    )
    for name, values in fast(found, 10).items():
        np.testing.assert_allclose(values, [w[name] for w in want], rtol=1e-12, err_msg=name)


def test_a_constant_model_is_the_worst():
    ranks = metrics.rank_rows(np.zeros((4, 9), np.uint8), [{0}, {1, 2}, {8}, {0, 4, 5}])
    assert ranks.first.tolist() == [9, 8, 9, 7]
    assert ranks.recall(6).sum() == 0
    assert metrics.recall_at_k(np.zeros((1, 9)), [{3}], 9) == 1


def test_whole_numbers_and_truth_values_are_scores():
    wanted = [{0}, {1}]
    small = np.array([[0, 200, 3], [1, 255, 0]], np.uint8)
    assert metrics.rank_rows(small, wanted).first.tolist() == [3, 1]
    assert metrics.rank_rows(small > 100, wanted).first.tolist() == [3, 1]
    assert metrics.rank_rows(small.astype(int) - 300, wanted).first.tolist() == [3, 1]


def test_what_has_no_rank_is_refused():
    scores = np.zeros((2, 3))
    with pytest.raises(ConfigError, match=r"NaN.*query 1"):
        metrics.rank_rows(np.array([[0, 1, 2], [0, np.nan, 1]]), [{0}, {0}])
    with pytest.raises(ConfigError, match=r"NaN.*query 1"):
        metrics.rank_rows(np.array([[0, 1, 2], [0, np.nan, 1]]), [{0}, set()], unanswered="leave out")
    with pytest.raises(ConfigError, match=r"no row answers a query. Where: query 1"):
        metrics.rank_rows(scores, [{0}, set()])
    with pytest.raises(ConfigError, match="not there.*rows 0 to 3 of 3"):
        metrics.rank_rows(scores, [{0}, {0, 3}])
    with pytest.raises(ConfigError, match="not there"):
        metrics.rank_rows(scores, [{0}, {-1}])
    with pytest.raises(ConfigError, match="gains are finite"):
        metrics.rank_rows(scores, np.array([[1, 0, 0], [0, -1.0, 2]]))
    with pytest.raises(ConfigError, match="shape of the scores"):
        metrics.rank_rows(scores, np.ones((2, 2), bool))
    with pytest.raises(ConfigError, match="one line per query"):
        metrics.rank_rows(scores, [{0}])
    with pytest.raises(ConfigError, match="no query is left"):
        metrics.rank_rows(np.zeros((0, 3)), [])
    for wrong in ("recall", "precision", "average_precision", "ndcg"):
        with pytest.raises(ConfigError, match="depth.*k is 0"):
            getattr(metrics.rank_rows(scores, [{0}, {1}]), wrong)(0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A lake, beside a town.", "a LAKE  beside a town", True),
        ("gros\u00adse Stra\u00dfe", "gros se strasse", True),
        ("\ufb01eld\u00a0of rice", "field of rice", True),
        ("\u30ab\u30e9\u30b9", "\uff76\uff97\uff7d", True),
        ("wider than > 5 m", "wider than < 5 m", False),
        ("3.5 m", "35 m", False),
        ("\u0915\u093f\u0932\u093e", "\u0915\u0932", False),  # Hindi vowels are marks, not punctuation
    ],
)
def test_folding_keeps_what_a_text_says(one, other, same):
    assert (fold(one) == fold(other)) == same


def test_same_text_equals_comparing_all_pairs():
    generator = np.random.default_rng(3)
    words = ("Lake", "town ", "a  lake", "lake!", "", "...", "TOWN", "sea")
    queries = [words[k] for k in generator.integers(0, len(words), 40)]
    rows = [[words[k] for k in generator.integers(0, len(words), n)] for n in generator.integers(0, 4, 30)]
    found = metrics.same_text(queries, rows)
    for query, answer in zip(queries, found, strict=True):
        said = [{"".join(c for c in t.lower() if c.isalpha() or c == " ").strip() for t in row} for row in rows]
        said = [{" ".join(t.split()) for t in s} - {""} for s in said]
        mine = " ".join("".join(c for c in query.lower() if c.isalpha() or c == " ").split())
        assert answer == {n for n, s in enumerate(said) if mine in s}
    assert metrics.same_text(["a lake"], ["A lake.", "sea", "a lake"]) == [{0, 2}]
    assert metrics.same_key(["a", "b", "c"], ["b", "a", "b"]) == [{1}, {0, 2}, frozenset()]


def test_ceiling_is_what_a_perfect_model_reaches():
    """A model that knows which images a caption fits, and orders those by chance."""
    generator = np.random.default_rng(1)
    owner = np.repeat(np.arange(60), 5)
    captions = [f"caption {k}" for k in generator.integers(0, 110, len(owner))]
    images = [[c for c, o in zip(captions, owner, strict=True) if o == k] for k in range(60)]
    alike = metrics.same_text(captions, images)
    top = metrics.ceiling(alike)
    assert top[1] < top[5] < top[10] == 1
    fits = np.array([[captions[q] in images[n] for n in range(60)] for q in range(len(captions))])
    assert [len(a) for a in alike] == fits.sum(1).tolist()
    seen, own = {1: [], 5: []}, metrics.same_key(owner.tolist(), range(60))
    for _ in range(60):
        ranks = metrics.rank_rows(fits + generator.random(fits.shape) / 2, own)
        for k, found in seen.items():
            found.append(ranks.recall(k).mean())
    for k, found in seen.items():
        assert np.mean(found) == pytest.approx(top[k], abs=4 * np.std(found) / np.sqrt(60))
    assert metrics.recall_at_k(fits, alike, 1) == 1  # any image that fits counts


def test_ceilings_of_known_shares():
    """One caption that 17 images share; three pairs among 2,260 captions."""
    one = metrics.ceiling([set(range(17))] * 17)
    assert one == pytest.approx({1: 1 / 17, 5: 5 / 17, 10: 10 / 17})
    pairs = metrics.ceiling([{0}] * 2254 + [{1, 2}] * 6)
    assert {k: round(100 * v, 2) for k, v in pairs.items()} == {1: 99.87, 5: 100.0, 10: 100.0}
    with pytest.raises(ConfigError, match=r"a row for every query.*query 1"):
        metrics.ceiling([{0}, set()])
    with pytest.raises(ConfigError, match="0 queries"):
        metrics.ceiling([])
    with pytest.raises(ConfigError, match="depths of at least 1"):
        metrics.ceiling([{0}], (0,))


def test_one_record_of_all_figures():
    generator = np.random.default_rng(5)
    texts = [f"kind {k}" for k in generator.integers(0, 25, 50)]
    scores, own = generator.normal(size=(50, 50)) + 2 * np.eye(50), metrics.same_key(range(50), range(50))
    alike = metrics.same_text(texts, texts)
    found = metrics.Ranked.of(scores, own, alike=alike)
    ranks = metrics.rank_rows(scores, own)
    assert found.recall == {k: ranks.recall(k).mean() for k in (1, 5, 10)}
    assert found.alike_recall == {k: metrics.recall_at_k(scores, alike, k) for k in (1, 5, 10)}
    assert found.ceiling == metrics.ceiling(alike)
    assert all(found.alike_recall[k] >= found.recall[k] for k in (1, 5, 10))
    assert found.median_rank == np.median([1 + (row > row[k]).sum() for k, row in enumerate(scores)])
    line = str(found)
    assert "50 queries, 50 rows" in line
    assert f"R@1 {found.recall[1]:.3f}" in line
    assert "at most" in line
    assert "\n" not in line
    assert json.loads(json.dumps(found.facts()))["ceiling"]["5"] == found.ceiling[5]
    back = metrics.Ranked.of(scores.T, own, depths=(1, 5, 10, 50))
    assert back.recall[50] == 1
    assert back.alike_recall is back.ceiling is None
    assert "at most" not in str(back)
    assert metrics.mean_recall(found, back) == pytest.approx(
        np.mean([found.recall[k] for k in (1, 5, 10)] + [back.recall[k] for k in (1, 5, 10)])
    )
    with pytest.raises(ConfigError, match="R@1, R@5 and R@10"):
        metrics.mean_recall(found, metrics.Ranked.of(scores, own, depths=(1,)))


def test_a_record_says_what_it_does_not_count():
    scores = np.eye(3)
    found = metrics.Ranked.of(scores, [{0}, set(), {1, 2}], alike=[{0, 1}, set(), {1, 2}], unanswered="leave out")
    assert (found.queries, found.left_out, found.ceiling) == (2, 1, None)  # several answers have no such ceiling
    assert "1 queries without an answer left out" in str(found)
    assert found.alike_recall == {1: 1.0, 5: 1.0, 10: 1.0}
    with pytest.raises(ConfigError, match="not among those alike"):
        metrics.Ranked.of(scores, [{0}, {1}, {2}], alike=[{0}, {1}, {1}])


def test_interval_over_groups_is_wider_where_they_agree():
    generator = np.random.default_rng(0)
    places = np.repeat(np.arange(20), 25)
    values = (generator.random(20) < 0.5).astype(float)[places]  # all queries of a place do the same
    alone, together = metrics.ranking_bootstrap(values), metrics.ranking_bootstrap(values, groups=places)
    assert alone.value == together.value == values.mean()
    assert together.high - together.low > 3 * (alone.high - alone.low)
    sure = values.mean() * (1 - values.mean())  # normal approximation with 20 draws, and with 500
    assert together.high - together.low == pytest.approx(2 * 1.96 * np.sqrt(sure / 20), rel=0.25)
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * np.sqrt(sure / 500), rel=0.15)
    named = metrics.ranking_bootstrap(values, groups=[f"place {p}" for p in places])
    assert named == together
    assert metrics.ranking_bootstrap(values, groups=places, seed=1) != together


def test_interval_equals_a_plain_loop():
    generator = np.random.default_rng(2)
    values, places = generator.random((3, 40)), generator.integers(0, 7, 40)
    order = list(dict.fromkeys(places.tolist()))
    draws, again = [], np.random.default_rng(9)
    seeds, groups = again.integers(0, 3, (200, 3)), again.integers(0, len(order), (200, len(order)))
    for chosen, drawn in zip(seeds, groups, strict=True):
        pooled = [[v for g in drawn for v, p in zip(values[s], places, strict=True) if p == order[g]] for s in chosen]
        draws.append(np.mean([np.median(p) for p in pooled]))
    low, high = np.quantile(draws, [0.025, 0.975])
    found = metrics.ranking_bootstrap(values, groups=places, statistic=np.median, repeats=200, seed=9)
    assert found.value == pytest.approx(np.median(values, 1).mean())
    assert (found.low, found.high) == pytest.approx((low, high))
    with pytest.raises(ConfigError, match="every query needs a group"):
        metrics.ranking_bootstrap(values, groups=places[1:])
    with pytest.raises(ConfigError, match="at least one block"):
        metrics.ranking_bootstrap(np.zeros(0))


@given(st.lists(st.tuples(*[st.lists(st.integers(-1, 9), max_size=6)] * 2), max_size=6))
def test_recall_against_the_exact_search(pairs):
    found, exact = [p[0] for p in pairs], [p[1] for p in pairs]
    shares = []
    for mine, best in pairs:
        wanted = [r for r in dict.fromkeys(best) if r != -1]
        if wanted:
            shares.append(sum(r in mine for r in wanted) / len(wanted))
    if shares:
        assert metrics.recall_against(found, exact) == pytest.approx(np.mean(shares))
    else:
        with pytest.raises(ConfigError, match="no query has a row"):
            metrics.recall_against(found, exact)


def test_recall_against_takes_arrays():
    exact = np.array([[0, 1, 2], [3, 4, -1]])
    assert metrics.recall_against(exact, exact) == 1
    assert metrics.recall_against(np.array([[0, 9, 0], [4, -1, -1]]), exact) == pytest.approx((1 / 3 + 1 / 2) / 2)
    with pytest.raises(ConfigError, match="the same queries"):
        metrics.recall_against(exact[:1], exact)
