"""The clients that people already have, unchanged, against the running server."""

import time
from concurrent.futures import ThreadPoolExecutor

import litellm
import openai
import pytest
from conftest import KEY
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

ANSWER = "a red circle"


def client(server, **options):
    return openai.OpenAI(base_url=server.url, api_key=KEY, **options)


def test_openai_answers_a_chat(server, messages):
    answer = client(server).chat.completions.create(model="demo", messages=messages, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    assert choice.message.content == ANSWER
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)


def test_openai_streams_a_chat(server, messages):
    stream = client(server).chat.completions.create(
        model="gpt-4o", messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 0


def test_openai_completes_a_prompt(server, picture):
    completions = client(server).completions
    image = {"image": picture}
    answer = completions.create(model="demo", prompt="cap en", logprobs=1, extra_body=image)
    assert answer.choices[0].text == ANSWER
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens
    stream = completions.create(model="demo", prompt="cap en", stream=True, extra_body=image)
    assert "".join(chunk.choices[0].text for chunk in stream) == ANSWER


def test_openai_lists_the_models(server):
    assert [model.id for model in client(server).models.list()] == ["demo", "gpt-4o"]


def test_openai_raises_its_own_errors(server, messages):
    create = client(server).chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="nobody", messages=messages)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as text_only:
        create(model="demo", messages=[{"role": "user", "content": "hello"}])
    assert "image" in text_only.value.message
    with pytest.raises(openai.UnprocessableEntityError) as hot:
        create(model="demo", messages=messages, temperature=7)
    assert hot.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url, api_key="wrong").models.list()


def test_openai_tries_again_after_429(narrow, messages):
    patient, hasty = client(narrow, max_retries=20), client(narrow, max_retries=0)

    def ask(which):
        # The seed makes an answer of many tokens, so that requests meet.
        return which.chat.completions.create(
            model="demo", messages=messages, max_tokens=100, temperature=2, seed=1
        )

    refused = 0
    for _ in range(20):
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(ask, hasty) for _ in range(12)]
            refused = sum(isinstance(one.exception(), openai.RateLimitError) for one in asked)
        if refused:
            break
    assert refused > 0
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(patient), range(12)))
    assert len(answers) == 12


def test_a_stream_that_is_closed_frees_its_slot(narrow, messages):
    before = narrow.metric("paligemma_generations_cancelled_total")
    for seed in range(20):
        stream = client(narrow).chat.completions.create(
            model="demo", messages=messages, max_tokens=300, temperature=2, seed=seed, stream=True
        )
        next(stream)
        stream.close()
        time.sleep(0.2)
        if narrow.metric("paligemma_generations_cancelled_total") > before:
            break
    assert narrow.metric("paligemma_generations_cancelled_total") > before
    assert narrow.metric("paligemma_slots_used") == 0


def test_langchain_answers_and_streams(server, picture):
    model = ChatOpenAI(base_url=server.url, api_key=KEY, model="demo")
    parts = [{"type": "text", "text": "cap en"}, {"type": "image_url", "image_url": {"url": picture}}]
    message = HumanMessage(content=parts)
    assert model.invoke([message]).content == ANSWER
    assert "".join(chunk.content for chunk in model.stream([message])) == ANSWER


def test_litellm_answers_and_streams(server, messages):
    options = {"model": "openai/demo", "api_base": server.url, "api_key": KEY, "messages": messages}
    assert litellm.completion(**options).choices[0].message.content == ANSWER
    stream = litellm.completion(**options, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == ANSWER
