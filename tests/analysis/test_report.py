"""The page of a run: its structure, and its numbers against pandas."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
from browser import in_browser, needs_browser
from runs import a_request_record, a_run, a_step_record

from jpaged.analysis import report
from jpaged.analysis.distributions import quantile
from jpaged.analysis.frame import asset
from jpaged.analysis.report import SCRIPTS, report_data, stretch
from jpaged.analysis.series import NUM_BINS, Bins, levels
from jpaged.simulator import Result

SECTIONS = ["summary", "latency", "time", "goodput", "fairness", "padding", "requests", "pages"]
TIMES = ("ttft", "tpot", "latency")


class Page(HTMLParser):
    """Ids, links, what would be loaded, the text of tables, and the data of a page."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.loaded, self.cells = [], [], [], []
        self.open: list[str] = []
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.loaded += [given[name] for name in ("src", "href") if name in given and tag != "a"]
        self.is_data = tag == "script" and given.get("type") == "application/json"
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] == "script" and self.is_data:
            self.data += data
        elif {"td", "th"}.intersection(self.open):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def result() -> Result:
    return a_run(60)


@pytest.fixture(scope="module")
def text(result, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report(result, path, "A run & its <page>")
    return path.read_text()


def test_a_page_is_one_file_that_loads_nothing(text):
    page = Page(text)

    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert page.loaded == ["data:,"], "an icon, or browsers would ask for one"
    assert "@import" not in text and "url(" not in text
    # the only address is the name of a language
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}


def test_every_section_is_there_and_every_link_leads_to_one(text):
    page = Page(text)

    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert page.links == [f"#{name}" for name in SECTIONS]


def test_all_that_scripts_ask_for_by_name_is_there(text):
    scripts = "".join(map(asset, ("basics.js", "theme.js", *SCRIPTS)))
    asked = set(re.findall(r'(?:find|getElementById)\("([\w-]+)"\)', scripts))

    assert asked and asked <= set(Page(text).ids)


def test_texts_of_users_do_not_break_the_page(tmp_path):
    bad = "</script><script>alert(1)</script>&$data"
    records = [a_request_record(request_id=bad, client=name) for name in (bad, "b")]
    report(Result(ended=records, about={"policy": bad}), tmp_path / "r.html", title=bad)
    page = Page((tmp_path / "r.html").read_text())

    assert page.open == []
    assert json.loads(page.data)["gantt"]["rows"][0]["name"] == bad


def test_the_page_of_a_log_is_the_page_of_its_run(result, text, tmp_path):
    result.save(tmp_path / "run.jsonl")
    report(str(tmp_path / "run.jsonl"), tmp_path / "r.html", "A run & its <page>")
    assert (tmp_path / "r.html").read_text() == text


def test_a_page_stays_small(text, tmp_path):
    report(a_run(600, trace_pages=False), tmp_path / "large.html")
    large = (tmp_path / "large.html").stat().st_size

    assert len(text) < 200_000
    assert large < 120_000 + 500 * 600, "some 500 bytes a request, however long it ran"


def test_a_run_without_requests_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to report"):
        report(Result(records=[a_step_record(0.0, 1.0)]), tmp_path / "r.html")


def test_the_tables_hold_the_summary_and_the_quantiles(result, text):
    cells, summary = Page(text).cells, result.summary()

    assert cells[cells.index("sequences that ended") + 1] == str(len(result.ended))
    tax = cells[cells.index("computed tokens that were computed before") + 1]
    assert tax == f"{100 * summary['recompute_tax']:.1f} %"
    row = cells.index("time to first token")
    for offset, name in enumerate(("ttft_mean", "ttft_p50", "ttft_p90", "ttft_p99"), 1):
        number, unit = cells[row + offset].split()
        value = float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
        assert value == pytest.approx(summary[name], rel=5e-3), name


def test_the_table_of_buckets_holds_each_with_its_padding(result, text):
    cells, steps = Page(text).cells, result.steps
    groups = steps.groupby(steps["bucket"].map(str))

    assert len(groups) > 2
    for name, mine in groups:
        at = cells.index(name)
        slots = sum(bucket.num_tokens for bucket in mine["bucket"])
        assert cells[at + 1] == f"{len(mine):,}"
        assert cells[at + 4] == f"{100 * (1 - mine['num_tokens'].sum() / slots):.1f} %"


def test_quantiles_are_those_of_pandas(result):
    data, requests = report_data(result)["distributions"], result.requests
    for name in TIMES:
        values = requests[name].dropna()
        assert data[name]["count"] == len(values)
        assert data[name]["quantiles"] == pytest.approx(
            {"p50": values.quantile(0.5), "p90": values.quantile(0.9), "p99": values.quantile(0.99)}
        )
    gaps = np.concatenate([np.diff(each.token_times) for each in result.ended])
    assert data["gap"]["quantiles"]["p99"] == pytest.approx(np.quantile(gaps, 0.99))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1001])
