"""Puts clients that know nothing of rondo on the samples line_chat, tcp_proxy, chaos_proxy, udp_echo and unix_chat.

    sample_clients.py FOLDER_OF_PROGRAMS [chat|proxy|chaos|udp|unix]... [ROOMS]

ROOMS: how many rooms of the chat have eight members each, 100 if it is not said.
"""

import atexit
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

PATIENCE = 120
failures = 0


def check(name, good, seen=""):
    global failures
    failures += not good
    print(f"{'ok     ' if good else 'FAILED '} {name}" + ("" if good else f": {seen}"))


class Program:
    """A sample that says where it listens; ended by SIGTERM."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)  # when a check fails by an exception
        self.says = self.process.stdout.readline()
        port = re.search(r"listening on [^ ,]*:(\d+)", self.says)
        self.port = int(port.group(1)) if port else None

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        out = self.process.communicate(timeout=PATIENCE)[0]
        return self.process.returncode, out


def connect(port):
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def read_all(s):
    parts = []
    while part := s.recv(65536):
        parts.append(part)
    return b"".join(parts)


# --- line_chat


def chat(folder, rooms=100, members=8, lines=200):
    server = Program(f"{folder}/line_chat", "--port", "0")

    lazy = socket.socket()  # never reads what its room says
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    lazy.connect(("127.0.0.1", server.port))
    lazy.sendall(b"busy\n")
    busy = connect(server.port)
    busy.sendall(b"busy\n")

    clients = []
    for room in range(rooms):
        for _ in range(members):
            s = connect(server.port)
            s.sendall(b"room %d\n" % room)
            clients.append(s)
    # A first line of each, so that all are in their rooms before they talk.
    for s in clients:
        s.sendall(b"hello\n")
    time.sleep(1)

    text = b"".join(b"line %d\n" % i for i in range(lines))
    poll = select.epoll()
    by_fd = {s.fileno(): [s, text, 0, b""] for s in clients}
    for s in clients:
        s.setblocking(False)
        poll.register(s.fileno(), select.EPOLLIN | select.EPOLLOUT)
    talk = b"x" * 1000 + b"\n"
    busy_got = [0]

    def busy_talks():
        for i in range(8000):
            while busy_got[0] < (i - 100) * len(talk):  # it is no lazy one itself
                time.sleep(0.001)
            busy.sendall(talk)

    busy_thread = threading.Thread(target=busy_talks, daemon=True)
    busy_thread.start()

    def busy_reads():
        try:
            while part := busy.recv(1 << 16):
                busy_got[0] += len(part)
        except OSError:
            pass

    threading.Thread(target=busy_reads, daemon=True).start()

    wanted = members * lines
    seen, waiting = 0, len(clients)
    end = time.monotonic() + PATIENCE
    while waiting and time.monotonic() < end:
        for fd, events in poll.poll(1):
            state = by_fd[fd]
            if events & select.EPOLLOUT:
                if state[1]:
                    state[1] = state[1][state[0].send(state[1]):]
                if not state[1]:
                    poll.modify(fd, select.EPOLLIN)
            if events & select.EPOLLIN:
                part = state[0].recv(1 << 16)
                if not part:
                    poll.unregister(fd)
                    continue
                got = (state[3] + part).count(b"line ") - state[3].count(b"line ")
                state[3] = part[-4:]
                seen += got
                before, state[2] = state[2], state[2] + got
                waiting -= before < wanted <= state[2]
    check(f"line_chat: {len(clients)} clients, all {len(clients) * wanted} deliveries", seen == len(clients) * wanted, seen)
    busy_thread.join(PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while busy_got[0] < 8000 * 1001 and time.monotonic() < deadline:
        time.sleep(0.05)
    check("line_chat: a client that never reads harms nobody", busy_got[0] == 8000 * 1001, busy_got[0])
    lazy.settimeout(PATIENCE)
    try:
        left = len(read_all(lazy))
    except ConnectionError:
        left = 0
    check("line_chat: and is shown out", left < 8000 * 1001, left)
    too_long = connect(server.port)
    too_long.sendall(b"room\n" + b"y" * 10000)
    too_long.settimeout(PATIENCE)
    try:
        read_all(too_long)
        ended = True
    except ConnectionError:
        ended = True
    except OSError:
        ended = False
    check("line_chat: a line without end ends only its client", ended)
    for s in clients:
        s.close()
    code, out = server.end()
    check("line_chat: SIGTERM ends it, and it says what it did", code == 0 and "deliveries" in out, (code, out))


# --- tcp_proxy


def listener():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(100)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def is_reset(s):
    try:
        read_all(s)
        return False
    except ConnectionResetError:
        return True


def proxy(folder):
    target = listener()
    server = Program(f"{folder}/tcp_proxy", "0", f"127.0.0.1:{target.getsockname()[1]}")

    def pair():
        near = connect(server.port)
        near.settimeout(PATIENCE)
        far = target.accept()[0]
        far.settimeout(PATIENCE)
        return near, far

    near, far = pair()
    near.sendall(b"question")
    near.shutdown(socket.SHUT_WR)
    question = read_all(far)
    far.sendall(b"answer after the end")
    far.close()
    answer = read_all(near)
    check("tcp_proxy: a half-closed connection goes on the other way", (question, answer) == (b"question", b"answer after the end"))

    data = os.urandom(8_000_000)
    near, far = pair()
    received = []
    reading = threading.Thread(target=lambda: received.append(read_all(far)))
    reading.start()
    near.sendall(data)
    near.shutdown(socket.SHUT_WR)
    reading.join(PATIENCE)
    check("tcp_proxy: megabytes pass unchanged", received == [data])
    far.close()

    near, far = pair()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    text = b""
    for i in range(500):
        near.sendall(bytes([i % 256]))
        text += far.recv(1)
    check("tcp_proxy: single bytes pass at once", text == bytes(i % 256 for i in range(500)))

    near, far = pair()
    near.sendall(b"half a mess")
    got = far.recv(100)
    reset(near)
    check("tcp_proxy: a reset of the client is one for the server", got == b"half a mess" and is_reset(far))
    near, far = pair()
    far.sendall(b"half an ans")
    got = near.recv(100)
    reset(far)
    check("tcp_proxy: a reset of the server is one for the client", got == b"half an ans" and is_reset(near))

    target.close()
    try:
        refused = is_reset(connect(server.port))
    except ConnectionResetError:  # while it was connecting
        refused = True
    check("tcp_proxy: when nobody listens there, the client is reset", refused)
    code, out = server.end()
    check("tcp_proxy: SIGTERM ends it, and it says what it did", code == 0 and "bytes there" in out, (code, out))
    wrong = [["1"], ["x", "127.0.0.1:1"], ["70000", "127.0.0.1:1"], ["1", "host:1"], ["1", "127.0.0.1"]]
    refused = [subprocess.run([f"{folder}/tcp_proxy", *each], capture_output=True, text=True) for each in wrong]
    check("tcp_proxy: a wrong command line is said", all(r.returncode == 2 and "usage" in r.stderr for r in refused))


# --- chaos_proxy


class Echo(threading.Thread):
    """Gives each connection back what it sends, one after the other, and remembers how each ended."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = listener()
        self.port = self.socket.getsockname()[1]
        self.ends = []
        self.start()

    def run(self):
        while True:
            s = self.socket.accept()[0]
            s.settimeout(PATIENCE)
            try:
                while part := s.recv(65536):
                    s.sendall(part)
                s.shutdown(socket.SHUT_WR)
                self.ends.append("end")
            except OSError as error:
                self.ends.append(type(error).__name__)
            s.close()


