import pytest
import torch

from models.diffusion.losses import EDMLoss
from models.systems import gen1
from tests.training.test_networks import TINY
from training.names import SystemName
from training.networks import PARTS
from training.structure import AtAnyBlur, blurred_brightness, content, controlled, edited


@pytest.fixture
def told():
    """Two captions of three and one tokens."""
    text = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(0))
    return {"text": text, "text_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]).bool(), "fps": torch.ones(2)}


def test_brightness_is_the_mean_of_the_colours_blurred():
    video = torch.rand(2, 3, 4, 8, 8) * 2 - 1
    assert torch.allclose(blurred_brightness(video, 0), video.mean(1, keepdim=True))
    sharp, soft = (blurred_brightness(video, level).diff(dim=-1).abs().mean() for level in (0, 3))
    assert soft < 0.2 * sharp
    assert blurred_brightness(video[:, :, 0]).shape == (2, 1, 8, 8)


def test_content_is_the_mean_of_the_caption_s_tokens(told):
    made = content(told)
    assert torch.allclose(made[0], told["text"][0].mean(0))
    assert torch.allclose(made[1], told["text"][1, 0])


def test_images_are_told_their_content_and_video_its_structure_too(told):
    video = torch.randn(2, 3, 4, 8, 8)
    assert edited(told, video[:, :, 0]).keys() == {"text"}
    assert edited(told, video[:, :, 0])["text"].shape == (2, 1, 12)
    given = edited(told, video, level=3)
    assert {name: value.shape for name, value in given.items()} == {
        "content": (2, 12), "structure": (2, 1, 4, 8, 8), "blur": (2,)
    }  # fmt: skip
    assert given["blur"].tolist() == [3, 3]
    assert controlled(told, video)["picture"].shape == (2, 1, 4, 8, 8)


def test_the_loss_is_gen1_s_at_levels_that_are_drawn(told):
    network = PARTS[SystemName.gen1].grow(PARTS[SystemName.gen1].image(TINY), 0)
    video, loss = torch.randn(2, 3, 4, 8, 8), EDMLoss()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    made = AtAnyBlur(loss)(network, video, torch.Generator().manual_seed(1), **edited(told, video))
    generator = torch.Generator().manual_seed(1)
    levels = torch.randint(gen1.LEVELS + 1, (2,), generator=generator)
    structure = gen1.blurred(video.mean(1, keepdim=True), levels)
    wanted = loss(network, video, generator, content=content(told), structure=structure, blur=levels.float())
    assert torch.allclose(made, wanted)
    assert AtAnyBlur(loss).schedule == loss.schedule
    image = PARTS[SystemName.gen1].image(TINY)
    one = edited(told, video[:, :, 0])
    plain = loss(image, video[:, :, 0], torch.Generator().manual_seed(1), **one)
    assert torch.equal(AtAnyBlur(loss)(image, video[:, :, 0], torch.Generator().manual_seed(1), **one), plain)
