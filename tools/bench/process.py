"""What the system knows about a process."""


def memory(pid):
    """Resident memory in bytes: now, and at most so far."""
    with open(f"/proc/{pid}/status") as file:
        lines = dict(line.split(":", 1) for line in file if ":" in line)
    now, peak = (1024 * int(lines[key].split()[0]) for key in ("VmRSS", "VmHWM"))
    return {"now": now, "peak": peak}


def available():
    """Bytes that processes can still take without swapping."""
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return 1024 * int(lines["MemAvailable"].split()[0])
