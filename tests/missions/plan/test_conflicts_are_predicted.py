"""A plan gets a warning if sorties reserve the same files without a fixed order. The warning names them."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from missions import plan
from missions.plan import globs
from missions.plan.graph import prediction
from missions.plan.specs import SortieSpec
from tests.missions.plan.plans import CONTEXT


def predict(**sorties: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [
        (pair.first.key, pair.second.key, pair.pattern)
        for pair in prediction.predict([spec(key, **keys) for key, keys in sorties.items()])
    ]


def spec(
    key: str, *, needs: tuple[str, ...] = (), touches: tuple[str, ...] = (), reads: tuple[str, ...] = ()
) -> SortieSpec:
    return SortieSpec(
        key=key,
        name=key,
        agent_type="backend",
        driver="command",
        groups={need: (need,) for need in needs},
        touches=touches,
        reads=reads,
    )


def test_sorties_that_touch_the_same_files_conflict_unless_one_needs_the_other() -> None:
    assert predict(a={"touches": ("src/**",)}, b={"touches": ("src/x.py",)}) == [("a", "b", "src/x.py")]
    assert predict(a={"touches": ("src/**",)}, b={"touches": ("src/x.py",), "needs": ("a",)}) == []
    assert predict(a={"touches": ("src/**",), "needs": ("b",)}, b={"touches": ("src/x.py",)}) == []


def test_an_order_through_sorties_without_reservations_counts() -> None:
    assert predict(a={"touches": ("x",)}, m={"needs": ("a",)}, b={"touches": ("x",), "needs": ("m",)}) == []


def test_readers_do_not_conflict_with_each_other() -> None:
    assert predict(a={"reads": ("x",)}, b={"reads": ("x",)}, c={"touches": ("x",)}) == [
        ("a", "c", "x"),
        ("b", "c", "x"),
    ]


def test_a_plan_with_very_many_conflicts_shows_the_first() -> None:
    many = {f"s{number}": {"touches": ("**",)} for number in range(5_000)}
    assert len(predict(**many)) == prediction.MAX_PREDICTED


def test_a_long_chain_is_searched_quickly() -> None:
    chain = {f"s{n}": {"touches": ("src/**",), "needs": (f"s{n - 1}",) if n else ()} for n in range(5_000)}
    assert predict(**chain) == []


def test_validate_warns_with_the_remedy() -> None:
    text = """
        mission: Two
        workspace: {repository: .}
        sorties:
          api: {agent: backend, run: make, touches: ["src/**"]}
          view: {agent: backend, run: make, touches: ["src/view/*"]}
    """
    (warning,) = plan.warnings(plan.load(text=text, context=CONTEXT))
    assert str(warning) == (
        "sorties.view.touches: api and view both reserve src/view/*, and neither needs the other. They will run one after"
        " the other. If the order matters, add api to the needs of view."
    )


PATTERNS = ["a", "a/*", "a/b", "*/b", "**", "b"]


@given(
    st.lists(st.tuples(st.sampled_from(PATTERNS), st.booleans(), st.sets(st.integers(0, 7), max_size=3)), max_size=8)
)
@settings(max_examples=200, deadline=None)
def test_exactly_the_unordered_overlaps_are_found(rows: list[tuple[str, bool, set[int]]]) -> None:
    specs = [
        spec(
            str(place),
            needs=tuple(str(need) for need in sorted(needs) if need < place),
            **{"reads" if shared else "touches": (pattern,)},
        )
        for place, (pattern, shared, needs) in enumerate(rows)
    ]
    upstream: dict[int, set[int]] = {}
    for place, (_, _, needs) in enumerate(rows):
        direct = {need for need in needs if need < place}
        upstream[place] = direct.union(*(upstream[need] for need in direct))
    expected = {
        (str(first), str(second))
        for second in range(len(rows))
        for first in range(second)
        if first not in upstream[second]
        and not (rows[first][1] and rows[second][1])
        and globs.overlap(globs.parse(rows[first][0]), globs.parse(rows[second][0]))
    }
    found = [(pair.first.key, pair.second.key) for pair in prediction.predict(specs)]
    assert len(found) == min(len(expected), prediction.MAX_PREDICTED)
    assert set(found) <= expected
