"""Evaluates the demo on scenes that share nothing with its training but the words.

python evaluate.py --server http://127.0.0.1:8080         # through a running server
python evaluate.py --folder ../../../models/demo          # with transformers
python evaluate.py --folder ../../../models/demo --adapter ../../../models/demo-counting --counts
python evaluate.py --sheet scenes.png                     # only draws some of the scenes, to look at
"""

import argparse
import time
from pathlib import Path

import categories
import questions
import report
import scoring

# So many scenes are drawn before they are asked about.
CHUNK = 54


def main():
    args = _arguments()
    if args.sheet:
        import sheet

        sheet.save(args.sheet, args.seed, args.rows)
    if args.server or args.folder:
        start = time.monotonic()
        answerer = _answerer(args)
        result = _measure(answerer, args)
        print(report.text(result.by_category()), report.text(result.by_kind()), report.NOTE, sep="\n\n")
        print(f"{args.scenes} scenes of seed {args.seed} in {time.monotonic() - start:.0f} s through {answerer.name}")
        if args.markdown:
            args.markdown.write_text(f"{report.markdown(result.by_category())}\n\n{report.NOTE}\n")


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--server", help="address of a running server")
    where.add_argument("--folder", type=Path, help="checkpoint to load with transformers")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter on that folder's checkpoint")
    parser.add_argument("--counts", action="store_true", help="captions should count: `2 circles, 1 star`")
    parser.add_argument(
        "--scenes", type=int, default=100 * len(categories.CATEGORIES), help="the categories take turns"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--markdown", type=Path, help="file to write the table of categories to")
    parser.add_argument("--sheet", type=Path, help="PNG to draw scenes to")
    parser.add_argument("--rows", type=int, default=4, help="scenes of each category on the sheet")
    args = parser.parse_args()
    if not (args.server or args.folder or args.sheet):
        parser.error("give --server, --folder or --sheet")
    if args.adapter and not args.folder:
        parser.error("--adapter goes with --folder")
    return args


def _answerer(args):
    # Imported when needed, so that neither needs what the other is built on.
    if args.server:
        from server import Server

        return Server(args.server)
    from folder import Folder

    return Folder(args.folder, args.adapter)


def _measure(answerer, args):
    result = report.Report([c.name for c in categories.CATEGORIES])
    for start in range(0, args.scenes, CHUNK):
        drawn = [categories.numbered(args.seed, i) for i in range(start, min(start + CHUNK, args.scenes))]
        asked = [(category, scene.image, prompt) for category, scene, prompts in drawn for prompt in prompts]
        if args.counts:
            asked = [(category, image, questions.counting(prompt)) for category, image, prompt in asked]
        answers = answerer.answers([(image, prompt) for _, image, prompt in asked])
        for (category, _, prompt), answer in zip(asked, answers):
            result.add(category.name, prompt, scoring.values(prompt, answer))
    return result


if __name__ == "__main__":
    main()
