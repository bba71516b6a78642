"""The vote head: what it answers, what it costs the rest of the network (nothing), and what it refuses."""

import pytest
import torch

from timm_network import NETWORKS, SMALL_TIMM
from zoobot_3d.errors import ConfigError
from zoobot_3d.networks import VoteHead, build_model

SMALL = {
    "fast_unet": {"widths": [8, 8, 16], "depths": [1, 0, 1]},
    "mobile_unet": {"widths": [8, 8, 8, 16]},
    "published_unet": {"width": 4, "multipliers": [1, 2, 2], "dropouts": [0.0, 0.1, 0.1]},
    "timm_unet": SMALL_TIMM,
}


def build(name, **options):
    torch.manual_seed(0)
    return build_model(name, **SMALL[name], **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_come_from_the_encoder_alone(name):
    model = build(name, vote_answers=5).eval()
    calls = []
    for part in ("encoder", "decoder", "head"):
        model.get_submodule(part).register_forward_hook(lambda *_, part=part: calls.append(part))
    concentrations = model.vote_head(model.encoder(torch.rand(3, 3, 64, 64)))
    assert concentrations.shape == (3, 5)
    assert concentrations.min() >= 1
    assert calls == ["encoder"]


@pytest.mark.parametrize("name", NETWORKS)
def test_other_weights_have_the_same_names_and_start_the_same(name):
    plain, joint = build(name).state_dict(), build(name, vote_answers=5).state_dict()
    assert set(joint) - set(plain) == {"vote_head.linear.weight", "vote_head.linear.bias"}
    for key, value in plain.items():
        assert torch.equal(value, joint[key]), key


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_do_not_run_the_vote_head(name):
    model = build(name, vote_answers=5).eval()
    model.vote_head.register_forward_hook(lambda *_: pytest.fail("the vote head was run"))
    pictures = torch.rand(1, 3, 64, 64)
    assert torch.equal(model(pictures), model.masks(model.encoder(pictures)))


def test_concentrations_by_hand():
    """Mean over the last map, linear, softplus, plus 1."""
    head = VoteHead(2, 2).eval()
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 0.0], [1.0, -1.0]]))
        head.linear.bias.copy_(torch.tensor([0.0, 50.0]))
    last = torch.tensor([[[0.0, 4.0]], [[0.0, 2.0]]])[None]  # means 2 and 1
    found = head([torch.full((1, 7, 2, 4), 99.0), last])
    torch.testing.assert_close(found, torch.tensor([[1 + 2.126928, 1 + 51.0]]))


def test_a_fresh_head_claims_little():
    concentrations = VoteHead(8, 4).eval()([torch.zeros(1, 8, 2, 2)])
    torch.testing.assert_close(concentrations, torch.full((1, 4), 3.0))


def test_dropout_in_training_only():
    head, features = VoteHead(64, 3, dropout=0.5), [torch.ones(1, 64, 2, 2)]
    torch.manual_seed(0)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_half_precision_features_give_full_precision_concentrations():
    head = VoteHead(8, 2).eval().bfloat16()
    assert head([torch.rand(1, 8, 2, 2, dtype=torch.bfloat16)]).dtype == torch.float32


def test_wrong_numbers_are_refused():
    with pytest.raises(ConfigError, match="1 answers; give 2 or more"):
        build("fast_unet", vote_answers=1)
    with pytest.raises(ConfigError, match=r"dropout 1\.0 is not in \[0, 1\)"):
        build("fast_unet", vote_answers=2, vote_dropout=1.0)
