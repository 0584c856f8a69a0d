"""Three real servers, and what a test does to one of them."""

import contextlib
import signal
import threading
import time

from server import Server


@contextlib.contextmanager
def three_replicas(*flags):
    running = [Replica(*flags) for _ in range(3)]
    yield running
    for replica in running:
        if not replica.is_dead:
            replica.stop()


class Replica:
    """A server that can die and come back on the same port."""

    def __init__(self, *flags):
        self.flags = ["--threads", "1", *flags]
        self.server = Server(*self.flags)
        self.address = self.server.address.removeprefix("http://")

    def start(self):
        self.server = Server(*self.flags, port=int(self.address.rpartition(":")[2]))

    def stop(self):
        self.server.stop()

    def kill(self):
        self.server.process.kill()
        self.server.process.wait()

    @property
    def is_dead(self):
        return self.server.process.poll() is not None

    @property
    def answered(self):
        return self.server.metric("paligemma_generations_finished_total")

    def signal(self, number):
        self.server.process.send_signal(number)

    @contextlib.contextmanager
    def frozen(self):
        """Stopped in the middle of its work; connections are still accepted, by the kernel."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def throttled(self, runs, pauses):
        """Runs and pauses in turns of so many seconds."""
        done = threading.Event()

        def take_turns():
            while not done.is_set():
                self.signal(signal.SIGSTOP)
                time.sleep(pauses)
                self.signal(signal.SIGCONT)
                time.sleep(runs)

        turns = threading.Thread(target=take_turns)
        turns.start()
        try:
            yield
        finally:
            done.set()
            turns.join()
