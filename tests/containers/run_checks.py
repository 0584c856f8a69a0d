"""Runs the checks, and prints one line for each.

Arguments: names of checks, or `cuda` for those of the CUDA image; without any, all but these.
"""

import sys
import time
import traceback

import check_cuda
import check_hub
import check_image
import check_monitoring
import check_one
import check_replicas

MODULES = [check_image, check_one, check_hub, check_replicas, check_monitoring]


def main(wanted):
    modules = [check_cuda] if wanted == ["cuda"] else MODULES
    wanted = [] if wanted == ["cuda"] else wanted
    checks = {check.__name__: check for module in modules for check in module.CHECKS}
    if unknown := set(wanted) - set(checks):
        sys.exit(f"no such check: {', '.join(unknown)}; there are {', '.join(checks)}")
    failed = 0
    for name, check in checks.items():
        if wanted and name not in wanted:
            continue
        start = time.monotonic()
        try:
            told = check()
        except Exception:
            traceback.print_exc()
            failed += 1
            told = "FAILED"
        print(f"{name.replace('_', ' ')}: {told or 'as it should be'} ({time.monotonic() - start:.0f} s)", flush=True)
    if failed:
        sys.exit(f"{failed} container checks failed")


main(sys.argv[1:])
