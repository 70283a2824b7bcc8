"""The pages of comparisons and searches: complete, offline, and true to what was found."""

import html
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from browser import in_browser, needs_browser

from jpaged.analysis.compare_page import compare_page
from jpaged.analysis.numbers import change, number, words_of
from jpaged.analysis.pictures import Axis, log_ticks, ticks
from jpaged.analysis.search_page import search_page, verdict
from jpaged.policies import Fcfs, Sarathi, ShortestFirst
from jpaged.simulator import Constant
from jpaged.simulator.compare import Comparison, compare
from jpaged.simulator.measures import MEASURES
from jpaged.simulator.search import search
from jpaged.simulator.spaces import Choice, Range
from jpaged.simulator.trials import Search
from jpaged.simulator.workload import poisson

COST = Constant(step=0.02, token=2e-4)
MARKS = {"path", "circle", "rect", "polyline", "text", "g", "svg"}


class Page(HTMLParser):
    """Checks that what is opened is closed, and keeps what marks say and what would be loaded."""

    VOID = ("meta", "link", "path", "circle", "rect", "polyline")

    def __init__(self, text: str):
        super().__init__()
        self.tips, self.labels, self.loaded, self.links = [], [], [], []
        self.ids, self.cells, self.rows = [], [], 0
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tips += [given["data-tip"]] if "data-tip" in given else []
        self.labels += [given["aria-label"]] if tag == "svg" and "aria-label" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.ids += [given["id"]] if "id" in given else []
        self.loaded += [given[name] for name in ("src", "href") if name in given and tag != "a"]
        for name in ("x", "y", "cx", "cy", "width", "height", "d", "points"):
            assert tag not in MARKS or "nan" not in str(given.get(name)), given
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if {"td", "th"}.intersection(self.open):
            self.cells[-1] += data


def a_workload(seed: int):
    return poisson(6.0, 25, prompt_len=[20, 20, 300], output_len=[4, 4, 30], seed=seed)


@pytest.fixture(scope="module")
def compared() -> Comparison:
    long = "mine.py:MyPolicy:width=16,more=[1,2] @ prefix_affinity"
    policies = {"fcfs": Fcfs(), "shortest <b>": ShortestFirst(chunk=64), long: Sarathi(16)}
    workloads = {"w & <w>": a_workload, "one": lambda seed: a_workload(7)}
    return compare(policies, workloads, COST, 3, max_num_seqs=4, max_model_len=600)


@pytest.fixture(scope="module")
def searched() -> Search:
    space = {"chunk": Range(16, 512, is_log=True), "aging": Choice((0.0, 200.0, 1000.0))}
    bounds = ["ttft_mean<9"]
    workloads = {"w & <w>": a_workload}
    options: Any = {"max_num_seqs": 4, "max_model_len": 600, "num_trials": 8, "num_held_out": 2}
    return search("shortest", space, workloads, COST, "tpot_p99", bounds, **options)


@pytest.fixture(scope="module", params=["compare", "search"])
def text(request, compared, searched) -> str:
    if request.param == "compare":
        return compare_page(compared, ["ttft_p99", "latency_mean", "hit_rate"], "constant:step=<1>")
    return search_page(searched, "constant:step=<1>")


def test_a_page_is_one_file_that_loads_nothing(text):
    page = Page(text)

    assert page.loaded == ["data:,"] and "@import" not in text and "url(" not in text
    assert set(re.findall(r"https?://[^\s\"']+", text)) <= {"http://www.w3.org/2000/svg"}
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert (
        html.escape("constant:step=<1>") in text
        and "<w>" not in text
        and "shortest <b>" not in text
    )


def test_each_policy_says_how_far_it_is_from_the_first(compared):
    page = Page(compare_page(compared, ["ttft_p99"], "c"))

    assert page.labels == [f"ttft_p99 under {name}" for name in compared.workloads]
    [base, *others] = page.tips[:3]
    assert base.startswith("fcfs: ")
    for policy, tip in zip(compared.policies[1:], others, strict=True):
        found = compared.difference("w & <w>", policy, "ttft_p99")
        mean = number(compared.estimate("w & <w>", policy, "ttft_p99").mean, "s")
        assert tip.startswith(f"{policy}: {mean}, {change(found.mean, found.error)} against fcfs")
        assert tip.endswith("beyond chance") and ("no difference" in tip) != found.is_different


