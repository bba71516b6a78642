"""Questions of the campaigns, and the columns of their votes."""

import pytest

from zoobot_3d.schema import CAMPAIGNS, answers_per_question, vote_columns


def test_columns_of_a_campaign_in_order():
    columns = vote_columns(["dr12"])
    assert columns[:4] == [
        "smooth-or-featured-dr12_smooth",
        "smooth-or-featured-dr12_featured-or-disk",
        "smooth-or-featured-dr12_artifact",
        "disk-edge-on-dr12_yes",
    ]
    # As in gz_decals_volunteers_1_and_2, which asked some questions otherwise than DR5 and DR8.
    for column in ("bar-dr12_yes", "bulge-size-dr12_obvious", "how-rounded-dr12_completely", "merging-dr12_neither"):
        assert column in columns
    for column in ("bar-dr12_strong", "bulge-size-dr12_large", "spiral-arm-count-dr12_cant-tell"):
        assert column not in columns


@pytest.mark.parametrize(("campaign", "columns"), [("dr12", 30), ("dr5", 34), ("dr8", 34), ("gz2", 28)])
def test_number_of_columns(campaign, columns):
    names = vote_columns([campaign])
    assert len(names) == len(set(names)) == columns
    assert answers_per_question(names) == [len(question.answers) for question in CAMPAIGNS[campaign]]


def test_the_same_question_of_two_campaigns_is_two():
    columns = vote_columns(["dr5", "dr8"])
    assert columns == vote_columns(["dr5"]) + vote_columns(["dr8"])
    assert answers_per_question(columns) == [3, 2, 2, 3, 5, 3, 3, 3, 6, 4] * 2
    assert answers_per_question([]) == []


@pytest.mark.parametrize("campaign", list(CAMPAIGNS))
def test_every_question_follows_an_answer_to_an_earlier_one(campaign):
    given = set()
    for question in CAMPAIGNS[campaign]:
        assert question.asked_after is None or question.asked_after in given, question.name
        given |= {f"{question.name}_{answer}" for answer in question.answers}
