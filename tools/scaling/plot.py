"""Draws the plots of docs/scaling.md.

    python3 tools/scaling/plot.py
"""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import workload  # noqa: E402
from routing import ROUTINGS  # noqa: E402
from service import Service  # noqa: E402
from simulate import quantile, simulate  # noqa: E402

MEASURED = Path(__file__).resolve().parent / "measured"
PLOTS = Path(__file__).resolve().parents[2] / "docs/performance"
COLOURS = {"round robin": "#7a7a7a", "least queue": "#1b6ca8", "affinity": "#e08214", "affinity with spill": "#2c9c69"}
PREPARE, DECODE_THREADS = 0.025, 16  # photographs of 200 kB
REPLICAS, IMAGES, POPULARITY, TOKENS = 10, 2000, 1.0, (10, 20)
# File, title, requests a second for each replica, arrivals of a point, images in a cache of 256 MB, most of the axis.
PANELS = (
    ("paligemma-3b-224-q8_0-amx-2-cores", "each 2 cores of a Xeon with AMX, q8_0", (0.1, 1.0), 8_000, 122, 20),
    ("paligemma-3b-224-bf16-h100", "each one H100, bf16", (20, 320), 25_000, 244, 0.8),
)
POINTS = 16
LABELS = {"measured": "measured", "at_pace": "simulated"}


def curves(name, rates, count, cached_images):
    """The mean, the p99 and the share of cached images over the rate, by routing."""
    service = replace(Service.read(MEASURED / f"{name}.json"), prepare=PREPARE, decode_threads=DECODE_THREADS)
    found = {routing: [] for routing in ROUTINGS}
    for point in range(POINTS):
        rate = REPLICAS * (rates[0] + (rates[1] - rates[0]) * point / (POINTS - 1))
        arrivals = workload.arrivals(rate, count / rate, IMAGES, POPULARITY, TOKENS, seed=1)
        for routing in ROUTINGS:
            result = simulate(service, arrivals, REPLICAS, routing, cached_images)
            found[routing].append((rate, mean(result.latencies), quantile(result.latencies, 0.99), result.cached))
    return {routing: list(zip(*points)) for routing, points in found.items()}


def routings():
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10.5, 4.8), layout="constrained")
    for axis, (name, title, rates, count, cached_images, most) in zip(axes, PANELS):
        for routing, (rate, means, p99, cached) in curves(name, rates, count, cached_images).items():
            label = f"{routing} ({100 * median(cached):.0f} % cached)"
            axis.plot(rate, p99, color=COLOURS[routing], label=label)
            axis.plot(rate, means, color=COLOURS[routing], linestyle="--", linewidth=1)
        axis.set(xlabel=f"requests a second, {REPLICAS} replicas together", ylabel="latency, s", ylim=(0, most))
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.locator_params(axis="y", nbins=5)
        axis.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    heading = f"Simulated: PaliGemma 3B at 224 px, {REPLICAS} replicas; p99 (solid) and mean (dashed)"
    figure.suptitle(heading, fontsize=10, fontweight="bold")
    return figure


def comparison():
    rounds = json.loads((MEASURED / "comparison.json").read_text())
    rates = list(dict.fromkeys(each["rate"] for each in rounds))
    compared = list(dict.fromkeys(each["routing"] for each in rounds))
    figure, axes = plt.subplots(1, len(rates), figsize=(9, 4.4), layout="constrained", sharey=True)
    for axis, rate in zip(axes, rates):
        for place, routing in enumerate(compared):
            same = [each for each in rounds if (each["rate"], each["routing"]) == (rate, routing)]
            draw_pair(axis, place, same)
        axis.set(xticks=range(len(compared)), xticklabels=compared, xlim=(-0.6, len(compared) - 0.4))
        axis.set_title(f"{rate:g} requests a second", fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("latency, ms")
    axes[0].set_ylim(bottom=0)
    handles, labels = axes[0].get_legend_handles_labels()
    known = dict(zip(labels, handles))
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=3, frameon=False)
    heading = "The demo, three replicas of one thread on two cores: each mark is a run"
    figure.suptitle(heading, fontsize=10, fontweight="bold")
    return figure


def draw_pair(axis, place, rounds):
    """The runs of one routing: measured left, simulated at the machine's pace right."""
    sides = (("measured", -0.12, "o", "#1b6ca8"), ("at_pace", 0.12, "D", "#e08214"))
    for side, shift, marker, colour in sides:
        for name, face in (("mean", "white"), ("p99", colour)):
            y = [1000 * each[side][name] for each in rounds]
            if side == "measured":
                draw_band(axis, place, median(y))
            style = {"marker": marker, "color": colour, "markerfacecolor": face, "linestyle": "none"}
            axis.plot([place + shift] * len(y), y, label=f"{name}, {LABELS[side]}", **style)


def draw_band(axis, place, middle):
    """20 % around what was measured."""
    edges = [place - 0.3, place + 0.3]
    style = {"color": "#1b6ca8", "alpha": 0.12, "linewidth": 0, "label": "measured median ± 20 %"}
    axis.fill_between(edges, 0.8 * middle, 1.2 * middle, **style)


def main():
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    for name, figure in (("scaling-routings", routings()), ("scaling-comparison", comparison())):
        figure.savefig(PLOTS / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