def test_where_all_seeds_have_the_same_requests_a_page_says_so(compared):
    text = compare_page(compared, ["ttft_p99"], "c")
    assert text.count("over 3 seeds") == 1
    assert text.count("what chance does to the differences is not known") == 1


def test_measures_in_which_no_policy_differs_are_not_drawn(compared):
    page = Page(text := compare_page(compared, ["hit_rate", "num_requests"], "c"))
    assert page.labels == [] and page.tips == []
    assert "<code>hit_rate</code> 0.0 %, <code>num_requests</code> 25" in text


def test_better_is_green_whichever_way_it_is():
    found = {
        ("w", "a"): {"latency_mean": [2.0, 2.1], "goodput": [5.0, 5.1]},
        ("w", "b"): {"latency_mean": [1.0, 1.1], "goodput": [4.0, 4.1]},
    }
    both = Comparison(("w",), ("a", "b"), found)

    for measure, kind in (("latency_mean", "better"), ("goodput", "worse")):
        page = compare_page(both, [measure], "c")
        assert f'<g class="{kind}" data-tip="b:' in page
        assert f"{kind}, beyond chance" in page


def test_a_search_shows_each_trial_over_each_parameter(searched):
    page = Page(search_page(searched, "c"))
    trials = [tip for tip in page.tips if tip.startswith(("trial", "the defaults"))]

    pictures = ["tpot_p99 of each trial", "tpot_p99 over chunk", "tpot_p99 over aging"]
    assert page.labels[-3:] == pictures
    assert len(trials) == 3 * len(searched.trials)  # once in each
    for trial in searched.trials[1:]:
        means = [number(trial.mean("w & <w>", name), "s") for name in ("tpot_p99", "ttft_mean")]
        told = f"trial {trial.number}: chunk={trial.parameters['chunk']}, "
        [tip, *_] = [each for each in trials if each.startswith(told)]
        assert f"tpot_p99 {means[0]}, ttft_mean {means[1]}" in tip


def test_a_searchs_table_begins_with_the_best(searched):
    cells = Page(search_page(searched, "c")).cells
    start = cells.index("trial")
    head = ["trial", "chunk", "aging", "tpot_p99", "ttft_mean", "against the defaults", "state"]

    assert cells[start : start + 7] == head
    best = searched.best
    chunk, aging = best.parameters["chunk"], best.parameters["aging"]
    assert cells[start + 7 : start + 10] == [f"{best.number}", f"{chunk}", f"{aging:.4g}"]
    assert cells[start + 13] == "best" and len(cells) == start + 7 * (1 + len(searched.trials))


def test_a_verdict_is_of_the_requests_that_were_held_out(searched):
    difference = searched.held_out.difference("w & <w>", "best", "tpot_p99")
    said = verdict(searched)

    assert change(searched.best.score - 1) in said
    assert change(difference.mean, difference.error) in said
    assert ("not beyond chance" in said) != difference.is_different


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        (["tpot_p99<1e-6"], "No trial keeps tpot_p99<1e-06; the best comes closest."),
        (["seconds>0"], "No trial was better than the defaults."),
    ],
)
def test_a_search_that_found_nothing_says_so(bounds, says):
    """All chunks are the same to requests that are shorter than any of them."""
    found = search(
        "sarathi",
        {"chunk": Range(256, 512)},
        {"w": lambda seed: poisson(2.0, 5, prompt_len=4, output_len=4, seed=seed)},
        COST,
        constraints=bounds,
        num_trials=2,
        num_held_out=2,
    )
    assert verdict(found) == says
    Page(search_page(found, "c"))


def test_a_best_at_an_end_of_its_range_is_told(searched):
    [default, *_] = searched.trials
    trials = [
        replace(default, number=number, parameters={"chunk": chunk, "aging": 0.0}, score=0.5)
        for number, chunk in ((1, 512), (2, 64))
    ]
    told = "chunk=512 is at an end of its range (16 to 512, logarithmic): better ones may lie"
    at_end, inside = (replace(searched, trials=(default, each)) for each in trials)

    assert told in search_page(at_end, "c")
    assert "may lie" not in search_page(inside, "c")


