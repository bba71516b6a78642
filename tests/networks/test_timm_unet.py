"""Encoders of timm: their maps and normalisation, and that weights are fetched when asked for and never after that."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import zoobot_3d
from timm_network import SMALL_ENCODER, SMALL_TIMM, needs_timm
from tiny_survey import make_survey
from zoobot_3d.cli import main
from zoobot_3d.errors import BundleError, ConfigError
from zoobot_3d.infer.bundle import BundleInfo, load_bundle, save_bundle
from zoobot_3d.networks import build_model, check_stored_model

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
ZOOBOT = "hf_hub:mwalmsley/zoobot-encoder-small"


def build(encoder=SMALL_ENCODER, **options):
    torch.manual_seed(0)
    return build_model("timm_unet", **(SMALL_TIMM | {"encoder": encoder} | options))


class Hub:
    """Stands in for the Hugging Face hub: one repository's files, and which were asked for."""

    def __init__(self, folder, config):
        import timm
        from safetensors.torch import save_file

        torch.manual_seed(1)
        self.weights = timm.create_model(SMALL_ENCODER, num_classes=0).state_dict()
        config = {"architecture": SMALL_ENCODER, "num_classes": 0} | config
        config["pretrained_cfg"] = {
            "num_classes": 0,
            "mean": IMAGENET[0],
            "std": IMAGENET[1],
            "input_size": [3, 64, 64],
        }
        config["pretrained_cfg"] |= {"first_conv": "conv_stem", "classifier": "classifier"}
        (folder / "config.json").write_text(json.dumps(config))
        save_file(self.weights, folder / "model.safetensors")
        self.folder, self.asked, self.closed = folder, [], False

    def download(self, repo_id, filename, **_):
        from huggingface_hub.utils import EntryNotFoundError

        if self.closed:
            pytest.fail(f"{repo_id}/{filename} was asked for")
        self.asked.append((repo_id, filename))
        if not (self.folder / filename).is_file():
            raise EntryNotFoundError(f"no {filename}")
        return str(self.folder / filename)


@pytest.fixture
def hub(tmp_path, monkeypatch, request):
    import timm.models._hub

    folder = tmp_path / "hub"
    folder.mkdir()
    made = Hub(folder, getattr(request, "param", {}))
    monkeypatch.setattr(timm.models._hub, "hf_hub_download", made.download)
    return made


def small_bundle(folder, model):
    return save_bundle(folder, model, BundleInfo("timm_unet", model.options, 2, "bce", 64, 0.8))


@needs_timm
class TestNetwork:
    @pytest.mark.parametrize(
        ("encoder", "strides"),
        [
            (SMALL_ENCODER, [2, 4, 8, 16, 32]),
            (SMALL_ENCODER, [8, 16]),
            ("resnet10t", [4, 8, 16, 32]),
            ("convnext_atto", [4, 8, 16, 32]),
            ("test_efficientnet", [4, 8, 16]),
        ],
    )
    def test_raw_output_has_the_resolution_of_the_picture(self, encoder, strides):
        model = build(encoder, strides=strides, widths=[8] * len(strides)).eval()
        assert model.size_multiple == strides[-1]
        assert model(torch.rand(1, 3, 64, 96)).shape == (1, 2, 64, 96)

    def test_the_encoder_gets_pictures_as_it_was_trained_with(self):
        model, got = build().eval(), []
        model.encoder.features.register_forward_pre_hook(lambda _, given: got.append(given[0]))
        model(torch.full((1, 3, 32, 32), 0.5))
        expected = [(0.5 - mean) / std for mean, std in zip(*IMAGENET, strict=True)]
        torch.testing.assert_close(got[0][0, :, 7, 9], torch.tensor(expected))

    def test_options_name_the_architecture_and_no_weights(self):
        options = build("mobilenetv3_small_050.lamb_in1k").options
        assert options == SMALL_TIMM
        check_stored_model("timm_unet", options)

    def test_the_mode_of_training_is_as_built(self):
        assert build().encoder.features.training

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"encoder": "resnet_none"}, r"has no encoder 'resnet_none'; timm\.list_models"),
            ({"encoder": "local-dir:/tmp"}, "has no encoder 'local-dir:/tmp'"),
            ({"encoder": ""}, "encoder is ''; give a name of 1 to 200 characters"),
            ({"encoder": 3}, "encoder is 3; give a name"),
            ({"strides": [4, 16], "widths": [8, 8]}, r"strides \[4, 16\] do not double"),
            ({"strides": [32, 64], "widths": [8, 8]}, "has no map at stride 64, but at 2, 4, 8, 16, 32"),
            ({"widths": [8, 8]}, "2 widths and 4 strides"),
            ({"encoder": "vit_tiny_patch16_224"}, "vit_tiny_patch16_224 has no map at stride 4, 8, 32, but at 16"),
            ({"encoder": "maxvit_pico_rw_256"}, "maxvit_pico_rw_256 takes pictures of one size alone"),
            ({"pretrained": 1}, "pretrained is 1; give true or false"),
        ],
    )
    def test_what_cannot_be_is_said_in_one_line(self, options, message):
        with pytest.raises(ConfigError, match=message) as told:
            build(**options)
        assert "\n" not in str(told.value)


