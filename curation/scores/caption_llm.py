"""The fused caption: an instruction model makes one sentence of the picture's and the clip's caption.

Blattmann et al. 2023, appendix C. The model is a checkpoint that transformers runs, or an OpenAI-compatible endpoint
such as vLLM's, named `http://host:port/v1#model`; only the two captions are sent there.
"""

import json
import os
import re
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.config import WeightSettings
from curation.scores.accelerator import COMPUTE, Halving
from curation.scores.base import ClipFrames, Column, Resources, Scorer
from curation.weights import is_endpoint, resolve, svd_models

if TYPE_CHECKING:  # torch takes seconds to import: only the process that scores pays for it
    from curation.scores.language_models import ChatModel

PROMPT_VERSION = 1
PROMPT = """Two captions describe the same short video clip.
Caption of its middle frame: {image}
Caption of the whole clip: {video}
Describe the clip in one sentence. Keep what both captions say, add what only one of them says unless it contradicts \
the other, and invent nothing. Answer with the sentence alone."""
MAX_NEW_TOKENS = 80
API_KEY = "RUSHES_CAPTION_API_KEY"  # environment variable whose value is sent to the endpoint as its bearer token
TIMEOUT_S = 120
BATCH = 16  # prompts of like length in one pass of the model
AT_ONCE = 8  # requests under way: such servers batch by themselves


def prompt_for(image: str, video: str) -> str:
    """What the model is asked about the two captions."""
    return PROMPT.format(image=image, video=video)


def sentence(answer: str) -> str:
    """The answer without what a model may have thought aloud, on one line, without quotation marks around it."""
    words = " ".join(re.sub(r"<think>.*?(</think>|$)", "", answer, flags=re.DOTALL).split())
    quoted = re.fullmatch(r'"([^"]*)"|“([^”]*)”', words)
    return (quoted[1] or quoted[2] or "").strip() if quoted else words


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server: `url` up to and including `/v1`, and the model's name there."""

    url: str
    model: str

    @classmethod
    def named(cls, name: str) -> "Endpoint":
        """From `URL#MODEL`. Raises ValueError if one of them is missing."""
        url, _, model = name.partition("#")
        if not is_endpoint(name) or not model:
            raise ValueError(f"an endpoint is named http://host:port/v1#model, not {name!r}")
        return cls(url.rstrip("/"), model)

    def reply(self, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """One answer a prompt, at temperature 0. Raises OSError if the server refuses or does not answer."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(lambda prompt: self._ask(prompt, max_new_tokens), prompts))

    def _ask(self, prompt: str, max_new_tokens: int) -> str:
        question = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": 0,
            "max_tokens": max_new_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(API_KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(question).encode(), headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)["choices"][0]["message"]["content"] or ""


class FusedCaption(Scorer):
    """`caption_fused`. Greedy: the same two captions give the same sentence."""

    name = "caption_llm"
    version = 1
    sees = ()
    requires = ("caption_image", "caption_video")
    batch_size = 64  # sorted by length, BATCH of them go through the model at a time

    def __init__(self, weights: WeightSettings | None = None) -> None:
        self.weights = weights or WeightSettings()
        self.remote = is_endpoint(self.weights.caption_llm)
        self.resources = Resources(cpus=0.1) if self.remote else Resources(cpus=1, gpus=0.2, memory_gb=8)
        self._halving = Halving(BATCH)
        self._model: ChatModel | Endpoint | None = None

    @property
    def columns(self) -> Sequence[Column]:
        return [Column("caption_fused", pa.string(), "one sentence of both captions by an instruction model")]

    @property
    def settings(self) -> Mapping[str, str | int | float | bool]:
        common = {"prompt_version": PROMPT_VERSION, "prompt": PROMPT, "max_new_tokens": MAX_NEW_TOKENS}
        if self.remote:
            endpoint = Endpoint.named(self.weights.caption_llm)
            return {"method": "chat completions, temperature 0", "model": endpoint.model, **common}
        found = resolve(svd_models(self.weights)["caption_llm"], self.weights.folder)
        return {"method": "chat model, greedy", "compute": COMPUTE, **common, **found.identity("model")}

    @property
    def options(self) -> Mapping[str, Any]:
        return {"profile": "svd", "weights.caption_llm": self.weights.caption_llm}

    def load(self) -> None:
        """Raises MissingWeightsError, and ValueError for a model without a chat template or with weights lacking."""
        if self.remote:
            self._model = Endpoint.named(self.weights.caption_llm)
            return
        from curation.scores.encoders import limit_threads
        from curation.scores.language_models import ChatModel

        limit_threads(self.resources.cpus)
        self._model = ChatModel(resolve(svd_models(self.weights)["caption_llm"], self.weights.folder).path)

    def score(self, clips: Sequence[ClipFrames], known: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """From the two captions. Raises RuntimeError before `load`, ValueError where the model says nothing."""
        prompts = [prompt_for(columns["caption_image"], columns["caption_video"]) for columns in known]
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # like lengths together: little padding
        answers = self._halving(self._reply, [prompts[i] for i in order])
        captions = [""] * len(prompts)
        for i, answer in zip(order, answers, strict=True):
            captions[i] = sentence(answer)
        if not all(captions):
            raise ValueError("the fused caption is empty")
        return [{"caption_fused": caption} for caption in captions]

    def _reply(self, prompts: Sequence[str]) -> list[str]:
        if self._model is None:
            raise RuntimeError("load() comes first")
        return self._model.reply(prompts, MAX_NEW_TOKENS)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}
