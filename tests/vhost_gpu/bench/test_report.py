"""The table, its Markdown and the JSON document."""

import json

import pytest

from tests.vhost_gpu.bench.reportkit import TRIP, empty_results, measured, results
from vhost_gpu.bench.report import document, legend, markdown, number, quantity, table
from vhost_gpu.bench.results import from_json
from vhost_gpu.bench.summary import sections


def lines(found, **how):
    return table(found, sections(found), **how).splitlines()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0001, "< 0.001"),
        (0.001, "0.001"),
        (0.0567, "0.057"),
        (0.5, "0.500"),
        (1, "1.00"),
        (12.345, "12.3"),
        (123.4, "123"),
        (999.7, "1,000"),
        (1234567.8, "1,234,568"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_a_quantity_without_a_unit():
    assert (quantity(2.5, ""), quantity(2.5, "ms")) == ("2.50", "2.50 ms")


def test_the_table_against_a_rival():
    text = lines(results())
    cells = next(line for line in text if line.startswith("  Round trip")).split()
    assert " ".join(cells) == (
        "Round trip, p50 11.0 us 20.0 us 0.550 0.525 to 0.575 5.00 us (2.20x) <= 0.8 pass, <= 2x limit MISS"
    )
    assert next(line for line in text if line.startswith("Targets:")) == "Targets: 3 met, 1 missed"


def test_every_row_is_below_its_scenario():
    names = [line.strip().split("  ")[0] for line in lines(results())]
    start = names.index("Title of round-trip")
    assert names[start : start + 5] == [
        "Title of round-trip",
        "Round trip, p50",
        "Title of frames-1920x1080-scattered",
        "Frames a second",
        "CPU a frame",
    ]


def test_the_table_of_one_alone():
    text = "\n".join(lines(results(versus=False)))
    assert "ratio" not in text
    assert "Round trip, p50 11.0 us 10.5 to 11.5 5.00 us (2.20x) <= 2x limit MISS" in " ".join(text.split())
    assert "vhost-user-gpu" not in text


def test_the_heading_says_what_on_what():
    text = "\n".join(lines(results())[:6])
    for part in ("Some CPU, 2 cores, 4 GiB", "Linux 6.1", "ours = vhost-gpu: /bin/ours", "alternating pairs: 2, 1 s"):
        assert part in text


def test_a_failure_is_reported_with_its_reason():
    found = empty_results()
    found.scenarios = [measured("edid", TRIP, [(1.0, 1.0)], failures={"theirs": "it died (in run 1)"})]
    assert "vhost-user-gpu failed at edid: it died (in run 1)" in lines(found)
    assert "- vhost-user-gpu failed at edid: it died (in run 1)" in markdown(found, sections(found))


def test_a_short_measurement_says_so():
    found = results()
    assert "cut short" not in "".join(lines(found))
    found.complete = False
    assert "cut short" in lines(found)[-1]


def test_nothing_measured_at_all():
    assert "vhost-gpu" in "\n".join(lines(empty_results()))


def test_colours_only_where_they_are_wanted():
    assert "\x1b" not in "".join(lines(results()))
    assert "\x1b[31mMISS\x1b[0m" in "".join(lines(results(), colour=True))


def test_one_sample_has_no_spread():
    found = empty_results()
    found.scenarios = [measured("x", TRIP, [(1.0, 2.0)], [(4.0, 2.0)])]
    row = next(line for line in lines(found) if line.startswith("  Round trip"))
    assert row.split()[-4:] == ["-", "2.00", "us", "(0.500x)"]


def test_markdown_is_a_table():
    text = markdown(results(), sections(results()), "images/x.png").splitlines()
    rows = [line for line in text if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}
    assert rows[0] == "|  | vhost-gpu | vhost-user-gpu | ratio | spread | limit | target |"
    assert rows[2] == "| **Title of round-trip** |  |  |  |  |  |  |"
    assert any("](images/x.png)" in line for line in text)
    assert "![" not in markdown(results(), sections(results()))


def test_the_document_has_samples_and_results():
    found = json.loads(json.dumps(document(results(), sections(results()))))
    assert from_json(found) == results()
    trip = found["summary"]["round-trip"]["p50"]
    assert trip["ratio"]["median"] == pytest.approx(0.55)
    assert [target["met"] for target in trip["targets"]] == [True, False]


def test_the_legend_explains_ratios_where_there_are_any():
    assert "ratio" in legend(results())
    assert "ratio" not in legend(results(versus=False))