@needs_timm
class TestHub:
    def test_zoobots_weights_are_fetched_and_pictures_left_as_they_are(self, hub):
        model = build(ZOOBOT, pretrained=True)
        assert model.options == SMALL_TIMM
        assert {repo for repo, _ in hub.asked} == {"mwalmsley/zoobot-encoder-small"}
        own = model.encoder.features.state_dict()
        assert len(own) > 50
        for name, value in own.items():
            torch.testing.assert_close(value, hub.weights[name])
        assert model.encoder.mean.abs().max() == 0
        assert (model.encoder.std == 1).all()

    def test_others_have_the_normalisation_of_their_configuration(self, hub):
        model = build("hf-hub:someone/network", pretrained=True)
        torch.testing.assert_close(model.encoder.mean.ravel(), torch.tensor(IMAGENET[0]))
        torch.testing.assert_close(model.encoder.std.ravel(), torch.tensor(IMAGENET[1]))

    @pytest.mark.parametrize("hub", [{"model_args": {"channel_multiplier": 0.5}}], indirect=True)
    def test_arguments_that_a_bundle_cannot_keep_are_refused(self, hub):
        with pytest.raises(ConfigError, match=r"not timm's mobilenetv3_small_050 as it is.*\(channel_multiplier\)"):
            build(ZOOBOT, pretrained=True)

    def test_without_a_connection(self, hub):
        (hub.folder / "config.json").unlink()
        with pytest.raises(ConfigError, match=r"zoobot-encoder-small cannot be fetched \(.*no config\.json\); look at"):
            build(ZOOBOT, pretrained=True)

    def test_a_bundle_is_loaded_and_fine_tuned_without_fetching(self, hub, tmp_path):
        model = build(ZOOBOT, pretrained=True).eval()
        path = small_bundle(tmp_path / "b", model)
        hub.closed = True
        pictures = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(load_bundle(path).model(pictures), model(pictures))
        catalog = make_survey(tmp_path / "survey")
        command = ["train", str(tmp_path / "run"), "--init", str(path), "--data.catalog", str(catalog)]
        command += ["--train.epochs", "1", "--train.freeze_encoder", "all", "--data.workers", "0"]
        assert main(command) == 0
        tuned = load_bundle(tmp_path / "run" / "bundle")
        assert tuned.info.model_options == SMALL_TIMM
        assert torch.equal(
            tuned.model.encoder.features.state_dict()["conv_stem.weight"], hub.weights["conv_stem.weight"]
        )

    @pytest.mark.parametrize(
        "change",
        [
            {"encoder": ZOOBOT},
            {"encoder": "hf_hub:stranger/anything", "pretrained": True},
            {"encoder": "local-dir:/etc"},
            {"pretrained": True},
            {"pretrained": None},
        ],
    )
    def test_a_strangers_bundle_fetches_nothing(self, change, hub, tmp_path):
        path = small_bundle(tmp_path / "b", build())
        hub.closed = True
        content = json.loads((path / "bundle.json").read_text())
        options = content["model_options"] | change
        content["model_options"] = {key: value for key, value in options.items() if value is not None}
        (path / "bundle.json").write_text(json.dumps(content))
        with pytest.raises(
            BundleError, match=r"bundle's encoder is the name of an architecture, with pretrained false"
        ):
            load_bundle(path)


HIDDEN = """
import importlib.machinery, sys
found = importlib.machinery.PathFinder.find_spec.__func__
def find_spec(cls, name, path=None, target=None):
    return None if name.split(".")[0] in {"torch", "timm", "torchvision"} else found(cls, name, path, target)
importlib.machinery.PathFinder.find_spec = classmethod(find_spec)
import numpy as np, zoobot_3d
np.save(sys.argv[2], zoobot_3d.load_segmenter(sys.argv[1]).segment(np.load(sys.argv[3])))
assert not {"torch", "timm"} & set(sys.modules)
"""


@needs_timm
@pytest.mark.parametrize("encoder", [SMALL_ENCODER, "resnet10t", "convnext_atto"])
def test_a_bundle_predicts_without_torch_and_timm(encoder, tmp_path):
    path = small_bundle(tmp_path / "b", build(encoder).eval())
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    np.save(tmp_path / "picture.npy", picture)
    command = [sys.executable, "-c", HIDDEN, str(path), str(tmp_path / "mask.npy"), str(tmp_path / "picture.npy")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = zoobot_3d.load_segmenter(path, engine="torch", device="cpu").segment(picture)
    assert expected.std() > 0
    np.testing.assert_allclose(np.load(tmp_path / "mask.npy"), expected, atol=1 / 255)


class TestWithoutTimm:
    def test_not_installed(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(ConfigError, match=r"^timm_unet needs the package timm; pip install 'zoobot-3d\[timm\]'$"):
            build()

    def test_torchvision_of_another_torch(self, monkeypatch, tmp_path):
        (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
            monkeypatch.delitem(sys.modules, name)
        with pytest.raises(
            ConfigError, match=r"torchvision::nms does not exist\); pip install -U timm torch torchvision"
        ):
            build()

    def test_training_says_what_to_install(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setitem(sys.modules, "timm", None)
        (tmp_path / "x.parquet").write_bytes(b"")
        assert (
            main(["train", str(tmp_path / "o"), "--config", "timm", "--data.catalog", str(tmp_path / "x.parquet")]) == 2
        )
        assert capsys.readouterr().err.splitlines()[-1].endswith("pip install 'zoobot-3d[timm]'")
