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
    """The decoder of a batch of pictures (Yu et al. 2022, section 3.2), `beams` captions under way for each.

    Rows are captions, those of one picture next to each other. A caption holds at most `longest` tokens. Every step has
    the same shapes, so that on a card a step is recorded once and replayed: launching its thousand small kernels one by
    one takes several times as long as they run.
    """

    def __init__(self, net: open_clip.CoCa, pictures: int, beams: int, longest: int) -> None:
        self.text: Any = net.text
        self.decoder: Any = net.text_decoder
        self.speaking = list(self.text.transformer.resblocks)  # the tower that knows the text alone
        self.looking = list(zip(self.decoder.resblocks, self.decoder.cross_attn, strict=True))
        self.pictures, self.beams, self.longest = pictures, beams, longest
        rows, layers = pictures * beams, len(self.speaking) + len(self.looking)
        like = self.decoder.ln_final.weight
        self._kept = like.new_zeros(2, layers, rows, longest, self.text.width)  # keys and values of the text
        # The mask of padding may be a position late, see _mask: so it has one more.
        self._valid = torch.ones(rows, longest + 1, dtype=torch.bool, device=like.device)
        self._places = torch.arange(longest, device=like.device)
        self._at = torch.zeros(1, dtype=torch.long, device=like.device)
        self._tokens, self._rows = torch.zeros(2, rows, dtype=torch.long, device=like.device)
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = like.new_zeros(0)

    def begin(self, states: Tensor) -> None:
        """New captions, of the pictures whose tokens (pictures, tokens, width) the network has encoded."""
        seen = [_project(cross.attn, cross.ln_1_kv(states)) for _, cross in self.looking]
        if not self._seen:
            self._seen = seen
        for kept, new in zip(self._seen, seen, strict=True):
            for old, fresh in zip(kept, new, strict=True):
                old.copy_(fresh)
        self._valid.fill_(True)
        self._at.zero_()

    def record(self) -> None:
        """Record a step on the card. Only after `begin`, which has to be called again before the first step."""
        self._run()  # libraries make their handles and workspaces
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._run()
        self._graph = graph

    def step(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Append to each caption its newest token: int64 (rows,) -> logits (rows, vocabulary) of the one after it.

        Row i goes on from what row `rows[i]`, a caption of the same picture, was before. The next step may overwrite
        what is returned.
        """
        self._tokens.copy_(tokens)
        self._rows.copy_(rows)
        if self._graph is None:
            return self._run()
        self._graph.replay()
        return self._logits

    def _run(self) -> Tensor:
        text, tokens = self.text, self._tokens
        self._kept.copy_(self._kept[:, :, self._rows])
        self._valid.copy_(self._valid[self._rows])
        self._mask(tokens)
        said = (self._places <= self._at)[None, None, None]
        valid = said & self._valid[:, None, None, :-1] if text.cls_emb is not None else said
        x = text.token_embedding(tokens)[:, None] + text.positional_embedding[self._at]
        x = x.to(self._kept.dtype)
        for layer, block in enumerate(self.speaking):
            x = _block(block, x, self._attend(block.attn, block.ln_1(x), layer, valid))
        if text.cls_emb is None:
            x = text.ln_final(x)
        for layer, ((block, cross), seen) in enumerate(zip(self.looking, self._seen, strict=True), len(self.speaking)):
            x = _block(block, x, self._attend(block.attn, block.ln_1(x), layer, said))
            x = _block(cross, x, self._look(cross.attn, cross.ln_1(x), *seen))
        x = self.decoder.ln_final(x)[:, 0]
        self._at += 1
        return x if self.decoder.text_projection is None else x @ self.decoder.text_projection

    def _mask(self, tokens: Tensor) -> None:
        """The text tower does not attend to padding, whose number CLIP's tokenizer also gives to "!".

        Published CoCa weights were trained with that mask one position late, which open_clip keeps up.
        """
        late = 0 if self.text.correct_cls_mask else 1
        self._valid.index_copy_(1, self._at + late, (tokens != self.text.pad_id)[:, None])

    def _attend(self, attn: Any, x: Tensor, layer: int, mask: Tensor) -> Tensor:
        """Self-attention of the newest token (rows, 1, width) to those that `mask` shows."""
        query, *newest = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
        kept = self._kept[:, layer].index_copy_(2, self._at, torch.stack(newest))
        query, keys, values = (
            part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in (query, kept[0], kept[1])
        )
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