def test_a_quantile_is_numpys(count):
    values = sorted(np.random.default_rng(count).random(count).tolist())
    for share in (0.0, 0.1, 0.5, 0.99, 1.0):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share))


def test_curves_climb_from_the_least_to_the_most(result):
    for name, each in report_data(result)["distributions"].items():
        seconds, shares = zip(*each["points"], strict=True)
        assert list(seconds) == sorted(seconds) and list(shares) == sorted(shares), name
        assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert seconds[-1] == pytest.approx(result.requests["latency"].max())


def test_rates_over_time_add_up_to_the_tokens(result):
    over_time, steps = report_data(result)["over_time"], result.steps

    computed = sum(over_time["first"]) + sum(over_time["again"])
    assert computed * over_time["width"] == pytest.approx(steps["num_tokens"].sum())
    again = sum(over_time["again"]) * over_time["width"]
    assert again == pytest.approx(steps["num_recomputed"].sum()) and again > 0
    said = sum(over_time["said"]) * over_time["width"]
    assert said == pytest.approx(result.requests["num_output"].sum())
    assert sum(over_time["preempted"]) == steps["num_preempted"].sum() > 0


def test_levels_over_time_are_means_over_time():
    records = [a_step_record(0.0, 1.0, num_waiting=4), a_step_record(1.0, 4.0, num_waiting=8)]
    result = Result(ended=[a_request_record(last_token=8.0)], records=records)
    waiting = report_data(result)["over_time"]["num_waiting"]  # 160 bins in 8 seconds

    assert waiting[:20] == pytest.approx([4.0] * 20)
    assert waiting[20:80] == pytest.approx([8.0] * 60)
    assert set(waiting[81:]) == {8}, "no step ran, and so nobody was let in"


def test_pages_of_all_replicas_are_counted_together():
    run = a_run(30, num_replicas=2)
    over_time = report_data(run)["over_time"]
    sums = zip(*[over_time[f"pages_{name}"] for name in ("held", "idle", "free")], strict=True)
    totals = {round(sum(each)) for each in sums if None not in each}
    assert totals <= {40, 80} and 80 in totals, "of 40 pages each"


def test_what_happened_so_far_ends_as_the_summary(result):
    data = report_data(result)

    for name in ("recompute_tax", "hit_rate"):
        assert data["over_time"][name][-1] == pytest.approx(result.summary()[name]), name
        assert data["over_time"][name][-1] > 0


def test_goodput_is_the_share_that_kept_its_promises(result):
    requests, data = result.requests, report_data(result)["goodput"]
    kept = (requests.ttft <= requests.ttft_promised.fillna(np.inf)) & (
        requests.tpot.fillna(0) <= requests.tpot_promised
    )
    assert data["share_kept"] == pytest.approx(kept.mean())
    assert 0 < data["share_kept"] < 1
    within = [each is not None and each <= 1 for each in data["stretch"]]
    assert within == kept.tolist()
    assert data["kept_per_second"] == pytest.approx(result.summary()["goodput"])


def test_who_was_refused_kept_nothing():
    result = Result(ended=[a_request_record()], refused=[("b", "full")])
    assert report_data(result)["goodput"]["share_kept"] == 0.5


def test_a_stretch_is_the_worst_of_the_promises():
    # first token after 2 s, 1 s a token after that, all done after 6 s
    assert stretch(a_request_record(ttft_promised=4.0)) == 0.5
    assert stretch(a_request_record(ttft_promised=4.0, tpot_promised=0.25)) == 4.0
    assert stretch(a_request_record(deadline_promised=3.0, tpot_promised=1.0)) == 2.0
    assert stretch(a_request_record()) is None
    assert stretch(a_request_record(ttft_promised=9.0, finish_reason="abort")) is None


def test_fairness_is_of_what_each_client_got(result):
    data, requests = report_data(result)["fairness"], result.requests
    service = requests.num_prompt + 2 * requests.num_output
    by_client = service.groupby(requests.client).sum()

    assert data["service"] == by_client.to_dict()
    assert data["jain"] == pytest.approx(by_client.sum() ** 2 / (3 * (by_client**2).sum()))
    assert data["gap"] == by_client.max() - by_client.min()
    assert data["jain_over_time"][-1] == pytest.approx(data["jain"])