def ask(port, data):
    """What came back, and how it ended."""
    s = connect(port)
    s.settimeout(PATIENCE)
    back = b""

    def sends():
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    sending = threading.Thread(target=sends)
    sending.start()
    how = "end"
    try:
        while part := s.recv(65536):
            back += part
    except OSError as error:
        how = type(error).__name__
    sending.join(PATIENCE)
    s.close()
    return back, how


def chaos(folder):
    echo = Echo()
    target = f"127.0.0.1:{echo.port}"
    data = os.urandom(40_000)

    def through(*options, times=1):
        server = Program(f"{folder}/chaos_proxy", "0", target, *options)
        answers = [ask(server.port, data) for _ in range(times)]
        code, out = server.end()
        check(f"chaos_proxy {' '.join(options)}: SIGTERM ends it, and it counts",
              code == 0 and f"{times} connections" in out, (code, out))
        return answers

    check("chaos_proxy: without options it is a proxy", through() == [(data, "end")])
    check("chaos_proxy: dribbled, the bytes are the same", through("--dribble", "7") == [(data, "end")])
    begin = time.monotonic()
    answers = through("--delay", "100")
    check("chaos_proxy: delayed, they are the same, and late", answers == [(data, "end")] and time.monotonic() - begin > .2)

    cut = through("--cut", "100", "--within", "40000", "--seed", "3", times=20)
    check("chaos_proxy: cut, each answer is a beginning, and its end a clean one",
          all(how == "end" and data.startswith(back) and len(back) < len(data) for back, how in cut),
          [(len(back), how) for back, how in cut])
    torn = through("--reset", "100", "--within", "40000", "--seed", "3", times=20)
    check("chaos_proxy: reset, each answer is a beginning, and its end no clean one",
          all(how == "ConnectionResetError" and data.startswith(back) for back, how in torn),
          [(len(back), how) for back, how in torn])
    deadline = time.monotonic() + PATIENCE
    while len(echo.ends) < 43 and time.monotonic() < deadline:
        time.sleep(.01)
    check("chaos_proxy: so it is for the server", len(echo.ends) == 43 and "end" not in echo.ends[-20:], echo.ends)
    mixed = [["--cut", "40", "--reset", "30", "--within", "40000", "--seed", seed] for seed in ["7", "7", "0x70000000000"]]
    ends = [[how for _, how in through(*options, times=30)] for options in mixed]
    check("chaos_proxy: a seed has the same fates, another one has others", ends[0] == ends[1] != ends[2], ends)
    check("chaos_proxy: some are spared", 0 < ends[0].count("ConnectionResetError") < 25, ends[0])

    wrong = [["0"], ["0", "here:1"], ["x", target], ["0", target, "--cut", "101"], ["0", target, "--cut", "60", "--reset", "60"],
             ["0", target, "--slow", "1"]]
    refused = [subprocess.run([f"{folder}/chaos_proxy", *each], capture_output=True, text=True) for each in wrong]
    check("chaos_proxy: a wrong command line is said", all(r.returncode == 2 and "--help" in r.stderr for r in refused))


