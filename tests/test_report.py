"""The report: figures as people read them, what is said first, and a page that stands alone."""

import json
import re

import pytest

import record_example
from paredown.errors import OutputError, SettingError
from paredown.report import charts, formats, layers, notices, read_record, render, summary, write


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formats.count(None), "unknown"),
        (formats.count(0), "0"),
        (formats.count(9408), "9,408"),
        (formats.count(454_922), "454.9 k"),
        (formats.count(999_960), "1.000 M"),
        (formats.count(11_065_088), "11.07 M"),
        (formats.size(512), "512 bytes"),
        (formats.size(1_823_000), "1.82 MB"),
        (formats.size(None), "unknown"),
        (formats.ms(0.04213), "0.0421 ms"),
        (formats.ms(148.2), "148 ms"),
        (formats.factor(10.7267), "10.7 ×"),
        (formats.factor(None), "unknown"),
        (formats.digits(12345.6), "12,300"),
        (formats.digits(float("inf")), "∞"),
        (formats.digits(float("nan")), "not a number"),
        (formats.digits(-0.5), "−0.500"),
        (formats.score(0.98991, "accuracy"), "98.99 %"),
        (formats.score(0.0631, "output_error"), "0.06310"),
        (formats.score_change(0.9914, 0.9899, "accuracy"), "−0.15 points"),
        (formats.score_change(0.99, 0.99, "accuracy"), "±0.00 points"),
        (formats.score_change(0.0, 0.0631, "output_error"), "+0.0631"),
        (formats.score_change(None, 0.9, "accuracy"), "unknown"),
        (formats.seconds(210), "3.5 min"),
        (formats.shape((28, 28, 16)), "28 × 28 × 16"),
    ],
)
def test_formats(shown, expected):
    assert shown == expected


def test_rows_hold_the_ratio_before_to_after():
    found = {row.label: row for row in summary.rows(record_example.classifier())}
    assert found["MACs"].factor == f"{11_070_000 / 1_032_000:.1f} ×"
    assert found["File"].factor == f"{1_823_000 / 54_100:.1f} ×"
    assert found["Latency"].factor == "8.10 ×"
    assert found["Latency"].spread == f"{0.93 * 8.1:.2f} to {1.06 * 8.1:.2f}"
    assert found["Accuracy"].factor == f"−{100 * (0.9914 - 0.9899):.2f} points"


def test_a_ratio_below_one_is_said_the_other_way_round():
    latency = {row.label: row for row in summary.rows(record_example.large())}["Latency"]
    assert (latency.factor, latency.means, latency.worse) == (f"{1 / 0.862:.2f} ×", "slower", True)
    assert latency.spread == f"{1 / (1.06 * 0.862):.2f} to {1 / (0.93 * 0.862):.2f}"


def test_unknown_figures_are_unknown_not_zero():
    record = record_example.classifier()
    for key in ("score", "macs", "params", "size_bytes", "zipped_bytes", "latency_ms", "peak_activation_bytes"):
        record["compressed"][key] = None
    record["latency"]["rows"] = []
    for row in summary.rows(record):
        assert (row.after, row.factor, row.worse) == ("unknown", "unknown", False), row.label
    assert "Latency was not measured: unknown." in render(record)


def test_no_notice_where_all_went_well():
    assert notices.notices(record_example.classifier()) == []


def test_notices_name_the_failed_check_the_slow_step_and_the_slow_result():
    titles = [notice.title for notice in notices.notices(record_example.large())]
    assert titles == [
        "A check failed: dynamic file equals the Keras model (export)",
        f"dynamic export made the network {1.85 / 0.862:.2f} × slower",
        f"The compressed network is {1 / 0.862:.2f} × slower than the original",
    ]


def test_notice_where_the_spread_leaves_it_open():
    record = record_example.classifier()
    record["latency"]["rows"][1] |= {"speedup_median": 0.99, "speedup_p10": 0.9, "speedup_p90": 1.1}
    (notice,) = notices.notices(record)
    assert notice.title == "The compressed network is not measurably faster than the original"


def test_notice_where_a_step_adds_macs():
    record = record_example.classifier()
    record["steps"][1]["macs"] = 2 * 1_032_000
    (notice,) = notices.notices(record)
    assert (notice.title, notice.text) == ("Step 2, fine_tune, added MACs", "1.032 M became 2.064 M.")


def test_skips_are_grouped_by_reason_with_the_commonest_first():
    record = record_example.large()
    groups = summary.skip_groups(record)
    followers = [row for row in record["layers"] if row["kind"] == "BatchNormalization"]
    assert (groups[0][0], len(groups[0][1])) == ("follows a grouped convolution", len(followers))
    assert sum(len(members) for _, members in groups) == len(followers) + 2 + 1


def test_the_table_says_what_could_be_removed_and_why_not():
    record = record_example.classifier()
    record["layers"][0] |= {"removable": 17, "why": "it <b>is</b> spread"}
    assert '<td class="num">17</td><td class="soft small">it &lt;b&gt;is&lt;/b&gt; spread</td>' in render(record)


