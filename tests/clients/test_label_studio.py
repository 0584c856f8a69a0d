"""Label Studio's SDK against the ML backend: the requests that Label Studio sends, and what it makes of the answers.

The SDK takes 500 MB with all that it needs, so it is not in requirements.txt: `pip install label-studio-sdk` to run this.
"""

import base64
import json
import subprocess

import pytest
import requests
from conftest import KEY
from server import BINARY, IMAGES, Server

interface = pytest.importorskip("label_studio_sdk.label_interface")
brush = pytest.importorskip("label_studio_sdk.converter.brush")

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image">
    <Label value="Red circle" predicted_values="red circle"/><Label value="square" predicted_values="blue square"/>
  </RectangleLabels>
  <BrushLabels name="brush" toName="image"><Label value="Disc" predicted_values="red circle"/></BrushLabels>
  <TextArea name="caption" toName="image" model_prompt="cap en"/>
  <Choices name="count" toName="image" model_prompt="answer en how many shapes are there?">
    <Choice value="1"/><Choice value="2"/>
  </Choices>
</View>"""


@pytest.fixture(scope="module")
def backend():
    running = Server("--api-keys", KEY, "--label-studio-routes", "true")
    yield running.address + "/label-studio"
    running.stop()


def post(backend, path, body):
    answer = requests.post(f"{backend}/{path}", json=body, auth=("label-studio", KEY))
    assert answer.ok, answer.text
    return answer.json()


def test_a_backend_is_connected(backend):
    assert requests.get(backend + "/health").json()["status"] == "UP"
    body = {"project": "1.1767225600", "schema": CONFIG, "hostname": "http://localhost:8081", "access_token": "t"}
    assert post(backend, "setup", body | {"extra_params": None}) == {"model_version": "demo"}
    assert requests.post(backend + "/setup", json=body).status_code == 401


def test_label_studio_takes_the_predictions(backend):
    names = ["red-circle.png", "circle-and-square.jpg", "exif-rotated.jpg"]
    images = [base64.b64encode((IMAGES / name).read_bytes()).decode() for name in names]
    tasks = [
        {"id": number, "data": {"image": "data:image/png;base64," + image}, "annotations": [], "predictions": []}
        for number, image in enumerate(images)
    ]
    params = {"login": None, "password": None, "context": None}
    body = {"tasks": tasks, "project": "1.1767225600", "label_config": CONFIG, "params": params}
    predictions = post(backend, "predict", body)["results"]
    assert len(predictions) == len(tasks)
    for prediction in predictions:
        assert interface.LabelInterface(CONFIG).validate_prediction(prediction, return_errors=True) == []
    first = {region["type"]: region for region in predictions[0]["result"]}
    assert first["textarea"]["value"]["text"] == ["a red circle"]
    assert first["choices"]["value"]["choices"] == ["1"]
    masked = first["brushlabels"]
    mask = brush.decode_rle(masked["value"]["rle"])
    mask = mask.reshape(masked["original_height"], masked["original_width"], 4)[:, :, 3]
    assert set(mask.flat) == {0, 255}
    ys, xs = mask.nonzero()
    box = first["rectanglelabels"]["value"]
    for edge, low, length in [("x", xs.min(), mask.shape[1]), ("y", ys.min(), mask.shape[0])]:
        assert abs(low / length * 100 - box[edge]) < 2


@pytest.mark.parametrize(("task", "control"), [("detect", "RectangleLabels"), ("segment", "BrushLabels")])
def test_tasks_that_annotate_writes_are_valid(task, control, tmp_path):
    tasks = tmp_path / "tasks.json"
    subprocess.run(
        [BINARY, "annotate", IMAGES / "red-circle.png", "--task", task, "--object", "red circle"]
        + ["--output", tmp_path / "found.jsonl", "--label-studio", tasks],
        check=True,
    )
    (written,) = json.loads(tasks.read_text())
    config = f"""<View><Image name="image" value="$image"/>
        <{control} name="label" toName="image"><Label value="red circle"/></{control}></View>"""
    (prediction,) = written["predictions"]
    assert interface.LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
    (region,) = prediction["result"]
    if task == "segment":
        mask = brush.decode_rle(region["value"]["rle"])
        mask = mask.reshape(region["original_height"], region["original_width"], 4)[:, :, 3]
        (found,) = json.loads((tmp_path / "found.jsonl").read_text())["objects"]
        assert (mask == 255).sum() == found["area"]
        assert set(mask.flat) == {0, 255}