# --- udp_echo


def udp(folder):
    for backend in ["epoll", "auto"]:
        server = Program(f"{folder}/udp_echo", "--backend", backend, "--port", "0")
        there = ("127.0.0.1", server.port)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(PATIENCE)

        sizes = [1, 0, 2048, 100, 0, 1472]
        for size in sizes:
            s.sendto(b"x" * size, there)
        seen = [len(s.recvfrom(65536)[0]) for _ in sizes]
        check(f"udp_echo: datagrams come back whole, in order, empty ones as well ({backend})", seen == sizes, seen)
        s.sendto(b"y" * 3000, there)
        check(f"udp_echo: a longer one is cut ({backend})", len(s.recv(65536)) == 2048)

        gone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(50):
            gone.sendto(b"I am not here any more", there)
        gone.close()  # the answers are refused by its host
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(100)]
        for i, each in enumerate(sockets):
            each.settimeout(PATIENCE)
            each.sendto(b"%d" % i, there)
        answers = [each.recv(100) for each in sockets]
        check(f"udp_echo: a client that vanishes harms none of a hundred ({backend})",
              answers == [b"%d" % i for i in range(100)])
        code, out = server.end()
        check(f"udp_echo: SIGTERM ends it, and it says what it did ({backend})",
              code == 0 and "1 truncated" in out, (code, out))
    wrong = subprocess.run([f"{folder}/udp_echo", "--port", "x"], capture_output=True, text=True)
    check("udp_echo: a wrong command line is said", wrong.returncode == 2 and "--port" in wrong.stderr)


