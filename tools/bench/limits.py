"""The machine and its limits, from examples/machine_limits, again and again during a measurement."""

import json
import statistics
import subprocess

import preparation


class Limits:
    """What the processor can do at most; on a GPU only the device's name."""

    def __init__(self, args):
        self.device, self.runs = args.device, []
        self.program = None
        if args.device == "cpu" and not args.skip_limits:
            self.program = args.limits or preparation.built_example("machine_limits")

    def measure(self):
        if self.program:
            done = subprocess.run([self.program], check=True, capture_output=True, text=True)
            self.runs.append(json.loads(done.stdout))

    def describe(self):
        """The device's name, and its limits in operations or bytes per second."""
        if not self.runs:
            return {"name": gpu() if self.device == "cuda" else processor(), "instructions": [], "limits": None}
        limits = {
            kind: {"by": self.runs[0][kind]["by"]}
            | {cores: self._over_runs(kind, cores) for cores in ("one", "all")}
            for kind in ("int8", "f32", "read")
        }
        cores = self.runs[0]["cores"]
        name = f"{self.runs[0]['processor']}, {cores} cores"
        return {"name": name, "instructions": self.runs[0]["instructions"], "limits": limits, "runs": self.runs}

    def _over_runs(self, kind, cores):
        """The lowest, the median and the highest of the runs' medians."""
        values = sorted(run[kind][cores]["median"] for run in self.runs)
        return values[0], statistics.median(values), values[-1]


def gpu():
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.check_output(command, text=True).splitlines()[0]


def processor():
    with open("/proc/cpuinfo") as file:
        return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
