"""Two network namespaces with a link between them: `ip` and a queue discipline where rate is all that is wanted, else packets are
passed on by this process, which delays, drops and counts them (this needs no netem in the kernel). Root only."""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time

ADDRESSES = {"a": "10.213.7.1", "b": "10.213.7.2"}
CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Link:
    """Namespaces a and b; `rate` in Mbit/s, `delay` one way in ms, `loss` in percent of the packets."""

    def __init__(self, rate=0, delay=0, loss=0):
        self.name = {side: f"dunlin-{os.getpid()}-{side}" for side in "ab"}
        self.stopping = False
        self.thread = None
        for side in "ab":
            ip("netns", "add", self.name[side])
            ip("-n", self.name[side], "link", "set", "lo", "up")
        if delay or loss:
            ends = [self._tun(side) for side in "ab"]
            self.thread = threading.Thread(target=self._pass_on, args=(ends, rate, delay / 1e3, loss / 100), daemon=True)
            self.thread.start()
        else:
            ip("link", "add", "dunlin0", "netns", self.name["a"], "type", "veth", "peer", "name", "dunlin0", "netns", self.name["b"])
            for side in "ab":
                ip("-n", self.name[side], "addr", "add", f"{ADDRESSES[side]}/24", "dev", "dunlin0")
                ip("-n", self.name[side], "link", "set", "dunlin0", "up")
                if rate:
                    limit = ["rate", f"{rate}mbit", "burst", "256kb", "latency", "20ms"]
                    subprocess.run(["tc", "-n", self.name[side], "qdisc", "add", "dev", "dunlin0", "root", "tbf", *limit], check=True)

    def inside(self, side):
        """Words that run a command in a namespace."""
        return ["ip", "netns", "exec", self.name[side]]

    def close(self):
        self.stopping = True
        if self.thread:
            self.thread.join()
        for side in "ab":
            subprocess.run(["ip", "netns", "del", self.name[side]], capture_output=True)

    def _tun(self, side):
        made = {}

        # A namespace belongs to a thread.
        def make():
            space = os.open(f"/run/netns/{self.name[side]}", os.O_RDONLY)
            if ctypes.CDLL(None, use_errno=True).setns(space, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            made["tun"] = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(made["tun"], TUNSETIFF, struct.pack("16sH22x", b"dunlin0", IFF_TUN | IFF_NO_PI))
            os.close(space)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if "tun" not in made:
            sys.exit("bench: a TUN device can't be made (this needs root and /dev/net/tun)")
        ip("-n", self.name[side], "addr", "add", f"{ADDRESSES[side]}/24", "dev", "dunlin0")
        ip("-n", self.name[side], "link", "set", "dunlin0", "up")
        return made["tun"]

    def _pass_on(self, ends, rate, delay, loss):
        chance, queues, free, count = random.Random(1), ([], []), [0.0, 0.0], 0
        while not self.stopping:
            now = time.monotonic()
            due = min([queue[0][0] for queue in queues if queue], default=now + 0.2)
            for end in select.select(ends, [], [], max(0, due - now))[0]:
                side = ends.index(end)
                for _ in range(64):
                    try:
                        packet = os.read(end, 1 << 16)
                    except BlockingIOError:
                        break
                    now = time.monotonic()
                    # As a router's: a queue of a quarter of a second, and what doesn't fit is lost, too.
                    if chance.random() < loss or free[side] - now > 0.25:
                        continue
                    free[side] = max(free[side], now) + (len(packet) * 8 / (rate * 1e6) if rate else 0)
                    count += 1
                    heapq.heappush(queues[side], (free[side] + delay, count, packet))
            now = time.monotonic()
            for side in (0, 1):
                while queues[side] and queues[side][0][0] <= now:
                    try:
                        os.write(ends[1 - side], heapq.heappop(queues[side])[2])
                    except BlockingIOError:
                        pass
        for end in ends:
            os.close(end)
