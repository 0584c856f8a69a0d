"""Answers that a server gives in states which are hard to bring about: the page's own `fetch` gives them."""

import json
from contextlib import contextmanager

STUB = """
    const real = window.fetch;
    window.answers = JSON.parse(%s);
    window.asked = [];
    window.fetch = (path, options) => {
      const answer = window.answers[path];
      window.asked.push({ path, body: options?.body && JSON.parse(options.body) });
      if (!answer) return real(path, options);
      const { status, headers, body } = answer;
      return Promise.resolve(new Response(body, { status, headers }));
    };
"""


@contextmanager
def answers(page, answers):
    """From the next load of the page on, these paths are answered so; `page.js("answers[path] = …")` changes them."""
    source = STUB % json.dumps(json.dumps(answers))
    made = page.cdp("Page.addScriptToEvaluateOnNewDocument", source=source)
    try:
        yield
    finally:
        page.cdp("Page.removeScriptToEvaluateOnNewDocument", identifier=made["identifier"])


def problem(**members):
    return {"status": members["status"], "headers": {"content-type": "application/problem+json"}, "body": json.dumps(members)}


def loading(share):
    return problem(status=503, code="loading", title="The model is loading", loaded=share)


def document(body):
    return {"status": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


def detection(*objects):
    """A stream that finds objects, each `(label, x0, y0, x1, y1, score)`."""
    found = [
        {"label": label, "box": {"x0": x0, "y0": y0, "x1": x1, "y1": y1}, "score": score}
        for label, x0, y0, x1, y1, score in objects
    ]
    result = {"index": 0, "objects": found, "dropped": [], "finish_reason": "stop"}
    done = {"usage": {"completion_tokens": 6}, "timings": {"decode_ms": 10}}
    delta = ("delta", {"index": 0, "text": "<loc0000>"})
    events = [delta] + [("object", {"index": 0, **each}) for each in found] + [("result", result), ("done", done)]
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    return {"status": 200, "headers": {"content-type": "text/event-stream"}, "body": text}
