"""What schemathesis can't know of the contract: how an image looks, and what kind of body this run is about."""

import base64
import os
from pathlib import Path

import schemathesis
from hypothesis import strategies

IMAGE = (Path(__file__).resolve().parents[2] / "examples/images/small.gif").read_bytes()
BASE64 = base64.b64encode(IMAGE).decode()
MEDIA_TYPE = os.environ["MEDIA_TYPE"]

schemathesis.openapi.format("data-url", strategies.sampled_from([BASE64, "data:image/gif;base64," + BASE64]))
for kind in ("jpeg", "png", "webp", "gif", "bmp", "tiff"):
    # The server looks at the bytes alone.
    schemathesis.openapi.media_type("image/" + kind, strategies.just(IMAGE))


@schemathesis.hook
def before_load_schema(context, schema):
    """Leaves bodies of one kind, and formats that schemathesis understands."""
    for item in schema["paths"].values():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        for other in set(content) - {MEDIA_TYPE}:
            if MEDIA_TYPE in content:
                del content[other]
    drop_formats_of_nullable_integers(schema)


def drop_formats_of_nullable_integers(schema):
    """A format binds numbers alone; schemathesis takes `null` for a violation of it, even where the type allows `null`."""
    if isinstance(schema, dict):
        if "null" in schema.get("type", ()) and "integer" in schema["type"]:
            schema.pop("format", None)
        schema = schema.values()
    if not isinstance(schema, str | int | float | None):
        for part in schema:
            drop_formats_of_nullable_integers(part)