def test_the_picture_of_pages_is_the_trace(result):
    [trace], [data] = result.page_traces, report_data(result)["pages"]
    cells: list[list] = [[0, False, ()] for _ in range(trace.num_pages)]
    at = list(data["at"][:-1])  # where the next change of each page is
    for column, (_, expected) in enumerate(trace.replay()):
        for page, place in enumerate(at):
            if place < data["at"][page + 1] and data["changes"][place] == column:
                _, tokens, cached, count = data["changes"][place : place + 4]
                holders = data["changes"][place + 4 : place + 4 + count]
                cells[page] = [tokens, bool(cached), tuple(holders)]
                at[page] = place + 4 + count
        assert [tuple(cell) for cell in cells] == [tuple(cell) for cell in expected]
    assert at == data["at"][1:], "all of it was read"


def test_the_assets_come_with_the_package():
    names = {each.name for each in (files("jpaged.analysis") / "assets").iterdir()}
    assert {*SCRIPTS, "frame.html", "report.html", "report.css"} <= names


ACTIONS = """<script>
for (const canvas of document.querySelectorAll("canvas")) {
  const box = canvas.getBoundingClientRect();
  const at = (type, x, y) => canvas.dispatchEvent(new MouseEvent(type, { bubbles: true,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  for (const [type, x, y] of [["mousemove", .3, .3], ["mousedown", .3, .3], ["mousemove", .6, .6],
    ["mouseup", .6, .6], ["mousedown", .4, .4], ["mouseup", .4, .4], ["dblclick", .5, .5]])
    at(type, x, y);
  for (const key of ["+", "-", "ArrowLeft", "ArrowDown", "Enter", "Escape", "0"])
    canvas.dispatchEvent(new KeyboardEvent("keydown", { key }));
}
for (const select of document.querySelectorAll("select"))
  for (const option of select.options) {
    select.value = option.value;
    select.dispatchEvent(new Event("change"));
  }
for (const svg of document.querySelectorAll("svg"))
  for (const key of ["ArrowRight", "End", "Home"])
    svg.dispatchEvent(new KeyboardEvent("keydown", { key }));
document.getElementById("theme").click();
document.getElementById("log").click();
const canvas = document.querySelector("#picture canvas"), box = canvas.getBoundingClientRect();
const where = { clientX: box.left + 200, clientY: box.top + 100 };
canvas.dispatchEvent(new MouseEvent("mousemove", where));
</script>"""


@needs_browser
def test_a_browser_draws_it_without_a_complaint(text, tmp_path):
    page, complaints = in_browser(text.replace("</body>", ACTIONS + "</body>"), tmp_path)

    assert complaints == []
    assert page.count("<svg") == 4 + 6 + 1 + 3
    assert page.count("<canvas") == 2
    assert re.search(r'id="tip"[^>]*>page \d+, step \d+', page), "it says what is there"


@needs_browser
def test_a_browser_draws_a_run_in_which_nothing_came_of_anything(tmp_path):
    nobody = a_request_record(
        scheduled=None, first_token=None, last_token=None, num_output=0, finish_reason="abort"
    )
    report(Result(ended=[nobody]), tmp_path / "r.html")
    page, complaints = in_browser((tmp_path / "r.html").read_text(), tmp_path)

    assert complaints == [] and page.count("<canvas") == 1


def test_a_replica_that_idles_is_still_there_with_its_pages():
    """One of three serves for ten seconds, one for the first only, one never."""
    pages = {"pages_held": 6, "pages_idle": 1, "pages_free": 3}
    left = {"pages_held_after": 2, "pages_idle_after": 4}
    records = [a_step_record(i, i + 1, num_sequences=2, num_waiting=1, **pages) for i in range(10)]
    records.insert(1, a_step_record(0, 1, num_sequences=1, **pages, **left))
    result = Result(
        [a_request_record(last_token=10.0)],
        records,
        run_on=[0, 1, *[0] * 9],
        about={"num_replicas": 3, "num_pages": 10},
    )

    found = levels(Bins.over(result, count=5), result)

    assert found["num_sequences"] == [3, 2, 2, 2, 2] and found["num_waiting"] == [1] * 5
    assert found["pages_held"] == [12, 8, 8, 8, 8]
    assert found["pages_idle"] == [2, 5, 5, 5, 5]
    assert found["pages_free"] == [16, 17, 17, 17, 17]


def test_pages_of_a_cluster_are_always_as_many():
    result = a_run(9, num_replicas=4, trace_pages=False)
    found = levels(Bins.over(result), result)

    pages = zip(*(found[name] for name in ("pages_held", "pages_idle", "pages_free")), strict=True)
    assert [sum(each) for each in pages] == pytest.approx([4 * 40] * NUM_BINS)
    assert sum(each == 0 for each in found["num_waiting"]) > 0
