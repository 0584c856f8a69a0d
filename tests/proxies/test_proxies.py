"""What docs/proxies.md promises of each proxy, with three real servers behind it."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import Client, Load, bitmap, picture
from proxies import PROXIES, BufferingNginx, HAProxy, Nginx, UnaskedNginx
from replicas import three_replicas
from server import IMAGES


@pytest.fixture(scope="module")
def three():
    with three_replicas() as running:
        yield running


@pytest.fixture
def replicas(three):
    for replica in three:
        if replica.is_dead:
            replica.start()
    return three


@pytest.fixture(params=PROXIES, ids=lambda kind: kind.__name__)
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
    assert keeps_time(*both_ways(proxy, replicas))


def test_nginx_need_not_be_asked_to_pass_events_on(replicas, tmp_path):
    """Its configuration suffices; and were it to buffer, that would be noticed."""
    for kind, passes_on in [(UnaskedNginx, True), (BufferingNginx, False)]:
        folder = tmp_path / kind.__name__
        folder.mkdir()
        proxy = kind(replicas, folder)
        assert keeps_time(*both_ways(proxy, replicas)) == passes_on, kind
        proxy.stop()


def both_ways(proxy, replicas):
    """When the events of two slow streams come: directly, and through the proxy."""
    image = (IMAGES / "circle-and-square.jpg").read_bytes()
    replica = home(image, proxy, replicas)
    ways = [Client(replica.address), Client(proxy.address, proxy.key_header)]
    with ThreadPoolExecutor() as threads:
        # Where the machine is busy a pause may come late, and the whole answer before it.
        for _ in range(3):
            with replica.throttled(runs=0.001, pauses=0.06):
                direct, through = threads.map(lambda client: client.arrivals(image), ways)
            if moments(direct) > 5:
                return direct, through
    pytest.fail("too quick to tell")


def keeps_time(direct, through):
    lasts = through[-1] - through[0] > (direct[-1] - direct[0]) / 2
    return lasts and moments(through) > moments(direct) / 2


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
    shares = [replica.answered - count for replica, count in zip(replicas, before)]
    assert all(shares) or not proxy.spreads_keyed, shares
    hits = sum(replica.server.metric("paligemma_image_cache_hits_total") for replica in replicas)
    assert {second.ask(image).status_code for image in images} == {200}
    hits = sum(replica.server.metric("paligemma_image_cache_hits_total") for replica in replicas) - hits
    assert hits >= 0.95 * len(images)


def test_questions_without_a_key_are_spread(proxy, replicas):
    if not proxy.spreads_keyless:
        pytest.skip(f"{proxy.name} sends those without a key to one replica")
    before = [replica.answered for replica in replicas]
    client, image = Client(proxy.address), picture()
    assert {client.ask(image).status_code for _ in range(30)} == {200}
    shares = [replica.answered - count for replica, count in zip(replicas, before)]
    assert min(shares) >= 3, shares


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
    # So many that each replica gets some even if the proxy prefers one, and that several are sent again at a time.
    with Load(proxy.address, headers=[None, proxy.key_header] * 4).running() as load:
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
    with Load(proxy.address, headers=[None, proxy.key_header] * 2, sides=(400, 400)).running() as load:
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


def test_haproxy_loses_no_large_uploads_with_a_shutdown_delay(tmp_path):
    """Its checks take a replica out while that still takes requests, so none has to be sent again."""
    with three_replicas("--shutdown-delay", "5s") as replicas:
        proxy = HAProxy(replicas, tmp_path)
        # 2 to 5 MB.
        with Load(proxy.address, headers=[None, proxy.key_header] * 2, sides=(820, 1290)).running() as load:
            for replica in replicas:
                replica.stop()
                replica.start()
                wait_until(lambda: replica.answered > 0)
        proxy.stop()
    assert len(load.asked) > 30
    assert not load.failed, load.failed


def wait_until(holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.1)
    raise TimeoutError


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
def test_a_slow_replica_gets_less(proxy, replicas, keyed):
    if not (proxy.weighs_keyed if keyed else proxy.weighs_keyless):
        pytest.skip(f"{proxy.name} with this policy doesn't look at the load")
    slow, *others = replicas
    before = [replica.answered for replica in replicas]
    # More than one replica may have under way.
    load = Load(proxy.address, headers=[proxy.key_header if keyed else None] * 12)
    with load.running(), slow.throttled(runs=0.005, pauses=0.2):
        wait_until(lambda: load.succeeded > 100)
        shares = [replica.answered - count for replica, count in zip(replicas, before)]
    assert shares[0] < sum(shares[1:]) / len(others) / 2, shares


def test_nginx_loses_nothing_when_all_replicas_are_full(replicas, tmp_path):
    """Requests with a key that find no place by their key wait all the same."""
    proxy = Nginx(replicas, tmp_path)
    clients = 3 * 8 + 6
    load = Load(proxy.address, headers=[proxy.key_header] * clients)
    with load.running():
        with contextlib.ExitStack() as stack:
            for replica in replicas:
                stack.enter_context(replica.frozen())
            wait_until(lambda: load.failed or len(load.waiting(longer_than=0.5)) == clients)
        wait_until(lambda: load.succeeded > clients)
    proxy.stop()
    assert not load.failed, load.failed