def test_bars_are_the_costliest_layers_in_network_order():
    record = record_example.large()
    shown = [bar.name for bar in layers.bars(record["layers"])]
    order = [row["name"] for row in record["layers"] if row["name"] in set(shown)]
    left_out = [row["macs_before"] or 0 for row in record["layers"] if row["name"] not in set(shown)]
    least = min(row["macs_before"] for row in record["layers"] if row["name"] in set(shown))
    assert len(shown) == layers.MOST_BARS
    assert shown == order
    assert least >= max(left_out)


def test_layers_that_came_or_went_have_no_figure_rather_than_an_unknown_one():
    new = {**record_example.layer("conv_vertical", "Conv2D", (None, 100), (None, 10), (None, 8))}
    gone = {**record_example.layer("conv", "Conv2D", (300, None), (30, None), (16, None))}
    first, second = layers.bars([gone, new])
    assert (first.macs.before, first.macs.after, first.channels.after) == ("300", "–", "–")
    assert (second.macs.before, second.macs.after, second.channels.before) == ("–", "100", "–")
    record = record_example.classifier()
    record["layers"] += [gone, new]
    assert "300 → –" in render(record)


def test_bars_are_relative_to_the_longest_and_absent_where_unknown():
    found = {bar.name: bar for bar in layers.bars(record_example.classifier()["layers"])}
    longest = 28 * 28 * 9 * 32 * 32
    assert found["conv2"].macs.before_percent == 100.0
    assert found["conv3"].macs.before_percent == round(100 * 14 * 14 * 9 * 32 * 64 / longest, 2)
    assert (found["mystery"].macs.before, found["mystery"].macs.before_percent) == ("unknown", None)
    assert "relu1" not in found


def test_charts_are_valid_plotly_once_colours_are_put_in():
    import plotly.graph_objects as go

    for record in (record_example.classifier(), record_example.large()):
        for chart in (charts.score_chart(record), charts.latency_chart(record)):
            plain = re.sub(r'"--\w+"', '"#123456"', json.dumps(chart))
            assert len(go.Figure(json.loads(plain)).data) == len(json.loads(plain)["data"])


def test_score_chart_starts_at_the_original_and_ends_at_the_file():
    chart = charts.score_chart(record_example.classifier())
    assert chart is not None
    (trace,) = chart["data"]
    assert trace["y"] == [100 * value for value in (0.9914, 0.9121, 0.9902, 0.9899)]
    assert (trace["x"][0], trace["x"][-1]) == ("original", "exported<br>file")


def test_score_chart_needs_two_known_points():
    record = record_example.classifier()
    record["steps"], record["compressed"]["score"] = [], None
    assert charts.score_chart(record) is None
    assert 'id="chart-score"' not in render(record)


def test_latency_chart_holds_every_run_and_counts_those_beyond_its_axis():
    record = record_example.classifier()
    chart = charts.latency_chart(record)
    assert chart is not None
    dots = [trace for trace in chart["data"] if trace["mode"] == "markers"]
    assert [len(trace["x"]) for trace in dots] == [50, 50]
    end = 1.2 * 1.05 * 0.842
    beyond = [time for row in record["latency"]["rows"] for time in row["times_ms"] if time > end]
    assert charts.runs_beyond(record) == len(beyond) > 0


def test_page_stands_alone():
    page = render(record_example.classifier())
    ours = page.replace(_plotly(), "")
    assert page.count(_plotly()) == 1
    assert "default-src 'none'" in ours
    assert not re.findall(r"""(?:src|href|action)\s*=\s*["']?(?!data:)[^"'\s>]+|url\(|@import|https?://""", ours)


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def test_page_shows_what_a_reader_looks_for():
    page = render(record_example.large())
    for text in ("1.16 ×", "✗ failed", "27 × follows a grouped convolution", "lower is better", "Adam", "2.3.0"):
        assert text in page, text
    assert "23 November 2026, 10:00 UTC" in page
    assert "paredown compress classifier.keras --data mnist" in page


def test_all_text_is_escaped():
    record = record_example.classifier()
    evil = "<script>alert(1)</script>\"'&"
    record["layers"][0]["name"] = record["model"]["name"] = record["data"]["name"] = evil
    record["steps"][0]["skips"].append({"layer": evil, "reason": evil})
    record["steps"][0]["name"] = record["latency"]["rows"][1]["label"] = evil
    record["steps"][0]["settings"] = {evil: evil}
    record["recipe"] = record["command"] = record["environment"]["cpu"] = evil
    record["export"]["checks"][0]["name"] = evil
    page = render(record).replace(_plotly(), "")
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 3
    assert "&lt;script&gt;alert(1)&lt;/" in page


def test_written_page_replaces_the_older_one_and_leaves_nothing_beside(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("older")
    write(record_example.classifier(), page)
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_page_that_cannot_be_written_names_the_place(tmp_path):
    with pytest.raises(OutputError, match=re.escape(str(tmp_path / "nowhere"))):
        write(record_example.classifier(), tmp_path / "nowhere" / "report.html")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "must be JSON"),
        ("[]", "schema=None"),
        ('{"schema": 7}', "schema=7"),
        ('{"schema": 1}', "must hold model, data"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path, content, message):
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingError, match=message):
        read_record(path)


def test_record_round_trips_through_its_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record_example.large()))
    assert read_record(path) == record_example.large()
