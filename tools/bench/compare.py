"""Measures paligemma-server from end to end, in turn with what it is compared with, and against the machine's limits.

    python3 tools/bench/compare.py                            PaliGemma 3B at 224 px, q8_0, against transformers
    python3 tools/bench/compare.py --baseline OLD_BINARY      two builds of the server as well
    python3 tools/bench/compare.py --from RESULTS.json --write-docs

tools/bench/README.md says what each figure means and how long a run takes.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import preparation  # noqa: E402
from reference import CHOICES  # noqa: E402

SHAPES = ("paligemma-3b-224", "paligemma2-3b-224", "paligemma2-3b-448", "tiny")


def numbers(text):
    return sorted({int(part) for part in text.split(",") if part})


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--shape", choices=SHAPES, default=SHAPES[0], help="of a checkpoint with random weights")
    what.add_argument("--checkpoint", help="a folder, instead of one with random weights")
    what.add_argument("--binary", help="the server; built from this working tree by default")
    what.add_argument("--baseline", help="another build of the server, to measure a change")
    what.add_argument("--recorded", action="store_true", help="on a GPU, also the server with recorded decode steps")
    what.add_argument("--reference", default="bf16", help="transformers in bf16 and f32, each also with a static cache, such as bf16,bf16-static; none: without it")
    what.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    what.add_argument("--dtype", default="auto", help="weights of the server: q8_0, q4k or f32 on a CPU")
    how = parser.add_argument_group("how")
    how.add_argument("--concurrency", type=numbers, default=[1, 2, 4, 8, 16, 32], help="requests at once")
    how.add_argument("--reference-concurrency", type=numbers, default=[1, 8], help="of these, batches of transformers")
    how.add_argument("--tokens", type=int, default=32, help="of each answer, at least 2")
    how.add_argument("--repeats", type=int, default=5, help="rounds; in each, every side has every turn")
    how.add_argument("--slots", type=int, default=8, help="requests that the server answers at the same time")
    how.add_argument("--limits", help="the program machine_limits; built from this working tree by default")
    how.add_argument("--skip-limits", action="store_true")
    how.add_argument("--python", help="a Python with the packages of requirements.txt; a venv is made by default")
    output = parser.add_argument_group("output")
    output.add_argument("--out", help="the file for the results [default: target/bench/SHAPE-DTYPE.json]")
    output.add_argument("--from", dest="earlier", help="report these results instead of measuring")
    output.add_argument("--write-docs", action="store_true", help="plots and tables into docs/")
    args = parser.parse_args()
    args.reference = [name for name in args.reference.split(",") if name != "none"]
    if not CHOICES.issuperset(args.reference):
        parser.error(f"--reference takes {', '.join(sorted(CHOICES))} or none, not {','.join(args.reference)}")
    if args.tokens < 2 or args.repeats < 1 or not args.concurrency or min(args.concurrency) < 1:
        parser.error("a measurement takes at least 2 tokens, 1 repeat and 1 request at once")
    return args


def main():
    args = parse()
    preparation.use_packages(args)
    # What these import may have been missing so far.
    import report
    from summary import summarise

    results = json.loads(Path(args.earlier).read_text()) if args.earlier else measure(args)
    summary = summarise(results)
    print(report.tables(summary))
    if args.write_docs:
        import plots

        slug = report.slug(summary)
        plots.draw(summary, preparation.ROOT / "docs/performance", slug)
        report.write_docs(summary, preparation.ROOT / "docs/performance.md", slug)


def measure(args):
    from limits import Limits
    from reference import Reference
    from server import Server
    from work import Work

    if args.dtype == "auto":
        args.dtype = "q8_0" if args.device == "cpu" else "bf16"
    built_from = "a binary that was given" if args.binary else f"commit {preparation.commit()}"
    args.binary = preparation.binary(args.binary)
    args.checkpoint = preparation.checkpoint(args.checkpoint, args.shape)
    work = Work(args.checkpoint)
    limits = Limits(args)
    sides = []
    try:
        sides.append(Server("paligemma-server", args.binary, args, work.side))
        if args.baseline:
            sides.append(Server("baseline", args.baseline, args, work.side))
        if args.recorded:
            sides.append(Server("recorded steps", args.binary, args, work.side, ["--cuda-graphs", "on"]))
        sides += [Reference(args, choice, work.side) for choice in args.reference]
        for rounds, runs in enumerate(take_turns(args, sides, limits), 1):
            usage = runs["paligemma-server"][str(args.concurrency[0])][0][0]["usage"]
            results = {
                "model": Path(args.checkpoint).name,
                "settings": {key: getattr(args, key) for key in ("device", "dtype", "tokens", "slots")},
                "built_from": built_from,
                "date": time.strftime("%Y-%m-%d"),
                "rounds": rounds,
                "machine": limits.describe(),
                "operations": work.prefill_operations(usage["prompt_tokens"]),
                "token_bytes": work.token_bytes(args.dtype),
                "usage": usage,
                "sides": {side.name: side.describe() | {"runs": runs[side.name]} for side in sides},
            }
            # After each round, so that a run that is cut short was not in vain.
            write(args, results)
    finally:
        for side in sides:
            side.stop()
    return results


def take_turns(args, sides, limits):
    """In each round, every side has a turn with every concurrency; yields the runs so far after each."""
    runs = {side.name: {} for side in sides}
    for side in sides:
        side.warm(args.tokens)
    limits.measure()
    turn = 0
    for number in range(1, args.repeats + 1):
        for count in args.concurrency:
            first = turn % len(sides)
            turn += 1
            for side in sides[first:] + sides[:first]:
                if side.takes(count):
                    answers = side.run(1000 * turn, count, args.tokens)
                    runs[side.name].setdefault(str(count), []).append(answers)
                    show(number, side.name, count, answers)
        limits.measure()
        yield runs


def show(number, name, count, answers):
    first, last = (max(answer["times"][i] for answer in answers) for i in (0, -1))
    text = f"round {number}, {name}, {count} at once: first token {first:.3g} s, last {last:.3g} s"
    print(text, file=sys.stderr, flush=True)


def write(args, results):
    default = preparation.ROOT / "target/bench" / f"{results['model']}-{args.dtype}.json"
    path = Path(args.out) if args.out else default
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results))
    print(f"results so far: {path}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
