"""What docs/proxies.md promises of each proxy, with three real servers behind it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import Client, Load, bitmap, picture
from proxies import PROXIES, HAProxy
from replicas import Replica
from server import IMAGES


@pytest.fixture(scope="module")
def three():
    running = [Replica() for _ in range(3)]
    yield running
    for replica in running:
        if not replica.is_dead:
            replica.stop()


@pytest.fixture
def replicas(three):
    for replica in three:
        if replica.is_dead:
            replica.start()
    return three


@pytest.fixture(params=PROXIES, ids=lambda kind: kind.name)
def proxy(request, replicas, tmp_path):
    running = request.param(replicas, tmp_path)
    yield running
    running.stop()


def home(image, proxy, replicas):
    """The replica that a picture with its key goes to."""
    before = [replica.answered for replica in replicas]
    assert Client(proxy.address, proxy.key_header).ask(image).status_code == 200
    [its_home] = [replica for replica, count in zip(replicas, before) if replica.answered > count]
    return its_home


def test_a_stream_keeps_its_time(proxy, replicas):
    """The events of a slow stream come as spread out as those of one that the replica sends directly, meanwhile."""
    image = (IMAGES / "circle-and-square.jpg").read_bytes()
    replica = home(image, proxy, replicas)
    ways = [Client(replica.address), Client(proxy.address, proxy.key_header)]
    with ThreadPoolExecutor() as threads:
        # Where the machine is busy a pause may come late, and the whole answer before it.
        for _ in range(3):
            with replica.throttled(runs=0.001, pauses=0.06):
                direct, through = threads.map(lambda client: client.arrivals(image), ways)
            if moments(direct) > 5:
                break
    assert moments(direct) > 5, "too quick to tell"
    assert moments(through) > moments(direct) / 2
    assert through[-1] - through[0] > (direct[-1] - direct[0]) / 2


def moments(arrivals):
    return 1 + sum(after - before > 0.02 for before, after in zip(arrivals, arrivals[1:]))


def test_a_picture_of_20_mb_passes(proxy):
    image = bitmap(side=2600)
    assert len(image) > 20e6
    response = Client(proxy.address, proxy.key_header).ask(image)
    assert response.status_code == 200, response.text


def test_a_second_question_finds_its_picture(proxy, replicas):
    """At least 95 % of second questions hit the cache of the replica that they go to."""
    first, second = (Client(proxy.address, proxy.key_header) for _ in range(2))
    images = [picture() for _ in range(40)]
    before = [replica.answered for replica in replicas]
    assert {first.ask(image).status_code for image in images} == {200}
    assert all(replica.answered > count for replica, count in zip(replicas, before)), "not spread"
    hits = sum(replica.server.metric("paligemma_image_cache_hits_total") for replica in replicas)
    assert {second.ask(image).status_code for image in images} == {200}
    hits = sum(replica.server.metric("paligemma_image_cache_hits_total") for replica in replicas) - hits
    assert hits >= 0.95 * len(images)


def test_questions_without_a_key_are_spread(proxy, replicas):
    skip_unless_spread(proxy)
    before = [replica.answered for replica in replicas]
    client, image = Client(proxy.address), picture()
    assert {client.ask(image).status_code for _ in range(30)} == {200}
    shares = [replica.answered - count for replica, count in zip(replicas, before)]
    assert min(shares) >= 3, shares


def skip_unless_spread(proxy):
    if not proxy.spreads_keyless:
        pytest.skip(f"{proxy.name} sends those without a key to one replica")


def test_a_killed_replica_takes_only_its_own_requests_with_it(proxy, replicas):
    victim = replicas[0]
    with Load(proxy.address, headers=[None, proxy.key_header] * 2).running() as load:
        time.sleep(0.5)
        with victim.frozen():
            wait_until(lambda: load.waiting(longer_than=1))
            its_own = load.pause()
            victim.kill()
            load.resume()
            killed = time.monotonic()
        time.sleep(4)
    late = [asked for asked in load.asked if asked.start > killed + 3]
    assert len(late) > 5
    assert not [asked for asked in load.failed if asked not in its_own], (load.failed, killed)


def test_a_rolling_restart_loses_nothing(proxy, replicas):
    with Load(proxy.address, headers=[None, proxy.key_header] * 2).running() as load:
        for replica in replicas:
            # Slow, so that it has requests to complete while others still come.
            with replica.throttled(runs=0.01, pauses=0.05):
                time.sleep(0.5)
                replica.stop()
            replica.start()
            wait_until(lambda: replica.answered > 0)
    assert len(load.asked) > 30
    assert not load.failed, load.failed


def test_haproxy_loses_no_large_uploads_if_it_is_told_first(replicas, tmp_path):
    """What doesn't fit into its buffer can't be sent to another replica."""
    proxy = HAProxy(replicas, tmp_path)
    with Load(proxy.address, headers=[None, proxy.key_header] * 2, side=400).running() as load:
        for name, replica in zip(["one", "two", "three"], replicas):
            proxy.set_state(f"by_image/{name}", "drain")
            time.sleep(1)
            replica.stop()
            replica.start()
            proxy.set_state(f"by_image/{name}", "ready")
            wait_until(lambda: replica.answered > 0)
    proxy.stop()
    assert len(load.asked) > 10
    assert not load.failed, load.failed


def wait_until(holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
def test_a_slow_replica_gets_less(proxy, replicas, keyed):
    if keyed and not proxy.weighs_keyed:
        pytest.skip(f"{proxy.name} goes by the key alone")
    if not keyed:
        skip_unless_spread(proxy)
    slow, *others = replicas
    before = [replica.answered for replica in replicas]
    load = Load(proxy.address, headers=[proxy.key_header if keyed else None] * 6)
    with load.running(), slow.throttled(runs=0.005, pauses=0.2):
        wait_until(lambda: load.succeeded > 60)
        shares = [replica.answered - count for replica, count in zip(replicas, before)]
    assert shares[0] < sum(shares[1:]) / len(others) / 2, shares
