"""The prefix cache: what it finds, what it forgets, and what it leaves to compute."""

from filler import FILLER, Wishes, a_request, a_scheduler, add, counts, names, run, schedule, step

from jpaged.scheduling.pages import PagePool
from jpaged.scheduling.prefix import ROOT, PrefixCache, extend_keys

SYSTEM = tuple(range(100, 112))  # three pages of four


def keys_of(tokens, page_size: int = 4) -> list[bytes]:
    keys: list[bytes] = []
    extend_keys(keys, tokens, page_size, len(tokens))
    return keys


def a_cache(num_pages: int, *prefixes) -> tuple[PrefixCache, list[list[int]]]:
    """A cache that remembers these prefixes, each in pages of its own that nobody holds."""
    cache = PrefixCache(PagePool(num_pages, page_size=4))
    written = []
    for tokens in prefixes:
        keys = keys_of(tokens)
        pages = cache.pool.allocate(len(keys))
        for i, page in enumerate(pages):
            parent = keys[i - 1] if i else ROOT
            cache.remember(page, parent, keys[i], tokens[4 * i : 4 * i + 4], depth=i)
        cache.pool.release(reversed(pages))
        written.append(pages)
    return cache, written


def test_only_full_pages_have_keys():
    assert [len(keys_of(range(n))) for n in (0, 3, 4, 7, 8)] == [0, 0, 1, 1, 2]


def test_the_same_tokens_under_another_prefix_have_another_key():
    one = keys_of([1, 1, 1, 1, 5, 6, 7, 8])
    other = keys_of([2, 2, 2, 2, 5, 6, 7, 8])

    assert one[1] != other[1]


def test_keys_tell_every_token_apart():
    tokens = [1, 2, 3, 256]
    others = ([2, 1, 3, 256], [1, 2, 3, 257], [1, 2, 3, 0], [1, 2, 3, 2**40])

    assert all(keys_of(tokens) != keys_of(other) for other in others)


def test_keys_grown_bit_by_bit_are_the_keys_of_the_whole():
    tokens, keys = list(range(50, 63)), []

    for upto in range(len(tokens) + 1):
        extend_keys(keys, tokens, 4, upto)

    assert keys == keys_of(tokens)


def test_a_match_is_as_long_as_the_common_prefix():
    cache, (pages,) = a_cache(8, SYSTEM)

    assert cache.match(keys_of(SYSTEM)) == pages
    assert cache.match(keys_of((*SYSTEM[:8], 1, 2, 3, 4))) == pages[:2]
    assert cache.match(keys_of((1, *SYSTEM[1:]))) == []


def test_a_match_stops_at_the_first_hole():
    cache, (pages,) = a_cache(8, SYSTEM)

    cache.forget(pages[1])

    assert cache.match(keys_of(SYSTEM)) == pages[:1]


def test_an_evicted_page_is_forgotten_from_the_end_of_its_prefix():
    cache, (pages,) = a_cache(3, SYSTEM)

    taken = cache.pool.allocate(1)

    assert taken == [pages[2]]
    assert cache.match(keys_of(SYSTEM)) == pages[:2]


def test_a_finished_prefix_is_evicted_from_its_end():
    scheduler = a_scheduler(num_pages=4)
    add(scheduler, "a", SYSTEM, max_tokens=1)
    run(scheduler)
    add(scheduler, "b", prompt=8, max_tokens=1)  # takes the free page, and evicts one of three
    run(scheduler)

    third = add(scheduler, "c", (*SYSTEM, 1), max_tokens=1)
    step(scheduler)

    assert third.num_cached == 8


def test_the_second_page_of_equal_content_is_not_remembered():
    cache, (first, second) = a_cache(8, SYSTEM, SYSTEM)

    assert cache.match(keys_of(SYSTEM)) == first
    assert cache.pool.num_idle == 3  # the duplicates went back to the free pages
    assert not set(second) & set(cache.known)


def test_a_second_request_computes_only_what_differs():
    scheduler = a_scheduler()
    add(scheduler, "a", (*SYSTEM, 1, 2))
    run(scheduler)

    second = add(scheduler, "b", (*SYSTEM, 3, 4, 5))
    batch = step(scheduler)

    assert batch.items == ((second, 3),)
    assert second.num_cached == len(SYSTEM)


def test_running_sequences_share_the_pages_of_a_common_prefix():
    scheduler = a_scheduler()
    first = add(scheduler, "a", SYSTEM, max_tokens=8)
    step(scheduler)

    second = add(scheduler, "b", (*SYSTEM, 3), max_tokens=8)
    step(scheduler)

    assert first.pages[:3] == second.pages[:3]
    assert scheduler.pool.num_held == 3 + 2


