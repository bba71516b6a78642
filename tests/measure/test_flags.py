import numpy as np
import pytest

from doc_pages import text
from zoobot_3d.errors import ConfigError
from zoobot_3d.measure.columns import ARM_COLUMNS, GALAXY_COLUMNS, LIGHT_COLUMNS, columns_table
from zoobot_3d.measure.flags import FLAGS, bits, decode_flags, flags_table


def test_every_bit_and_name_is_there_once():
    assert [flag.bit for flag in FLAGS] == list(range(len(FLAGS)))
    assert len({flag.name for flag in FLAGS}) == len(FLAGS)


def test_the_decoder_says_what_was_set():
    assert decode_flags(0) == ()
    assert decode_flags(2 + 2048) == ("no_scale", "bar_cut")
    assert decode_flags(np.array([0, bits("ring", "no_bar")])) == [(), ("no_bar", "ring")]


@pytest.mark.parametrize("value", [-1, 1 << len(FLAGS), 1.5])
def test_what_is_no_flag_is_refused(value):
    with pytest.raises(ConfigError):
        decode_flags(value)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no flag 'bars'.*bar_cut"):
        bits("bars")


def test_the_table_has_a_line_for_each():
    assert len(flags_table().splitlines()) == len(FLAGS) + 2


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("galaxy columns", columns_table(GALAXY_COLUMNS)),
        ("arm columns", columns_table(ARM_COLUMNS)),
        ("light columns", columns_table(LIGHT_COLUMNS)),
        ("flags", flags_table()),
    ],
)
def test_the_documentation_has_the_registry(name, table):
    page = text("docs/measure.md")
    found = page.partition(f"<!-- registry: {name} -->")[2].partition("<!-- end of registry -->")[0]
    assert found.strip() == table, f"put what {name} give (columns_table, flags_table) into docs/measure.md"
