"""CoCa's text decoder, one token at a time: what has been said and seen is kept, not computed again.

open_clip runs the whole caption through both text towers for every new token, and projects the picture's tokens to keys
and values each time. Both are kept here (key-value caching); the arithmetic is that of `open_clip.CoCa.forward`.
"""

from typing import Any

import open_clip
import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F


class CocaDecoder:
    """The decoder of one batch of pictures (Yu et al. 2022, section 3.2), `beams` captions under way for each.

    `states` are the picture's tokens (pictures, tokens, width) as `net` encoded them. Rows are captions, those of one
    picture next to each other. A caption holds at most `longest` tokens.
    """

    def __init__(self, net: open_clip.CoCa, states: Tensor, beams: int, longest: int) -> None:
        self.text: Any = net.text
        self.decoder: Any = net.text_decoder
        self.speaking = list(self.text.transformer.resblocks)  # the tower that knows the text alone
        self.looking = list(zip(self.decoder.resblocks, self.decoder.cross_attn, strict=True))
        self.beams = beams
        rows = len(states) * beams
        layers = len(self.speaking) + len(self.looking)
        self._kept = states.new_empty(2, layers, rows, longest, self.text.width)  # keys and values of the text
        self._valid = torch.ones(rows, longest, dtype=torch.bool, device=states.device)
        self._seen = [_project(cross.attn, cross.ln_1_kv(states)) for _, cross in self.looking]
        self.length = 0

    def step(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Append to each caption its newest token: int64 (rows,) -> logits (rows, vocabulary) of the one after it.

        Row i goes on from what row `rows[i]`, a caption of the same picture, was before.
        """
        at = self.length
        self.length += 1
        if at:
            self._kept[:, :, :, :at] = self._kept[:, :, rows, :at]
            self._valid = self._valid[rows]  # all of it: it may be one position ahead
        self._mask(tokens, at)
        text = self.text
        x = text.token_embedding(tokens)[:, None] + text.positional_embedding[at]
        x = x.to(self._kept.dtype)
        masked = self._valid[:, None, None, : at + 1] if text.cls_emb is not None else None
        for layer, block in enumerate(self.speaking):
            x = _block(block, x, self._attend(block.attn, block.ln_1(x), layer, masked))
        if text.cls_emb is None:
            x = text.ln_final(x)
        for layer, ((block, cross), seen) in enumerate(zip(self.looking, self._seen, strict=True), len(self.speaking)):
            x = _block(block, x, self._attend(block.attn, block.ln_1(x), layer, None))
            x = _block(cross, x, self._look(cross.attn, cross.ln_1(x), *seen))
        x = self.decoder.ln_final(x)[:, 0]
        return x if self.decoder.text_projection is None else x @ self.decoder.text_projection

    def _mask(self, tokens: Tensor, at: int) -> None:
        """The text tower does not attend to padding, whose number CLIP's tokenizer also gives to "!".

        Published CoCa weights were trained with that mask one position late, which open_clip keeps up.
        """
        late = 0 if self.text.correct_cls_mask else 1
        if at + late < self._valid.shape[1]:
            self._valid[:, at + late] = tokens != self.text.pad_id

    def _attend(self, attn: Any, x: Tensor, layer: int, mask: Tensor | None) -> Tensor:
        """Self-attention of the newest token (rows, 1, width) to all tokens so far."""
        query, *newest = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
        kept = self._kept[:, layer]
        kept[:, :, self.length - 1] = torch.stack([part[:, 0] for part in newest])
        keys, values = (part[:, : self.length].unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in kept)
        query = query.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return attn.out_proj(out.transpose(1, 2).flatten(2))

    def _look(self, attn: Any, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Cross-attention of all captions to their picture's keys and values (pictures, heads, tokens, size)."""
        width = x.shape[-1]
        query = F.linear(x, attn.in_proj_weight[:width], attn.in_proj_bias[:width])
        query = query.view(len(keys), self.beams, attn.num_heads, -1).transpose(1, 2)
        out = F.scaled_dot_product_attention(query, keys, values)
        return attn.out_proj(out.transpose(1, 2).reshape(-1, 1, width))


def check(net: open_clip.CoCa) -> None:
    """Raises ValueError for a text tower of other parts than these."""
    text: Any = net.text
    decoder: Any = net.text_decoder
    blocks = [*text.transformer.resblocks, *decoder.resblocks, *decoder.cross_attn]
    if text.attn_mask is None or not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise ValueError("this CoCa's text towers are not plain causal transformers: they cannot be run token by token")


def _block(block: nn.Module, x: Tensor, attended: Tensor) -> Tensor:
    """What follows attention in a residual block."""
    parts: Any = block
    x = x + parts.ls_1(attended)
    return x + parts.ls_2(parts.mlp(parts.ln_2(x)))


def _project(attn: Any, states: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a picture's tokens: (pictures, heads, tokens, size) each."""
    width = attn.embed_dim
    both = F.linear(states, attn.in_proj_weight[width:], attn.in_proj_bias[width:])
    keys, values = both.unflatten(-1, (2, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return keys.contiguous(), values.contiguous()
