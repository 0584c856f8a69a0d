"""The simulator of tools/scaling against formulas and against steps counted by hand."""

import random
import sys
from statistics import mean

import pytest
from server import ROOT

sys.path.insert(0, str(ROOT / "tools/scaling"))
import workload  # noqa: E402
from routing import ROUTINGS  # noqa: E402
from service import Service, Times  # noqa: E402
from simulate import simulate  # noqa: E402

NOTHING = Times({1: 0.0})


def service(**fields):
    defaults = {
        "vision": NOTHING,
        "prefill": NOTHING,
        "step": NOTHING,
        "prepare": 0.0,
        "decode_threads": 1,
        "slots": 1,
        "prefill_batch": 1,
        "max_token_gap": 1e9,
        "slowdown": Times({1: 1.0}),
    }
    return Service(name="", source="", **defaults | fields)


def run(service, arrivals, replicas=1, routing="round robin", cached_images=0, **more):
    return simulate(service, arrivals, replicas, routing, cached_images, **more)


def at(*times, tokens=1):
    return [workload.Arrival(time, image, tokens) for image, time in enumerate(times)]


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_queue_waits_as_long_as_the_formula_for_constant_service_says(load):
    arrivals = workload.arrivals(load, 100_000, 10, 0.0, (1, 1), seed=1)
    expected = 1 + load / (2 * (1 - load))  # Pollaczek and Khinchine
    assert mean(run(service(prefill=Times({1: 1.0})), arrivals).latencies) == pytest.approx(expected, rel=0.03)


def test_a_shared_machine_is_as_slow_as_the_formula_for_processor_sharing_says():
    arrivals = workload.arrivals(0.6, 100_000, 10, 0.0, (1, 1), seed=1)
    shared = service(prepare=1.0, decode_threads=10**6, slowdown=Times({1: 1.0, 2: 2.0}))
    assert mean(run(shared, arrivals).latencies) == pytest.approx(1 / (1 - 0.6), rel=0.03)


def test_replicas_of_one_machine_slow_each_other_down():
    both = at(0.0, 0.0)
    slower = service(prefill=Times({1: 1.0}), slowdown=Times({1: 1.0, 2: 1.5}))
    assert run(slower, both, replicas=2).latencies == [1.0, 1.0]
    assert run(slower, both, replicas=2, shared_machine=True).latencies == [1.5, 1.5]


def test_answers_share_steps_and_a_prefill_lengthens_them():
    shares = service(prefill=Times({1: 10.0}), step=Times({1: 1.0, 2: 1.5}), slots=2)
    first, second = run(shares, at(0.0, 10.5, tokens=4)).latencies
    # Prefill until 10, a step until 11, a step with the other's prefill until 22, one shared until 23.5.
    assert first == 23.5
    # Two more alone.
    assert second == 23.5 + 2 - 10.5


def test_no_step_has_more_of_a_prefill_than_the_token_gap():
    sliced = service(prefill=Times({1: 10.0}), step=Times({1: 1.0, 2: 1.5}), slots=2, max_token_gap=4.0)
    first, second = run(sliced, at(0.0, 10.5, tokens=4)).latencies
    # After the step until 11: one with 4 s of the prefill, another one, and the first answer is complete.
    assert first == 21.0
    # The other 2 s, and three steps.
    assert second == 21.0 + 2 + 3 - 10.5


def test_a_cached_image_is_not_encoded_again_until_others_have_taken_its_place():
    arrivals = [workload.Arrival(100.0 * place, image, 1) for place, image in enumerate([1, 1, 2, 1, 3, 2])]
    result = run(service(vision=Times({1: 5.0}), prefill=Times({1: 1.0})), arrivals, cached_images=2)
    assert result.latencies == [6.0, 1.0, 6.0, 1.0, 6.0, 6.0]
    assert result.cached == 2 / 6


def test_on_a_slower_machine_everything_takes_longer():
    usual = service(vision=Times({1: 5.0}), prefill=Times({1: 1.0}), step=Times({1: 0.5}), prepare=2.0)
    once, slower = (run(it, at(0.0, tokens=3)) for it in (usual, usual.slower(1.5)))
    assert once.latencies == [9.0] and slower.latencies == [13.5]
    assert (once.vision, slower.vision) == (5.0, 7.5)


def test_waiting_requests_are_prefilled_together():
    together = service(prefill=Times({1: 1.0, 2: 1.5}), slots=8, prefill_batch=2)
    assert run(together, at(0.0, 0.5, 0.5, 0.5)).latencies == [1.0, 2.0, 2.0, 3.0]


def test_images_wait_for_a_thread_that_decodes_them():
    assert run(service(prepare=1.0, decode_threads=2), at(0.0, 0.0, 0.0)).latencies == [1.0, 1.0, 2.0]


def test_the_same_seed_gives_the_same_latencies():
    def latencies(seed):
        arrivals = workload.arrivals(2, 500, 100, 0.8, (10, 20), seed)
        answers = service(prefill=Times({1: 0.3}), step=Times({1: 0.01}), slots=4)
        return run(answers, arrivals, 3, "least queue", 10).latencies

    assert latencies(1) == latencies(1) != latencies(2)


def keys(count):
    return [workload.key(image) for image in range(count)]


def test_affinity_moves_few_keys_when_a_replica_comes():
    three, four = (ROUTINGS["affinity"](count) for count in (3, 4))
    before, after = ([ring.pick(key, [0] * 4) for key in keys(4000)] for ring in (three, four))
    moved = [new for old, new in zip(before, after) if old != new]
    assert set(moved) == {3}
    assert len(moved) / 4000 == pytest.approx(1 / 4, abs=0.08)


def test_spilling_keeps_a_key_at_its_owner_until_that_has_too_much_to_do():
    plain, spilling = ROUTINGS["affinity"](3), ROUTINGS["affinity with spill"](3)
    for key in keys(100):
        owner = plain.pick(key, [0] * 3)
        assert spilling.pick(key, [4, 4, 4]) == owner
        busy = [12 if replica == owner else 0 for replica in range(3)]
        assert spilling.pick(key, busy) != owner


def test_least_queue_takes_a_replica_with_the_least_and_equals_take_turns():
    routing, random_ = ROUTINGS["least queue"](4), random.Random(1)
    for _ in range(100):
        under_way = [random_.randrange(3) for _ in range(4)]
        assert under_way[routing.pick("", under_way)] == min(under_way)
    assert {routing.pick("", [0] * 4) for _ in range(4)} == {0, 1, 2, 3}
