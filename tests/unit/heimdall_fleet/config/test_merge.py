from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heimdall_fleet.config.document import Tree
from heimdall_fleet.config.issues import Path, Place
from heimdall_fleet.config.merge import apply_variables, get, overlay, put, rename_old_keys

keys = st.text("abc", min_size=1, max_size=2)
leaves = st.integers() | st.lists(st.integers(), max_size=2)
trees = st.recursive(
    st.dictionaries(keys, leaves, max_size=3),
    lambda inner: st.dictionaries(keys, leaves | inner, max_size=3),
    max_leaves=8,
)


def tree(data: dict[str, Any], source: str = "file") -> Tree:
    made = Tree()
    for path, value in flat(data, ()):
        put(made, path, value, Place(source, 1, 1))
    return made


def flat(data: Any, path: Path) -> list[tuple[Path, Any]]:
    if isinstance(data, dict) and data:
        return [pair for key, value in data.items() for pair in flat(value, (*path, key))]
    return [(path, data)] if path else []


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    left = tree(base, "base")
    overlay(left, tree(over, "over"))
    return left.data


def test_mappings_are_merged_and_lists_replaced() -> None:
    assert merged({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": 4}) == {"a": {"b": 1, "c": [3]}, "d": 4}


@given(trees)
def test_laying_a_tree_over_itself_or_over_nothing_changes_nothing(data: dict[str, Any]) -> None:
    made = tree(data).data
    assert merged(data, data) == merged({}, data) == merged(data, {}) == made


@given(trees, trees, trees)
def test_the_order_of_merging_three_does_not_matter(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    assert merged(merged(a, b), c) == merged(a, merged(b, c))


@given(trees, trees)
def test_every_value_of_the_upper_tree_is_there_with_its_place(base: dict[str, Any], over: dict[str, Any]) -> None:
    left, right = tree(base, "base"), tree(over, "over")
    overlay(left, right)
    for path, value in flat(right.data, ()):
        if value != {}:
            assert get(left.data, path) == value
            assert left.values[path].source == "over"


def test_a_variable_sets_any_value_whatever_its_key_looks_like() -> None:
    made = tree({"providers": {"my-openai": {"keys": [{"name": "a", "weight": 1}]}}, "models": {"openai/gpt-5": {}}})
    env = {
        "HEIMDALL__PROVIDERS__MY_OPENAI__KEYS__0__WEIGHT": "3",
        "HEIMDALL__MODELS__OPENAI_GPT_5__CONTEXT_WINDOW": "400000",
        "HEIMDALL__ROUTER__CHEAP_CANDIDATES": "[a/b, c/d]",
        "HEIMDALL__OBSERVE__METRICS__LABELS": "{team: x}",
        "HEIMDALL__STATE__URL": "redis://h/0",
        "HEIMDALL__KAFKA__SASL_PLAIN_PASSWORD": "0123",
        "HEIMDALL__KAFKA__SSL_CAFILE": "null",
    }
    assert apply_variables(made, env) == []
    assert made.data["providers"]["my-openai"]["keys"] == [{"name": "a", "weight": "3"}]
    assert made.data["models"]["openai/gpt-5"] == {"context_window": "400000"}
    assert made.data["router"] == {"cheap_candidates": ["a/b", "c/d"]}
    assert made.data["observe"] == {"metrics": {"labels": {"team": "x"}}}
    assert made.data["kafka"] == {"sasl_plain_password": "0123", "ssl_cafile": None}
    assert made.values["state", "url"] == Place("environment HEIMDALL__STATE__URL")


def test_a_variable_for_an_item_that_is_not_there_is_an_issue() -> None:
    (issue,) = apply_variables(tree({"a": {"b": [1]}}), {"HEIMDALL__A__B__7": "x"})
    assert "no item 7" in issue.message


def test_an_old_key_moves_to_where_its_value_stands_today() -> None:
    made = tree({"max_cache_size": 50, "cache_ttl": "1m", "dispatch": {"initial_pool_size": 7}})
    assert rename_old_keys(made) == []
    assert made.data == {"cache": {"decision": {"max_size": 50, "ttl": "1m"}}, "dispatch": {"max_in_flight": 7}}


def test_an_old_key_beside_the_new_one_is_an_issue() -> None:
    (issue,) = rename_old_keys(tree({"dispatch": {"initial_pool_size": 7, "max_in_flight": 8}}))
    assert "old name of dispatch.max_in_flight" in issue.message
