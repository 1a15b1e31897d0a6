import pytest
import torch

from training.errors import TrainingError
from training.perceptual import efficientnet_distance


@pytest.fixture(scope="module")
def weights():
    from curation.weights import EFFICIENTNET, resolve

    return resolve(EFFICIENTNET).file()


@pytest.fixture(scope="module")
def distance(weights):
    return efficientnet_distance(weights)


@pytest.fixture(scope="module")
def photo():
    from skimage import data

    return torch.from_numpy(data.astronaut()[:128, 160:288]).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_the_trunk_is_the_classifiers(distance, weights, photo):
    """The features, through the head of the classifier that curation loads by name, are its class probabilities."""
    from curation.scores.encoders import ImageClassifier

    net = ImageClassifier(weights).net
    with torch.no_grad():
        deep = distance.features(photo)[-1]
        for stage in net.blocks[5:]:
            deep = stage(deep)
        ours = net.classifier(net.global_pool(net.bn2(net.conv_head(deep))))
        torch.testing.assert_close(ours, net(photo))


def test_more_blur_is_further_away(distance, photo):
    def blurred(factor):
        small = torch.nn.functional.interpolate(photo, scale_factor=1 / factor, mode="area")
        return torch.nn.functional.interpolate(small, size=photo.shape[2:], mode="bicubic")

    near, far = (distance(blurred(f), photo).item() for f in (2, 4))
    assert 0 == distance(photo, photo).item() < near < far


def test_nothing_of_it_is_trained(distance, photo):
    x = photo.clone().requires_grad_()
    distance(x, photo * 0.9).sum().backward()
    assert x.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())


def test_other_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(TrainingError, match=r"w\.pth"):
        efficientnet_distance(tmp_path / "w.pth")