def test_a_full_hit_leaves_one_token_to_compute():
    scheduler = a_scheduler()
    add(scheduler, "a", SYSTEM)
    run(scheduler)

    again = add(scheduler, "b", SYSTEM)
    batch = step(scheduler)

    # its logits choose the next token; its keys and values are there
    assert batch.items == ((again, 1),)
    assert batch.has_rereads and not batch.page_copies


def test_a_hit_may_reach_up_to_the_last_token():
    scheduler = a_scheduler()
    add(scheduler, "a", SYSTEM)
    run(scheduler)

    again = add(scheduler, "b", (*SYSTEM, 1))

    assert step(scheduler).items == ((again, 1),)


def test_the_second_turn_of_a_chat_finds_the_answer_of_the_first():
    scheduler = a_scheduler()
    first = add(scheduler, "a", SYSTEM, max_tokens=9)
    run(scheduler)

    second = add(scheduler, "b", (*first.tokens, 1, 2, 3))
    step(scheduler)

    # 12 + 9 tokens; the last one was never run, so 20 are in the cache, in five full pages
    assert first.generated == [FILLER] * 9
    assert second.num_cached == 20


def test_pages_computed_anew_after_a_preemption_are_found_again():
    scheduler = a_scheduler()
    sequence = add(scheduler, "a", (*SYSTEM, 1))
    step(scheduler)
    scheduler.queues.preempt(sequence)
    scheduler.pool.release(scheduler.pool.allocate(64))  # its pages are evicted
    step(scheduler)

    other = add(scheduler, "b", (*SYSTEM, 2))
    step(scheduler)

    assert other.num_cached == len(SYSTEM)


def test_a_request_for_prompt_logprobs_computes_its_whole_prompt():
    scheduler = a_scheduler()
    add(scheduler, "a", (*SYSTEM, 1))
    run(scheduler)

    sequence = add(scheduler, "b", (*SYSTEM, 1), prompt_logprobs=0)

    assert step(scheduler).items == ((sequence, 13),)


def test_without_prefix_caching_nothing_is_kept():
    scheduler = a_scheduler(enable_prefix_caching=False)
    add(scheduler, "a", (*SYSTEM, 1))
    run(scheduler)

    again = add(scheduler, "b", (*SYSTEM, 1))

    assert scheduler.pool.num_idle == 0
    assert step(scheduler).items == ((again, 13),)


def test_requests_that_arrive_together_compute_their_prefix_once():
    scheduler = a_scheduler()
    first = add(scheduler, "a", (*SYSTEM, 1))
    others = [add(scheduler, name, (*SYSTEM, 2, 3)) for name in "bc"]

    batch = step(scheduler)

    assert counts(batch) == {"a": 13, "b": 2, "c": 2}
    assert all(other.pages[:3] == first.pages[:3] for other in others)
    assert [other.num_cached for other in others] == [12, 12]


def test_samples_of_one_request_compute_its_prompt_once():
    scheduler = a_scheduler()
    scheduler.add(a_request("a", (*SYSTEM, 1), n=3))

    assert [count for _, count in step(scheduler).items] == [13, 1, 1]


def test_a_prompt_goes_on_where_another_has_come_meanwhile():
    scheduler = a_scheduler(policy=Wishes(("b", 4), ("a", 12)), max_num_batched_tokens=100)
    add(scheduler, "a", (*SYSTEM, 1))
    add(scheduler, "b", (*SYSTEM, 2))

    first, second = step(scheduler), step(scheduler)

    assert counts(first) == {"b": 4, "a": 9}  # its first page is the one b writes
    assert counts(second) == {"b": 1, "a": 1}  # and b finds the two that a has written


def test_a_batch_that_never_ran_is_taken_back_with_what_it_promised():
    scheduler = a_scheduler()
    add(scheduler, "a", SYSTEM)
    add(scheduler, "b", (*SYSTEM, 1))
    batch = schedule(scheduler)

    scheduler.cancel(batch)

    assert names(scheduler.waiting) == "ab" and not scheduler.running
    assert scheduler.pool.num_free == scheduler.pool.num_pages
    assert scheduler.pool.num_idle == 0  # nobody finds pages that were never written
    assert counts(step(scheduler)) == {"a": 12, "b": 1}


def test_hits_are_counted_in_tokens():
    scheduler = a_scheduler()
    add(scheduler, "a", (*SYSTEM, 1))
    run(scheduler)
    scheduler.add(a_request("b", (*SYSTEM, 2, 3)))
    run(scheduler)

    assert scheduler.cache is not None
    assert (scheduler.cache.num_hits, scheduler.cache.num_queried) == (12, 13 + 14)
