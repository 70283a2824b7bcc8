"""Trees of shared prefixes: their structure, exactly, and what a cache finds of them."""

from collections import Counter
from itertools import accumulate

import pytest
from alone import num_findable, serve_alone

from jpaged.errors import ConfigError
from jpaged.simulator.workload import PrefixTree, Uniform, poisson, sessions, shared_prefix_tree

BRANCHING, LENGTHS = (1, 3, 4), (48, 20, 33)


def test_the_prefixes_of_each_level_are_those_of_the_tree():
    workload = shared_prefix_tree(1.0, 600, BRANCHING, LENGTHS, 0.0, prompt_len=10)
    prompts = [tuple(each.prompt) for each in workload]

    for depth, length in enumerate(accumulate(LENGTHS)):
        num_nodes = [1, 3, 12][depth]
        assert len({prompt[:length] for prompt in prompts}) == num_nodes
        # and nobody shares a token beyond: the next ones down all begin differently
        nexts = 600 if depth == 2 else [3, 12][depth]
        assert len({prompt[: length + 3] for prompt in prompts}) == nexts
    assert {len(prompt) for prompt in prompts} == {sum(LENGTHS) + 10}


def test_each_node_has_its_own_length_and_keeps_it():
    tree = PrefixTree((5,), (Uniform(10, 400),))
    workload = poisson(1.0, 300, prompt_len=7, tree=tree)
    lengths = {}
    for each in workload:
        first = tuple(each.prompt)[:4]
        lengths.setdefault(first, set()).add(len(each.prompt) - 7)
    assert len(lengths) == 5
    assert all(len(found) == 1 for found in lengths.values())
    assert len({min(found) for found in lengths.values()}) == 5


def test_popularity_is_zipfs():
    """Of 4 children with exponent 1 the shares are 12, 6, 4 and 3 of 25."""
    workload = shared_prefix_tree(1.0, 5000, (4,), (8,), 1.0, prompt_len=1, output_len=1)
    counts = Counter(tuple(each.prompt)[:8] for each in workload)
    shares = [count / 5000 for _, count in counts.most_common()]
    assert shares == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25], abs=0.025)


def test_a_cache_finds_what_earlier_prompts_began_with_to_the_token():
    workload = shared_prefix_tree(1.0, 40, BRANCHING, LENGTHS, prompt_len=25, output_len=3)
    result = serve_alone(workload)
    found = [each.num_cached for each in result.ended]
    assert found == num_findable([tuple(each.prompt) for each in workload])
    # nothing, then the system prompt at least; in the end nearly always the whole prefix
    assert found[0] == 0 and min(found[1:]) >= 48 and max(found) == 101


def test_prefixes_are_shared_in_memory_too():
    workload = shared_prefix_tree(1.0, 200, BRANCHING, LENGTHS)
    assert len({id(each.prompt.before) for each in workload}) <= 12  # type: ignore


def test_workloads_share_a_tree_that_both_were_given():
    tree, other = PrefixTree((2,), (64,), seed=5), PrefixTree((2,), (64,), seed=6)
    one = {tuple(each.prompt)[:64] for each in poisson(1.0, 50, seed=1, tree=tree)}
    two = {tuple(each.prompt)[:64] for each in poisson(1.0, 50, seed=2, tree=tree)}
    talks = {tuple(each.prompt)[:64] for each in sessions(1.0, 50, 1, tree=tree)}
    assert one == two == talks and len(one) == 2
    assert not one & {tuple(each.prompt)[:64] for each in poisson(1.0, 50, tree=other)}


def test_another_tree_changes_nothing_but_the_prefixes():
    plain = poisson(2.0, 50)
    for one, other in zip(plain, poisson(2.0, 50, tree=PrefixTree()), strict=True):
        assert (one.arrival, one.num_output) == (other.arrival, other.num_output)
        assert tuple(other.prompt)[-len(one.prompt) :] == tuple(one.prompt)


def test_the_number_of_prefixes_is_the_product_of_the_branching():
    assert PrefixTree((2, 3, 4), (1, 1, 1)).num_prefixes == 24


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PrefixTree((), ()), "0 levels"),
        (lambda: PrefixTree((2, 3), (10,)), "branching has 2 levels, num_tokens 1"),
        (lambda: PrefixTree((0,), (10,)), r"branching\[0\]=0"),
        (lambda: PrefixTree((2,), (0,)), r"num_tokens\[0\]=0"),
        (lambda: PrefixTree((2,), (10,), exponent=-1.0), "exponent is 0 or more"),
    ],
)
def test_trees_that_make_no_sense_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()
