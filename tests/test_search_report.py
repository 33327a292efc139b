"""The report's sections of a search: the verdict, the plot and its recipes, the steps, the network's outline."""

import html
import json
import re
import shutil

import pytest

import record_example
import search_example
from paredown.report import axes, formats, notices, pareto, render, search, steps, structure, trials, write

PATIENCE_MS = 90_000
EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>%{x}"


def ours(page: str) -> str:
    """The page without plotly's own script."""
    from plotly.offline import get_plotlyjs

    return page.replace(get_plotlyjs(), "")


def figures(page: str) -> dict:
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])


# The verdict


def test_sections_of_a_search_stand_there_only_where_there_was_one():
    for text in ("What the search found", "What was tried", 'id="chart-pareto"', "The front", "Finalists, measured"):
        assert text in render(search_example.record())
        assert text not in render(record_example.classifier())
    assert "pareto" not in figures(render(record_example.classifier()))


def test_limits_with_what_was_reached():
    rows = search.asked(search_example.search())
    assert [row.label for row in rows] == ["Latency", "File", "Accuracy lost"]
    assert [row.asked for row in rows] == ["0.5x", "1 MB", "0.01"]
    assert [row.limit for row in rows] == [formats.ms(0.5 * 0.842), "1.00 MB", "1.00 points"]
    assert [(row.met, row.missed) for row in rows] == [(True, "")] * 3


def test_a_missed_limit_is_said_at_the_top_with_the_nearest_thing():
    found = search_example.missed()
    notice = notices.notices(found)[0]
    assert notice.title == "The search could not meet its limits"
    assert f"Latency 0.123 ms where at most 0.100 ms was asked ({100 * (0.123 / 0.1 - 1):.0f} % over)" in notice.text
    assert f"Accuracy lost 1.23 points where at most 1.00 points was asked ({1.23 - 1:.2f} points more)" in notice.text
    assert "File" not in notice.text
    page = render(found)
    assert "✗ No recipe meets all limits." in page
    assert page.count("✗ missed") == 2
    assert page.count("✓ met") == 1


def test_a_limit_of_which_nothing_is_known_is_neither_met_nor_missed():
    found = search_example.missed()
    found["search"]["limits"][0]["reached"] = found["search"]["drop"] = None
    rows = search.asked(found["search"])
    assert [row.met for row in rows] == [None, True, None]
    assert (rows[0].reached, rows[2].reached) == ("unknown", "unknown")
    assert "Latency unknown where at most 0.100 ms was asked" in search.nearest(found["search"])
    render(found)


@pytest.mark.parametrize(
    ("value", "metric", "expected"),
    [
        (0.0042, "accuracy", "0.42 points"),
        (-0.001, "accuracy", "0.10 points gained"),
        (0.0631, "output_error", "0.0631"),
        (0.0631, "mean_squared_error", "6.31 %"),
        (None, "accuracy", "unknown"),
    ],
)
def test_losses_in_words(value, metric, expected):
    assert search.lost(value, metric) == expected


def test_facts_count_the_stages():
    found = search_example.search(60)
    stages = [row["stage"] for row in found["trials"]]
    expected = f"60 recipes tried in 21 min: {stages.count('cheap')} judged without training, "
    expected += f"{stages.count('short')} fine-tuned briefly, {stages.count('long')} fine-tuned longer, "
    assert search.facts(found).startswith(expected + "3 of them measured, 1 failed.")
    assert search.counted(1, "recipe") == "1 recipe"


# The plot


def test_only_costs_that_a_trial_has_can_be_chosen_and_the_limits_comes_first():
    found = search_example.search()
    assert pareto.costs(found) == ["latency_ms", "size_bytes", "macs"]
    found["limits"] = [{**found["limits"][0], "figure": "macs"}]
    assert pareto.costs(found)[0] == "macs"
    for row in found["trials"]:
        row["latency_ms"] = None
    found["finalists"] = []
    assert pareto.costs(found) == ["macs", "size_bytes"]
    assert 'data-choice="latency_ms"' not in render(search_example.unlabelled())


