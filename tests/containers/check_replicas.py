"""nginx before three replicas: `docker compose up gateway`."""

import contextlib
import re
import threading
import time
from collections import Counter

from client import bitmap, caption, events, generate, get
from engine import address, compose, docker, health, throttle, wait


def replicas():
    """All replicas get work, large uploads pass, and what is no client's business doesn't."""
    with running() as project:
        upload = bitmap(2600)
        caption(project.gateway, upload)
        assert get(project.gateway, "/metrics").status == 404
        for _ in range(30):
            caption(project.gateway)
        by = set(re.findall(r'" 200 \d+ to ([\d.:]+) in', nginx_log(project)))
        assert by == {address(name) for name in project.containers("replica")}, by
        return f"an upload of {len(upload) / 1e6:.1f} MB, then 30 requests over {len(by)} replicas"


def stream_keeps_its_time():
    """Through nginx, the tokens of a slow stream come as spread out as from a replica itself."""
    with running() as project:
        servers = project.containers("replica")
        # A millisecond of every hundred: a few tokens, then silence.
        throttle(servers, 0.01)
        direct = timing(address(servers[0]))
        through = timing(project.gateway)
        told = f"through nginx {through[0]} moments in {through[1]:.1f} s, without it {direct[0]} in {direct[1]:.1f} s"
        # Were it to buffer, they would come together at the end.
        assert through[0] > 8 and through[0] > direct[0] / 2, told
        assert through[1] > 0.5 and through[1] > direct[1] / 2, told
        return told


def timing(server):
    """How many moments a stream's deltas came at, and from the first of them to the last."""
    arrivals = [at for at, name, _ in events(generate(server, stream=True)) if name == "delta"]
    assert len(arrivals) > 20, len(arrivals)
    gaps = [after - before for before, after in zip(arrivals, arrivals[1:])]
    return 1 + sum(gap > 0.02 for gap in gaps), arrivals[-1] - arrivals[0]


def posts_go_to_two_replicas_at_most():
    """A POST whose replica dies goes to another; if that one dies as well, the client hears of it."""
    with running() as project:
        servers = set(project.containers("replica"))
        throttle(servers, 0.05)
        statuses = []
        asking = threading.Thread(target=lambda: statuses.append(generate(project.gateway).status))
        asking.start()
        for _ in range(2):
            busy = wait("a replica works", lambda: next(filter(works, servers), None))
            docker("kill", busy)
            servers.remove(busy)
        asking.join()
        throttle(servers, 2)
        assert statuses == [502], statuses
        line, = re.findall(r'"POST /v1/generate[^"]*" 502 .*', nginx_log(project))
        assert re.search(r" to [\d.:]+, [\d.:]+ in ", line), line
        # nginx keeps their addresses for so long.
        time.sleep(2)
        got = {get(project.gateway, "/v1/models").status for _ in range(20)}
        assert got == {200}, got


def rolling_restart():
    """Replicas are restarted one after the other while clients ask; every request is answered."""
    with running() as project:
        servers = project.containers("replica")
        # Slow, so that each has requests to complete when it is told to stop.
        throttle(servers, 0.1)
        with asking(project.gateway, clients=6) as statuses:
            for name in servers:
                docker("restart", "-t", "45", name)
                wait(f"{name} is healthy", lambda: health(name) == "healthy")
        refused = Counter(status for status in statuses if status != 200)
        log = nginx_log(project)
        assert not refused, f"{refused} of {len(statuses)}: " + "\n".join(re.findall(r'.*" 5\d\d .*', log))
        twice = len(re.findall(r'" 200 \d+ to [\d.:]+, [\d.:]+ in', log))
        assert twice, "no request has met a replica that stops or starts"
        return f"{len(statuses)} requests, {twice} of them sent to a second replica"


@contextlib.contextmanager
def asking(server, clients):
    """Clients that ask one question after the other; the statuses that they get."""
    statuses, over = [], threading.Event()

    def ask():
        while not over.is_set():
            answer = generate(server, prompt="caption en")
            statuses.append(answer.status)
            answer.text()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        over.set()
        for thread in threads:
            thread.join()


def works(container):
    return "paligemma_slots_used 1\n" in get(address(container), "/metrics").text()


@contextlib.contextmanager
def running():
    """The profile, with all three replicas up and nginx before them."""
    with compose() as project:
        project("up", "--detach", "gateway")
        count = [len(project.containers(name)) for name in ("gateway", "replica", "paligemma")]
        assert count == [1, 3, 0], f"gateway, replica, paligemma: {count}"
        project.healthy("replica")
        wait("nginx answers", lambda: reached(project.gateway))
        yield project


def reached(server):
    try:
        return get(server, "/health/ready").status == 200
    except OSError:
        return False


def nginx_log(project):
    return docker("logs", *project.containers("gateway"))


CHECKS = [replicas, stream_keeps_its_time, posts_go_to_two_replicas_at_most, rolling_restart]