# --- unix_chat


def unix(folder):
    with tempfile.TemporaryDirectory() as place:
        path = f"{place}/chat"

        def join(name):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.settimeout(PATIENCE)
            s.connect(path)
            s.send(name)
            return s

        def hears(s, line):
            while heard := s.recv(65536):
                if heard == line:
                    return True
            return False

        first = Program(f"{folder}/unix_chat", "--path", path)
        anna, ben = join(b"anna"), join(b"ben\n")
        check("unix_chat: members hear of each other", hears(anna, b"ben: here I am\n"), first.says)
        ben.send(b"hello")
        check("unix_chat: and hear each other", hears(anna, b"ben: hello\n"))
        check("unix_chat: only its user may come in", stat.S_IMODE(os.stat(path).st_mode) == 0o600)

        # Somebody who wants to take over, and dies at once, changes nothing.
        thief = join(b"/take-over")
        thief.close()
        ben.send(b"still here")
        check("unix_chat: a successor that has gone harms nobody", hears(anna, b"ben: still here\n"))

        ben.send(b"before")
        second = Program(f"{folder}/unix_chat", "--path", path, "--take-over")
        ben.send(b"after")
        code = first.process.wait(PATIENCE)
        check("unix_chat: the old process ends, the new one has its members", code == 0 and "2 members" in second.says,
              (code, second.says))
        check("unix_chat: nothing said meanwhile is lost, and names stay", hears(anna, b"ben: before\n") and
              hears(anna, b"ben: after\n"))
        if shutil.which("socat"):
            socat = subprocess.run(["socat", "-t1", "-", f"UNIX-CONNECT:{path},socktype={socket.SOCK_SEQPACKET.value}"],
                                   input=b"socat\n", capture_output=True, timeout=PATIENCE)
            check("unix_chat: newcomers find the new process: socat", hears(anna, b"socat: here I am\n") and
                  socat.stdout == b"socat: here I am\n", socat)
        ben.close()
        anna.send(b"alone")
        check("unix_chat: who leaves is gone", hears(anna, b"anna: alone\n"))
        code, _ = second.end()
        check("unix_chat: SIGTERM ends it", code == 0, code)
        third = Program(f"{folder}/unix_chat", "--path", path)
        check("unix_chat: the file that it left makes room", third.end()[0] == 0)
        check("unix_chat: and goes with who has made it", not os.path.exists(path))
        nobody = subprocess.run([f"{folder}/unix_chat", "--path", path, "--take-over"], capture_output=True, text=True)
        check("unix_chat: there must be somebody to take over from", nobody.returncode == 1 and path in nobody.stderr,
              nobody)


def main():
    all_of_them = ["chat", "proxy", "chaos", "udp", "unix"]
    folder, which = sys.argv[1], [each for each in sys.argv[2:] if not each.isdigit()] or all_of_them
    rooms = next((int(each) for each in sys.argv[2:] if each.isdigit()), 100)
    if "chat" in which:
        chat(folder, rooms)
    if "proxy" in which:
        proxy(folder)
    if "chaos" in which:
        chaos(folder)
    if "udp" in which:
        udp(folder)
    if "unix" in which:
        unix(folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