def test_every_trial_with_a_score_is_a_point_once_and_finalists_lie_where_they_were_measured():
    found = search_example.search()
    chart = pareto.chart(found, trials.trials(found))
    points = {
        place: x
        for trace, over in zip(chart["data"], chart["views"]["x"]["latency_ms"]["data"], strict=True)
        for place, x in zip(trace.get("customdata", ()), over["x"], strict=False)
        if place is not None
    }
    scored = [place for place, row in enumerate(found["trials"]) if row["score"] is not None]
    assert sorted(place for place, x in points.items() if x is not None) == scored
    assert sum(len(trace.get("customdata", ())) for trace in chart["data"]) == len(found["trials"]) + 1
    for one in found["finalists"]:
        assert points[one["number"]] == one["latency_ms"] != found["trials"][one["number"]]["latency_ms"]


def test_the_front_rises_with_its_cost_and_no_marked_trial_lies_beyond_it():
    found = search_example.search()
    for better, rows in ((True, found["trials"]), (False, search_example.unlabelled()["search"]["trials"])):
        sign = 1 if better else -1
        steps_of = pareto.front(rows, "macs", better)
        assert steps_of == sorted(steps_of, key=lambda step: (step[0], sign * step[1]))
        for row in (row for row in rows if row["front"]):
            assert max(sign * score for cost, score in steps_of if cost <= row["macs"]) >= sign * row["score"]


def test_limits_are_lines_on_their_own_axis_and_the_loss_on_all():
    views = pareto.chart(search_example.search(), trials.trials(search_example.search()))["views"]["x"]
    assert [len(views[cost]["layout"]["shapes"]) for cost in ("latency_ms", "size_bytes", "macs")] == [2, 2, 1]
    upright, level = views["latency_ms"]["layout"]["shapes"]
    assert (upright["x0"], level["y0"]) == (0.5 * 0.842, pytest.approx(100 * (0.9914 - 0.01)))


@pytest.mark.parametrize(
    ("metric", "before", "expected"),
    [("output_error", 0.0, 0.02), ("mean_squared_error", 0.5, 0.5 * (1 + 0.02)), ("accuracy", 0.9, 0.9 - 0.02)],
)
def test_the_loss_that_is_allowed_is_a_score(metric, before, expected):
    found = {"metric": {"name": metric, "higher_is_better": metric == "accuracy"}, "max_drop": 0.02}
    assert axes.worst(found | {"original": {"score": before}}) == pytest.approx(expected)


def test_the_heat_map_stands_there_where_a_scan_was_made():
    record = search_example.record(8)
    assert "heat-map" not in figures(render(record))
    record["search"]["scan"] = search_example.scan()
    page = render(record)
    assert figures(page)["heat-map"]["data"]
    assert 'id="chart-heat-map"' in page
    assert "Latency was not measured." in page


def test_scores_near_the_limit_come_first_and_leave_out_what_is_counted():
    found = search_example.search()
    views = pareto.chart(found, trials.trials(found))["views"]["y"]
    low, high = (end / 100 for end in views["near"]["layout"]["yaxis"]["range"])
    scores = [row["score"] for row in found["trials"] if row["score"] is not None]
    assert axes.beyond(found) == sum(not low <= score <= high for score in scores) > 0
    chosen = next(row for row in found["trials"] if row["number"] == found["chosen"])
    assert low < chosen["score"] < high
    low, high = (end / 100 for end in views["all"]["layout"]["yaxis"]["range"])
    assert all(low < score < high for score in scores)


@pytest.mark.parametrize(("most", "kind"), [(2.0, "linear"), (50.0, "log"), (1e5, "log")])
def test_ticks_are_few_and_within_the_axis(most, kind):
    span = axes.span([1.0, most, None, float("inf")])
    ticks = axes.ticks(span, formats.ms)
    assert span["type"] == kind
    assert 2 <= len(ticks["tickvals"]) <= 6
    assert len(set(ticks["ticktext"])) == len(ticks["tickvals"])


