"""The fused caption: by a tiny chat model, and by a real server on this machine's loopback."""

import json
import pickle
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from curation.config import WeightSettings
from curation.scores.base import Scored, run_scorer
from curation.scores.caption_llm import (
    API_KEY,
    BATCH,
    MAX_NEW_TOKENS,
    PROMPT,
    Endpoint,
    FusedCaption,
    prompt_for,
    sentence,
)
from curation.scores.language_models import ChatModel
from curation.weights import svd_models

KNOWN = [
    {"caption_image": "a red cat", "caption_video": "a cat sits on the table and a dog runs under it"},
    {"caption_image": "the street", "caption_video": "two people walk"},
]


@pytest.fixture(scope="module")
def scorer(llm_folder):
    scorer = FusedCaption(WeightSettings(caption_llm=str(llm_folder)))
    scorer.load()
    return scorer


@pytest.fixture
def server(monkeypatch):
    """A server that speaks the protocol: it answers with the words of the first caption, and keeps what it was sent."""
    seen = []

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, dict(self.headers), body))
            image = body["messages"][0]["content"].split("middle frame: ")[1].split("\n")[0]
            failed = "street" in image and len(seen) > 2
            self.send_response(503 if failed else 200)
            self.end_headers()
            answer = {"choices": [{"message": {"role": "assistant", "content": f'"{image}, fused"\n'}}]}
            self.wfile.write(b"busy" if failed else json.dumps(answer).encode())

        def log_message(self, *args):
            """Keeps the test's output to itself."""

    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/v1", seen
    listening.shutdown()
    thread.join()
    listening.server_close()


def test_the_caption_is_the_models_answer_to_the_prompt(scorer, llm_folder, clip_of):
    direct = ChatModel(llm_folder)
    rows = scorer.score([clip_of()] * 2, KNOWN)
    for row, known in zip(rows, KNOWN, strict=True):
        (answer,) = direct.reply([prompt_for(known["caption_image"], known["caption_video"])], MAX_NEW_TOKENS)
        assert row == {"caption_fused": sentence(answer)}
    assert scorer.score([clip_of()] * 2, KNOWN[::-1]) == rows[::-1]


def test_captions_of_like_length_go_through_the_model_together_and_come_back_in_order(scorer, clip_of, monkeypatch):
    texts = [{"caption_image": "a cat " * (1 + i * 7 % 11), "caption_video": f"v{i}"} for i in range(BATCH * 2 + 5)]
    seen: list[list[int]] = []

    def reply(prompts):
        seen.append([len(p) for p in prompts])
        return [re.search(r"v\d+", p)[0] for p in prompts]  # type: ignore[index]

    monkeypatch.setattr(scorer, "_reply", reply)
    rows = scorer.score([clip_of()] * len(texts), texts)
    assert [row["caption_fused"] for row in rows] == [t["caption_video"] for t in texts]
    assert [len(s) for s in seen] == [BATCH, BATCH, 5]
    lengths = [length for batch in seen for length in batch]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_caption_hangs_on_a_random_number(scorer, clip_of, seed):
    import torch

    torch.manual_seed(seed)
    before = torch.get_rng_state()
    first = scorer.score([clip_of()] * 2, KNOWN)
    assert torch.equal(torch.get_rng_state(), before)
    assert scorer.score([clip_of()] * 2, KNOWN) == first


def test_the_prompt_holds_both_captions():
    prompt = prompt_for("one {video} caption", "another")
    assert "one {video} caption" in prompt
    assert "another" in prompt


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (" A cat sits.\n", "A cat sits."),
        ("<think>\nhm, a cat\n</think>\n\nA cat\nsits.", "A cat sits."),
        ('"A cat sits."', "A cat sits."),
        ("“A cat sits.”", "A cat sits."),
        ('"Run" and "stop" are on screen.', '"Run" and "stop" are on screen.'),
        ('A sign that says "stop"', 'A sign that says "stop"'),
        ("<think> it never ends", ""),
        ('""', ""),
    ],
)
def test_answers_become_one_sentence(answer, text):
    assert sentence(answer) == text


def test_a_clip_without_an_answer_fails_alone(scorer, clip_of, monkeypatch):
    monkeypatch.setattr(scorer, "_reply", lambda prompts: ["" if "street" in p else "It is so." for p in prompts])
    states = [Scored(values=dict(known)) for known in KNOWN]
    run_scorer(scorer, [clip_of()] * 2, states)
    assert [s.values.get("caption_fused") for s in states] == ["It is so.", None]
    assert [f.message for f in states[1].failures] == ["the fused caption is empty"]


def test_an_endpoint_gets_captions_and_nothing_else(server, clip_of, monkeypatch):
    url, seen = server
    monkeypatch.setenv(API_KEY, "key")
    scorer = FusedCaption(WeightSettings(caption_llm=f"{url}#some/model"))
    scorer.load()
    rows = scorer.score([clip_of()] * 2, KNOWN)
    assert [row["caption_fused"] for row in rows] == ["a red cat, fused", "the street, fused"]
    expected = {prompt_for(k["caption_image"], k["caption_video"]) for k in KNOWN}
    assert {body["messages"][0]["content"] for _, _, body in seen} == expected
    for path, headers, body in seen:
        assert path == "/v1/chat/completions"
        assert headers["Authorization"] == "Bearer key"
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("some/model", 0, MAX_NEW_TOKENS)


def test_a_refused_request_costs_its_own_clip(server, clip_of):
    url, seen = server
    scorer = FusedCaption(WeightSettings(caption_llm=f"{url}#m"))
    scorer.load()
    seen += [None, None]  # from its third request on, the server is too busy for streets
    states = [Scored(values=dict(known)) for known in KNOWN]
    run_scorer(scorer, [clip_of()] * 2, states)
    assert states[0].values["caption_fused"] == "a red cat, fused"
    assert [(f.error, "503" in f.message) for f in states[1].failures] == [("HTTPError", True)]


@pytest.mark.parametrize("name", ["http://host/v1", "https://host/v1#", "maker/model#tag"])
def test_an_endpoint_has_an_address_and_a_model(name):
    with pytest.raises(ValueError, match="v1#model"):
        Endpoint.named(name)


def test_definitions_name_model_prompt_and_version(scorer, llm_folder):
    definition = scorer.definition
    assert (definition["model"], definition["prompt"], definition["prompt_version"]) == (str(llm_folder), PROMPT, 1)
    assert len(definition["model_sha256"]) == 64
    remote = FusedCaption(WeightSettings(caption_llm="http://host:8000/v1#some/model"))
    assert remote.definition["model"] == "some/model"
    assert remote.resources.gpus == 0
    assert "caption_llm" not in svd_models(remote.weights)


def test_a_loaded_scorer_is_small_to_ship(scorer, clip_of):
    assert len(pickle.dumps(scorer)) < 2000
    with pytest.raises(RuntimeError, match="load"):
        pickle.loads(pickle.dumps(scorer)).score([clip_of()], KNOWN[:1])