def test_a_measure_of_one_client_is_told_with_its_name():
    found = {("w", name): {"goodput@<b>": [value]} for name, value in (("a", 1.0), ("b", 2.0))}
    page = compare_page(Comparison(("w",), ("a", "b"), found), ["goodput@<b>", "ttft_max@c"], "c")

    assert "goodput@<b>" not in page and "Sequences that kept all promises, of &lt;b&gt;" in page
    assert "more is better" in page and "goodput@&lt;b&gt;" in page
    assert any(tip.startswith("b: 2.00 /s, +100.0 %") for tip in Page(page).tips)


def test_trials_without_a_value_are_told_but_not_drawn(searched):
    [first, second, *rest] = searched.trials
    failed = type(second)(second.number, second.parameters, second.found, math.nan)
    trials = (first, failed, *rest)
    found = Search(**{**vars(searched), "trials": trials})

    text = search_page(found, "c")

    assert "1 trials are not drawn" in text and "<td>failed</td>" in text
    Page(text)


HOVER = """<script>
const seen = [];
for (const mark of document.querySelectorAll("[data-tip]")) {
  mark.dispatchEvent(new MouseEvent("mousemove", { clientX: 40, clientY: 40, bubbles: true }));
  seen.push(!tip.hidden && tip.textContent === mark.dataset.tip);
  mark.dispatchEvent(new MouseEvent("mouseleave"));
  seen.push(tip.hidden);
}
document.getElementById("theme").click();
document.title = `${seen.length} ${seen.every(each => each)}`;
const boxes = [...document.querySelectorAll("figure svg")].map(svg =>
  [...svg.querySelectorAll("text")].map(text => {
    const { left, right, top, bottom } = text.getBoundingClientRect();
    return { left, right, top, bottom, text: text.textContent };
  }));
const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const met = (all, a, i) =>
  all.slice(i + 1).filter(b => meet(a, b)).map(b => `${a.text} ~ ${b.text}`);
document.body.dataset.overlaps = boxes.flatMap(all => all.flatMap((a, i) => met(all, a, i)));
document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
</script>"""


@needs_browser
def test_a_browser_shows_it_without_a_complaint_and_no_text_lies_on_another(text, tmp_path):
    page, complaints = in_browser(text.replace("</body>", HOVER + "</body>"), tmp_path)

    assert complaints == []
    count = len(Page(text).tips)
    assert f"<title>{2 * count} true</title>" in page and count > 5
    assert 'data-overlaps=""' in page and 'data-wide="false"' in page
    assert re.search(r'<html lang="en" class="dark">', page), "it was light before the click"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.12, 0.12, [-0.1, -0.05, 0, 0.05, 0.1]),
        (98, 104, [98, 100, 102, 104]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_logarithmic_ticks_are_1_2_5_or_powers_of_ten():
    assert log_ticks(60, 1100) == pytest.approx([100, 200, 500, 1000])
    assert log_ticks(1e-3, 1e3) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10, 100, 1000])


def test_an_axis_has_room_for_all_values():
    for values in ([1.0, 2.0], [5.0], [0.0], [1.0, 900.0], [-3.0, 4.0]):
        axis = Axis.over("x", values)
        places = [axis.place(value) for value in values]
        assert all(0 < place < 1 for place in places)
        assert all(before < after for before, after in pairwise(places))
        assert axis.is_log == (values == [1.0, 900.0])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.01405, "s", "14.1 ms"),
        (0.5528, "s", "553 ms"),
        (2.0, "s", "2.00 s"),
        (12e-6, "s", "12.0 µs"),
        (1234.5, "/s", "1,234 /s"),
        (0.123, "%", "12.3 %"),
        (7, "", "7"),
        (math.nan, "s", "–"),
    ],
)
def test_numbers_have_three_digits_and_a_unit(value, unit, text):
    assert number(value, unit) == text


def test_changes_have_signs_and_errors():
    assert change(-0.0321, 0.011) == "−3.2 % ± 1.1 %"
    assert change(12.345) == "+1,234.5 %"
    assert change(-0.0001, 0.01) == "0.0 % ± 1.0 %"
    assert change(0.0, 0.0) == "the same"
    assert change(0.5, math.nan) == "+50.0 %"
    assert change(math.nan, math.nan) == "–"


def test_every_measure_has_words_and_a_unit():
    for measure in MEASURES:
        text, unit = words_of(measure)
        assert text and unit in ("", "s", "/s", "%")