def test_charts_are_valid_plotly_in_every_view():
    import plotly.graph_objects as go

    for record in (search_example.record(), search_example.unlabelled(), search_example.record(1)):
        chart = json.loads(re.sub(r'"--\w+"', '"#123456"', json.dumps(figures(render(record))["pareto"])))
        for x in chart["views"]["x"].values():
            for y in chart["views"]["y"].values():
                data = [{**trace, **over} for trace, over in zip(chart["data"], x["data"], strict=True)]
                drawn = go.Figure({"data": data, "layout": {**chart["layout"], **x["layout"], **y["layout"]}})
                assert len(drawn.data) == len(chart["data"])


def test_unknown_and_infinite_figures_leave_the_page_whole():
    record = search_example.record(8)
    found = record["search"]
    found["trials"][0] |= {"score": float("nan"), "latency_ms": None, "drop": None, "seconds": None}
    found["trials"][1] |= {"score": float("inf"), "params": None, "drop_error": None}
    found["original"] = dict.fromkeys(found["original"])
    found |= {"max_drop": None, "judged_rows": None, "seconds": None, "finalists": [], "chosen": None, "device": None}
    found |= {"limits": [], "methods": []}
    page = render(record)
    assert not re.search(r"\b(NaN|Infinity)\b", re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)[1])
    for row in found["trials"]:
        row["score"] = None
    assert "there is nothing to plot" in render(record)
    record["search"]["trials"] = []
    assert "0 recipes tried" in render(record)


# The recipes


@pytest.mark.parametrize("record", [search_example.record(), search_example.record(3), search_example.unlabelled()])
def test_every_trials_recipe_is_on_the_page(record):
    page = ours(render(record))
    for place, row in enumerate(record["search"]["trials"]):
        (shown,) = re.findall(rf'<pre id="recipe-{place}">(.*?)</pre>', page, re.DOTALL)
        assert html.unescape(shown) == row["recipe"]
        assert page.count(f'data-copy="recipe-{place}"') == 1


def test_of_very_many_trials_the_front_and_the_tuned_ones_keep_their_recipes_and_the_page_says_so():
    record = search_example.record(700)
    page = ours(render(record))
    rows = record["search"]["trials"]
    kept = {place for place, row in enumerate(rows) if row["front"] or row["stage"] != "cheap"}
    kept |= {one["number"] for one in record["search"]["finalists"]}
    assert {int(place) for place in re.findall(r'<pre id="recipe-(\d+)"', page)} == kept
    failed = {place for place, row in enumerate(rows) if row["state"] == "failed"}
    assert f"The recipes of {700 - len(kept | failed):,} more trials" in page
    assert len(page.encode()) < 1_000_000


def test_a_failed_trial_says_why():
    record = search_example.record(8)
    record["search"]["trials"][2]["reason"] = "the <device> went away"
    assert "<dt>Failed</dt><dd>the &lt;device&gt; went away</dd>" in render(record)


def test_hostile_text_is_escaped_everywhere():
    record = search_example.missed(8)
    found = record["search"]
    for row in found["trials"]:
        row |= dict.fromkeys(("label", "recipe", "reason"), EVIL)
    found |= dict.fromkeys(("verdict", "strategy", "device"), EVIL) | {"methods": [EVIL]}
    found["limits"][0]["asked"] = EVIL
    record["layers"][0] |= {"name": EVIL, "kind": EVIL}
    record["steps"][0] |= {"name": EVIL, "settings": {EVIL: EVIL}}
    page = ours(render(record))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 4
    for trace in figures(page)["pareto"]["data"]:
        assert "<img" not in str(trace.get("text"))
        assert "<script" not in str(trace.get("text"))


def test_the_page_of_a_search_asks_for_nothing():
    page = ours(render(search_example.record()))
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:)[^"'\s>]+|url\(|@import|https?://""", page)


