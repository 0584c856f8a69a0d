"""Plots for docs/performance.md, with the model, the format and the machine in each title."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import ScalarFormatter  # noqa: E402

import report  # noqa: E402
from summary import peak_of  # noqa: E402

COLOURS = ("#1b6ca8", "#e08214", "#7a7a7a", "#b8b8b8")
STAGE_COLOURS = {"queue": "#7a7a7a", "vision": "#2c9c69", "prefill": "#1b6ca8", "decode": "#e08214"}
LIMIT_COLOUR = "#b2182b"


def draw(summary, folder, slug):
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    colours = dict(zip(summary["sides"], COLOURS))
    plots = {"1-request": one_request, "concurrency": concurrency, "stages": stages}
    for name, plot in plots.items():
        figure = plot(summary, colours)
        if figure is None:
            continue
        figure.suptitle(report.title(summary), fontsize=10, fontweight="bold")
        figure.savefig(folder / f"{slug}-{name}.png", dpi=110)
        plt.close(figure)


def one_request(summary, colours):
    """The first token and the time between tokens of each side, and where the machine's limits lie."""
    sides = report.levels(summary, 1)
    if not sides:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(8, 1.7 + 0.45 * len(sides)), layout="constrained", sharey=True)
    limits = machine_times(summary)
    parts = (("first", 1, "time to the first token, s"), ("gap", 1000, "time between tokens, ms"))
    for axis, (key, factor, label) in zip(axes, parts):
        for row, (name, level) in enumerate(sides):
            low, middle, high = (factor * value for value in level[key])
            axis.barh(row, middle, color=colours[name], xerr=[[middle - low], [high - middle]], capsize=3, height=0.65)
            axis.annotate(report.number(middle), (high, row), (5, 0), textcoords="offset points", va="center")
        if limits:
            line = axis.axvline(factor * limits[key], color=LIMIT_COLOUR, linestyle="--")
        axis.set(xlabel=label, yticks=range(len(sides)), yticklabels=[name for name, _ in sides])
        axis.locator_params(axis="x", nbins=5)
        axis.margins(x=0.18)
    axes[0].invert_yaxis()
    if limits:
        figure.legend([line], ["the machine's limit"], loc="outside lower center", frameon=False)
    return figure


def machine_times(summary):
    """Seconds that one request would take at the machine's limits."""
    limits = summary["machine"]["limits"]
    if not limits:
        return None
    operations = summary["operations"]["vision"] + summary["operations"]["text"]
    return {"first": operations / peak_of(summary), "gap": summary["token_bytes"] / limits["read"]["all"][1]}


def concurrency(summary, colours):
    """Throughput and latency over the number of requests at once."""
    counts = report.counts(summary)
    if len(counts) < 2:
        return None
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.7), layout="constrained")
    for name, side in summary["sides"].items():
        is_server = side["kind"] == "server"
        # transformers has batches of a few sizes, with nothing measured between them.
        style = {"color": colours[name], "markersize": 5, "marker": "o" if is_server else "s"}
        line = "-" if is_server else "none"
        parts = (("throughput", 1), ("first", 1), ("gap", 1000))
        for axis, (key, factor) in zip(axes, parts):
            y = [factor * level[key][1] for level in side["levels"].values()]
            axis.plot(side["levels"].keys(), y, linestyle=line, label=name, **style)
        if is_server:
            y = [1000 * level["gap_p99"] for level in side["levels"].values()]
            axes[2].plot(side["levels"].keys(), y, linestyle="--", **style | {"markerfacecolor": "white"})
    labels = ("tokens per second, all answers", "time to the first token, s", "time between tokens, ms")
    notes = ("median", "median", "median (solid), 99th percentile (dashed)")
    for axis, label, note in zip(axes, labels, notes):
        axis.set(xlabel="requests at once", ylabel=label, xscale="log", xticks=counts)
        axis.set_title(note, fontsize=9)
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def stages(summary, _):
    """Where the time of one request goes."""
    sides = [(name, level["stages"]) for name, level in report.levels(summary, 1) if "stages" in level]
    if not sides:
        return None
    figure, axis = plt.subplots(figsize=(8, 1.5 + 0.45 * len(sides)), layout="constrained")
    for row, (name, seconds) in enumerate(sides):
        left = 0
        for stage, colour in STAGE_COLOURS.items():
            axis.barh(row, seconds[stage], left=left, color=colour, height=0.6, label=stage if row == 0 else None)
            if seconds[stage] > 0.06 * seconds["total"]:
                text = f"{report.number(seconds[stage])} s"
                axis.text(left + seconds[stage] / 2, row, text, ha="center", va="center", color="white")
            left += seconds[stage]
    axis.set(xlabel="one request, seconds (medians)", yticks=range(len(sides)), yticklabels=[name for name, _ in sides])
    axis.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    return figure
