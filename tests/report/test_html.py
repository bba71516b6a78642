import re

import numpy as np

from zoobot_3d import io
from zoobot_3d.report.html import Section, write_report


def test_page_needs_no_other_file_and_escapes_text(tmp_path):
    io.write_png(tmp_path / "p.png", np.zeros((4, 4, 3), np.uint8))
    sections = [Section("A < B", "text", [["name", "value"], ["IoU > 0.2", "0.5"]], [tmp_path / "p.png"])]
    write_report(tmp_path / "r.html", "Title", "lead", sections)
    page = (tmp_path / "r.html").read_text()
    assert "<h2>A &lt; B</h2>" in page and "<td>IoU &gt; 0.2</td><td>0.5</td>" in page
    assert re.findall(r'src="([^"]{10})', page) == ["data:image"]