# The steps and the outline


def test_steps_tell_what_each_gave_and_cost():
    record = record_example.classifier()
    record["latency"]["rows"].insert(1, record_example.latency_row("1 prune_channels", 0.21, 4.0))
    original, pruned, tuned, exported = steps.steps(record)
    assert (original.macs.value, original.macs.change, original.took) == ("11.07 M", "", "")
    assert (pruned.macs.value, pruned.macs.change) == ("1.032 M", f"{11_070 / 1_032:.1f} × fewer")
    assert pruned.score.change == f"−{100 * (0.9914 - 0.9121):.2f} points"
    assert (pruned.latency.value, pruned.latency.change, pruned.took) == ("0.210 ms", "4.00 × faster", "3.2 s")
    assert (tuned.latency.value, tuned.macs.change) == ("–", "")
    assert (exported.latency.change, exported.settings) == (f"{8.1 / 4.0:.2f} × faster", "int8")
    assert steps.seconds(record) == pytest.approx(3.21 + 41.7)
    for text in ("What each step gave and cost", "4.00 × faster", "All steps took 45 s"):
        assert text in render(record)


def test_steps_that_were_undone_or_made_slower_are_told_apart():
    record = record_example.classifier()
    record["latency"]["rows"][1] |= {"speedup_median": 0.5}
    record["steps"][0] |= {"undone": {"before_ms": 1.0, "after_ms": 2.0, "speedup": 0.5}}
    _, pruned, _, exported = steps.steps(record)
    assert (pruned.note, pruned.latency.value) == ("undone: slower", "–")
    assert exported.latency.change == "2.00 × slower"


def test_the_outline_marks_layers_that_came_and_went():
    layer = record_example.layer
    rows = [
        layer("conv1", "Conv2D", (900, 450), (30, 15), (64, 16)),
        layer("relu1", "ReLU", (0, 0), (0, 0), (64, 16)),
        layer("conv2", "Conv2D", (900, None), (30, None), (64, None)),
        layer("conv2_vertical", "Conv2D", (None, 90), (None, 3), (None, 4)),
        layer("scores", "Dense", (10, 10), (10, 10), (16, 16)),
    ]
    drawn = structure.outline(rows)
    assert [column.state for column in drawn.columns] == ["kept", "removed", "new", "kept"]
    assert [(column.before, column.after) for column in drawn.columns] == [
        (100, 100 * (16 / 64) ** 0.5),
        (100, None),
        (None, 100 * (4 / 64) ** 0.5),
        (50, 50),
    ]
    assert drawn.text == "4 layers with MACs: 1 narrower, 1 new, 1 removed."
    page = render({**record_example.classifier(), "layers": rows})
    assert "conv2 (Conv2D): removed, had 64 channels" in page
    assert '<em class="state new">new</em>' in page


# In a browser


