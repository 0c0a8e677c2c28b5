"""The measured part of a page."""

import pytest

from protocol.errors import ConfigError
from vhost_gpu.bench.page import BEGIN, END, check_page, picture_from, update_page


def test_only_what_is_between_the_marks_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("new\n", "newer\n"):
        check_page(page)
        update_page(page, text)
        assert page.read_text() == f"before\n{BEGIN}\n{text}{END}\nafter\n"


def test_a_page_is_made(tmp_path):
    page = tmp_path / "page.md"
    check_page(page)
    update_page(page, "new\n")
    assert page.read_text() == f"{BEGIN}\nnew\n{END}\n"


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_page_without_marks_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ConfigError, match="has no part between"):
        check_page(page)
    assert page.read_text() == text


def test_a_page_needs_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        check_page(tmp_path / "none" / "page.md")


def test_the_picture_is_named_from_where_the_page_is(tmp_path):
    assert picture_from(tmp_path / "docs/page.md", tmp_path / "docs/images/x.png") == "images/x.png"
