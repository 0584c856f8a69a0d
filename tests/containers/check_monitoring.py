"""Prometheus and what it is asked: `docker compose --profile monitoring up`, less Grafana, whose
image can't be made from Debian's packages. Its dashboard is checked query by query instead."""

import json
import re
import urllib.parse

from client import caption, get
from engine import ROOT, compose, docker, wait

DASHBOARD = ROOT / "deploy/grafana/dashboards/paligemma.json"
METRIC = r"(?:paligemma|process)_\w+"
# What Grafana would put in the place of its variables.
VARIABLES = {"$service": ".*", "$instance": ".*", "$__rate_interval": "1m"}


def prometheus():
    """Every server is a target, and every query of the dashboard has an answer."""
    # With a key, since the metrics of keys are there only then.
    with compose(PALIGEMMA_API_KEYS="the-key") as project:
        project("up", "--detach", "paligemma", "prometheus")
        project.healthy()
        for _ in range(5):
            caption(project.server, key="the-key")
        series = set(re.findall(rf"^({METRIC})", get(project.server, "/metrics").text(), re.M))
        wait("Prometheus has found the server", lambda: up(project.prometheus), 90)
        wait("and has asked it twice", lambda: count(project.prometheus) >= 2, 90)
        queries = dashboard()
        for query in queries:
            unknown = set(re.findall(METRIC, query)) - series
            assert not unknown, f"no such metric: {unknown}"
            asked(project.prometheus, query)
        # Without a rate, something is there at once.
        assert asked(project.prometheus, fill('paligemma_ready{service="paligemma"}'))[0]["value"][1] == "1"
        rules = json.loads(get(project.prometheus, "/api/v1/rules").text())["data"]["groups"][0]["rules"]
        assert rules and {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules
        return f"{len(queries)} queries, {len(series)} series, {len(rules)} alerts"


def rules():
    """What promtool thinks of the configuration, and of when the alerts go off."""
    for arguments in (["check", "config", "/project/deploy/prometheus/prometheus.yml"],
                      ["test", "rules", "/project/tests/containers/alerts_test.yml"]):
        docker("run", "--rm", "--entrypoint", "promtool", "--volume", f"{ROOT}:/project:ro",
               "prom/prometheus:v3.5.0", *arguments)


def dashboard():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels), "two panels share an id"
    return [fill(target["expr"]) for panel in panels for target in panel["targets"]]


def fill(query):
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def asked(server, query):
    answer = get(server, "/api/v1/query?" + urllib.parse.urlencode({"query": query})).json()
    assert answer["status"] == "success", f"{query}: {answer}"
    return answer["data"]["result"]


def up(server):
    try:
        return [one for one in asked(server, 'up{job="paligemma"}') if one["value"][1] == "1"]
    except OSError:
        return None


def count(server):
    found = asked(server, 'count_over_time(up{job="paligemma"}[5m])')
    return int(found[0]["value"][1]) if found else 0


CHECKS = [prometheus, rules]