@pytest.fixture(scope="module")
def chromium():
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """opened(record, width) -> the page as a file in a browser; errors of its scripts fail the test."""
    contexts, errors = [], []

    def open_(record: dict, width: int = 375, **settings):
        write(record, tmp_path / "report.html")
        contexts.append(chromium.new_context(viewport={"width": width, "height": 800}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or errors.append(request.url)
        )
        page.goto((tmp_path / "report.html").as_uri())
        page.wait_for_selector("#chart-pareto .points path", state="attached")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []


def where(page, place: int) -> tuple[float, float]:
    """A trial's point, in pixels from the window's corner, scrolled into view."""
    page.locator("#chart-pareto").scroll_into_view_if_needed()
    return tuple(
        page.evaluate(
            """place => {
              const plot = document.getElementById("chart-pareto"), box = plot.getBoundingClientRect();
              const {xaxis, yaxis} = plot._fullLayout;
              for (const trace of plot.data) {
                const i = trace.customdata ? trace.customdata.indexOf(place) : -1;
                if (i >= 0) return [box.left + xaxis._offset + xaxis.d2p(trace.x[i]),
                                    box.top + yaxis._offset + yaxis.d2p(trace.y[i])];
              }
            }""",
            place,
        )
    )


def lonely(record: dict) -> int:
    """A tuned trial within the scores shown first that no other lies close to."""
    rows, (low, high) = record["search"]["trials"], axes.near(record["search"])
    shown = [p for p, row in enumerate(rows) if row["score"] is not None and low < row["score"] < high]

    def distance(p: int) -> float:
        scores = [(rows[p]["score"] - rows[o]["score"]) / (high - low) for o in shown if o != p]
        costs = [4 * (rows[p]["latency_ms"] - rows[o]["latency_ms"]) for o in shown if o != p]
        return min(a * a + b * b for a, b in zip(scores, costs, strict=True))

    taken = {one["number"] for one in record["search"]["finalists"]}
    return max((p for p in shown if p not in taken), key=distance)


@pytest.mark.parametrize("touch", [False, True])
def test_touching_a_point_opens_its_recipe(opened, touch):
    record = search_example.record()
    page = opened(record, 375 if touch else 1280, has_touch=touch, is_mobile=touch)
    rows, chosen = record["search"]["trials"], record["search"]["chosen"]
    assert page.locator("#opened-recipe").text_content() == rows[chosen]["recipe"]
    place = lonely(record)
    (page.touchscreen.tap if touch else page.mouse.click)(*where(page, place))
    page.wait_for_function(
        "text => document.getElementById('opened-recipe').textContent === text", arg=rows[place]["recipe"]
    )
    assert f"Trial {rows[place]['number']}" in page.locator("#opened-title").text_content()
    assert rows[place]["label"] in page.locator("#opened-label").text_content()
    assert formats.count(rows[place]["params"]) in page.locator("#opened-figures").text_content()
    page.locator("[data-copy=opened-recipe]").click()
    page.wait_for_function(
        "() => /Copied|Selected/.test(document.querySelector('[data-copy=opened-recipe]').textContent)"
    )


def test_buttons_choose_the_cost_and_the_scores(opened):
    page = opened(search_example.record())
    title = "document.getElementById('chart-pareto').layout.xaxis.title.text"
    low = "document.getElementById('chart-pareto').layout.yaxis.range[0]"
    assert page.evaluate(title) == pareto.COSTS["latency_ms"]
    before = page.evaluate(low)
    for name, cost in (("File", "size_bytes"), ("MACs", "macs")):
        page.get_by_role("button", name=name, exact=True).click()
        page.wait_for_function(f"() => {title} === {pareto.COSTS[cost]!r}")
        assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
    page.get_by_role("button", name="All scores").click()
    page.wait_for_function(f"() => {low} < {before} - 5")
    assert not page.locator("#beyond").is_visible()
    assert page.evaluate(title) == pareto.COSTS["macs"]


def test_recipes_open_by_the_keyboard(opened):
    record = search_example.record(30)
    page = opened(record, 1280)
    first = page.locator(".trials details").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.locator("pre").is_visible()


@pytest.mark.parametrize("make", [search_example.record, search_example.missed, search_example.unlabelled])
def test_nothing_is_wider_than_a_phone(opened, make):
    record = make()
    record["search"]["trials"][0]["label"] = "substitute " + "a_very_long_layer_name/" * 12
    page = opened(record, 375, color_scheme="dark")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_hostile_text_runs_nothing(opened):
    record = search_example.record(12)
    for row in record["search"]["trials"]:
        row |= {"label": EVIL, "recipe": EVIL}
    page = opened(record, 1280)
    place = record["search"]["chosen"]
    page.mouse.move(*where(page, place))
    page.wait_for_selector("#chart-pareto .hoverlayer .hovertext")
    assert "<img" in page.locator("#chart-pareto .hoverlayer").text_content()
    assert page.locator("#opened-recipe").text_content() == EVIL
    assert page.locator("img").count() == 0
