"""Samples of several sizes in one sequence: flex attention beside attention with a dense mask, on a GPU.

    python benchmarks/packing.py [--width 768] [--depth 6]

Prints, in one run, the largest difference of the two outputs and of the gradients in float32, the largest gradient that
reaches another sample's pixels, and milliseconds forward and back in bfloat16.
"""

import sys
import time

import torch

from benchmarks.arguments import at_least_one, parser_of
from models.backbones.dit import DiT, DiTConfig
from models.layers.patches import pack

SHAPES = ((16, 32, 32), (1, 64, 64), (8, 32, 56), (16, 24, 40), (1, 32, 32), (4, 48, 48), (16, 32, 32), (8, 40, 40))
TIMED = 10


def main() -> int:
    """Measure and print; 2 where there is no GPU."""
    parser = parser_of(__doc__)
    parser.add_argument("--width", type=at_least_one, default=768)
    parser.add_argument("--depth", type=at_least_one, default=6)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("error: flex attention is for GPUs, and there is none here", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    network = DiT(DiTConfig(width=args.width, depth=args.depth, head_dim=64, text_dim=384)).cuda()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.03)  # what starts at zero would hide the attention
    videos = [torch.randn(4, *shape).cuda().requires_grad_() for shape in SHAPES]
    text, noise = torch.randn(len(videos), 20, 384).cuda(), 0.3 * torch.randn(len(videos)).cuda()
    patch = network.config.patch
    packed = pack(videos, patch)
    print(f"{len(packed.sample)} tokens of {len(videos)} samples")

    outputs, slopes = [], []
    for flex in (False, True):
        out = network.packed(packed, noise, text, flex=flex)
        first = packed.unpack(out, patch)[0].square().sum()
        own, *others = torch.autograd.grad(first, videos)
        outputs.append(out.detach())
        slopes.append(own)
        print(f"flex {flex}: largest gradient at other samples {max(g.abs().max().item() for g in others):g}")
    print(f"largest difference of outputs {(outputs[0] - outputs[1]).abs().max().item():.2g}, ", end="")
    print(f"of gradients, relative {((slopes[0] - slopes[1]).norm() / slopes[0].norm()).item():.2g}")

    network, text = network.bfloat16(), text.bfloat16()
    packed = pack([video.detach().bfloat16() for video in videos], patch)
    seconds = 0.0
    for flex in (False, True):
        for steps in (3, TIMED):  # the first ones compile
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(steps):
                network.packed(packed, noise, text, flex=flex).float().square().mean().backward()
            torch.cuda.synchronize()
            seconds = (time.perf_counter() - began) / steps
        print(f"flex {flex}: {seconds * 1e3:.1f} ms forward and back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
