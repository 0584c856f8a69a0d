"""Medians, quartiles, ratios and shares of what was measured."""

import numpy as np


def summarise(results):
    """What tables and plots show. Times are in seconds, and each spread is (quartile, median, quartile)."""
    sides = {name: _side(side) for name, side in results["sides"].items()}
    keys = ("model", "settings", "built_from", "date", "rounds", "machine", "operations", "token_bytes", "usage")
    summary = {key: results[key] for key in keys} | {"sides": sides, "ratios": _ratios(results["sides"])}
    return summary | {"shares": _shares(summary)}


def spread(values):
    return tuple(float(value) for value in np.percentile(values, [25, 50, 75]))


def _side(side):
    levels = {int(count): _level(turns) for count, turns in side["runs"].items()}
    rest = {key: value for key, value in side.items() if key != "runs"}
    return rest | {"levels": levels}


def _level(turns):
    """All turns with the same number of requests at once."""
    answers = [answer for turn in turns for answer in turn]
    gaps = np.concatenate([np.diff(answer["times"]) for answer in answers])
    level = {
        "first": spread([answer["times"][0] for answer in answers]),
        "gap": spread(gaps),
        "gap_p99": float(np.percentile(gaps, 99)),
        "throughput": spread([_throughput(turn) for turn in turns]),
    }
    if "timings" in answers[0]:
        timings = [answer["timings"] for answer in answers]
        stages = ("queue", "vision", "prefill", "decode", "total")
        level["stages"] = {key: float(np.median([each[f"{key}_ms"] for each in timings])) / 1000 for key in stages}
    return level


def _throughput(turn):
    """Tokens per second from the requests' start to the last token."""
    return sum(len(answer["times"]) for answer in turn) / max(answer["times"][-1] for answer in turn)


def _ratios(sides):
    """How many times as fast as each other side the first one is, round by round, where both were measured."""
    (_, ours), *others = sides.items()
    ratios = []
    for name, side in others:
        for count, turns in side["runs"].items():
            pairs = list(zip(ours["runs"][count], turns))
            ratio = {"than": name, "count": int(count)}
            ratio["first"] = spread([_first(b) / _first(a) for a, b in pairs])
            ratio["gap"] = spread([_gap(b) / _gap(a) for a, b in pairs])
            ratio["throughput"] = spread([_throughput(a) / _throughput(b) for a, b in pairs])
            ratios.append(ratio)
    return ratios


def _first(turn):
    return np.median([answer["times"][0] for answer in turn])


def _gap(turn):
    return np.median(np.concatenate([np.diff(answer["times"]) for answer in turn]))


def peak_of(summary):
    """Operations per second of all cores, of the kind that the weights' format needs."""
    kind = "f32" if summary["settings"]["dtype"] == "f32" else "int8"
    return summary["machine"]["limits"][kind]["all"][1]


def _shares(summary):
    """What each server makes of the machine when it answers one request: shares of the limits, 1 is all."""
    limits, operations = summary["machine"]["limits"], summary["operations"]
    if limits is None:
        return {}
    peak, bandwidth = peak_of(summary), limits["read"]["all"][1]
    shares = {}
    for name, side in summary["sides"].items():
        if side["kind"] != "server" or 1 not in side["levels"]:
            continue
        level = side["levels"][1]
        seconds = {"first": level["first"][1], "vision": level["stages"]["vision"], "text": level["stages"]["prefill"]}
        work = {"first": operations["vision"] + operations["text"], **operations}
        shares[name] = {key: work[key] / seconds[key] / peak for key in seconds}
        shares[name]["gap"] = summary["token_bytes"] / level["gap"][1] / bandwidth
    return shares
