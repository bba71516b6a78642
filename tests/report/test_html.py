import re

import numpy as np

from zoobot_3d import io
from zoobot_3d.report.html import Card, Picture, Section, write_report


def test_page_needs_no_other_file_and_escapes_text(tmp_path):
    io.write_png(tmp_path / "p.png", np.zeros((4, 4, 3), np.uint8))
    sections = [
        Section(
            "A < B", "text", [["name", "value"], ["IoU > 0.2", "0.5"]], [Picture(tmp_path / "p.png", "in <i>px</i>")]
        )
    ]
    write_report(tmp_path / "r.html", "Title", "lead", sections)
    page = (tmp_path / "r.html").read_text()
    assert "<h2>A &lt; B</h2>" in page and "<td>IoU &gt; 0.2</td><td>0.5</td>" in page
    assert re.findall(r'src="([^"]{10})', page) == ["data:image"]
    assert "<figcaption>in <i>px</i></figcaption>" in page


def test_cards_and_commands_are_escaped_and_a_notice_is_shown(tmp_path):
    section = Section("Next", commands=[("<b>One</b>", 'run "a" > b')])
    cards = [Card("a < b", "0.5", "of 1", "bar")]
    write_report(tmp_path / "r.html", "Title", "lead", [section], cards=cards, notice="wait")
    page = (tmp_path / "r.html").read_text()
    assert "<dt><b>One</b></dt>" in page and "run &quot;a&quot; &gt; b" in page
    assert '<span>a &lt; b</span><b class="bar">0.5</b>' in page and '<p class="notice">wait</p>' in page
