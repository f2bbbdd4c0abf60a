"""Lets system calls fail under the program `exchange`, and judges by facts.

    faults.py KIND NAME EXCHANGE REFUSE_CALLS

KIND is one of those below, NAME says which of its faults. Each run ends in bounded time; no byte is wrong, no descriptor is
left, nothing crashes. What has failed names the error that was put in, or is what a peer sees of it; and after a fault that
comes once, the exchange succeeds at the second attempt. A line for each run that is wrong, then the counts; exit code 77
where the machine does not allow this kind of fault.
"""

import atexit
import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # of the program; it gives up before that
NOT_HERE = 77

# What the kernel's pages say that these calls may fail with, and what filters answer.
ALWAYS = ["EPERM", "ENOSYS", "EACCES"]
MEMORY = ["ENOMEM", "ENOBUFS"]
CALLS = {
    "accept4": ["ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPROTO", "EPERM", "ENETDOWN", "EHOSTUNREACH"],
    "recvfrom": ["ECONNRESET", "ECONNREFUSED", "ENOMEM", "ETIMEDOUT", "EHOSTUNREACH", "EIO"],
    "recvmsg": ["ECONNRESET", "ECONNREFUSED", "ENOMEM", "ENOBUFS"],
    "recvmmsg": ["ECONNREFUSED", "ENOMEM", "ENOBUFS", "ENOSYS"],
    "sendto": ["ECONNRESET", "EPIPE", "ENOMEM", "ENOBUFS", "EPERM", "EHOSTUNREACH"],
    "sendmsg": ["ECONNRESET", "EPIPE", "ENOMEM", "ENOBUFS", "EPERM", "ENETUNREACH"],
    "sendmmsg": ["ECONNREFUSED", "ENOMEM", "ENOBUFS", "EPERM", "ENOSYS"],
    "connect": ["ECONNREFUSED", "EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT", "EPERM", "ENOMEM"],
    "socket": ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EACCES", "EAFNOSUPPORT"],
    "bind": ["EADDRINUSE", "EACCES", "ENOMEM", "EROFS"],
    "listen": ["EADDRINUSE", "EOPNOTSUPP"],
    "setsockopt": ["ENOPROTOOPT", "EPERM", "ENOMEM", "EINVAL"],
    "getsockopt": ["ENOPROTOOPT", "EPERM", "ENOMEM"],
    "getsockname": ["ENOBUFS", "EPERM"],
    "getpeername": ["ENOBUFS", "EPERM"],  # ENOTCONN is no error, but a client that has gone
    "shutdown": ["ENOTCONN", "ENOBUFS", "EPERM"],
    "close": ["EIO", "EINTR"],
    "unlink": ["EPERM", "EROFS", "ENOENT"],
    "fchmod": ["EPERM", "EROFS"],  # the file has its mode by chmod then
    "splice": ["ENOMEM", "EINVAL", "EPIPE", "ECONNRESET"],
    "pipe2": ["EMFILE", "ENFILE", "ENOMEM"],
    "getrandom": ["ENOSYS", "EPERM", "EAGAIN"],
    "eventfd2": ["EMFILE", "ENFILE", "ENOMEM"],
    "epoll_create1": ["EMFILE", "ENFILE", "ENOMEM"],
    "epoll_ctl": ["ENOMEM", "ENOSPC", "EPERM"],
    "epoll_pwait2": ["EPERM", "ENOSYS", "EINVAL"],
    "io_uring_setup": ["EPERM", "ENOSYS", "ENOMEM", "EINVAL", "EMFILE", "EACCES"],
    "io_uring_enter": ["EAGAIN", "EBUSY", "ENOMEM", "EPERM", "ENOSYS"],
    "io_uring_register": ["EINVAL", "ENOMEM", "EPERM", "ENOSYS"],
    "mmap": ["ENOMEM"],
}
# Without these no loop can go on, and that is said in one sentence before it ends.
VITAL = {"epoll_pwait2", "epoll_wait", "epoll_ctl", "io_uring_enter", "eventfd2"}
# Nothing of an exchange is lost by an interruption.
INTERRUPTED = ["accept4", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "epoll_pwait2",
               "io_uring_enter", "splice"]
# What the loop takes for a shortage that will end, and tries again until it does.
PASSING = {("io_uring_enter", "EAGAIN"), ("io_uring_enter", "EBUSY"), ("io_uring_enter", "ENOMEM")}
# What the other side, or who waits for an answer, may see of a fault.
CONSEQUENCES = ["Connection reset by peer", "Broken pipe", "the end came behind", "timed out", "never came back",
                "Connection refused", "Transport endpoint is not connected", "Bad file descriptor"]
BACKENDS = ["epoll", "uring"]
SCENARIOS = ["tcp", "relay", "unix", "udp"]


class Judge:
    def __init__(self, exchange):
        self.exchange = exchange
        self.passed = self.failed = self.unreached = 0

    def done(self, name, wrong, output=""):
        if wrong:
            self.failed += 1
            print(f"FAILED  {name}: {wrong}")
            for line in output.splitlines()[-25:]:
                print(f"        {line[:400]}")
            sys.stdout.flush()
        else:
            self.passed += 1

    def end(self):
        if self.unreached:
            print(f"{self.unreached} faults were of calls that the program does not make here")
        if not self.passed + self.failed:
            sys.exit(NOT_HERE)
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


def environment(backend):
    env = dict(os.environ, RONDO_BACKEND=backend)
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # which does not work under strace
    return env


def run(command, backend, preexec=None, patience=PATIENCE):
    """(code, output); code is None if it did not end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(backend),
                               preexec_fn=preexec, start_new_session=True, text=True, errors="replace")
    try:
        output = process.communicate(timeout=patience)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return None, process.communicate()[0]
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    code = process.returncode
    return (code - 256 if code > 128 else code), output  # a shell's or strace's word for a signal


def skip_if_sanitized(exchange, why):
    with open(exchange, "rb") as program:
        if re.search(rb"__[at]san_init", program.read()):
            print(f"skipped: {why}")
            sys.exit(NOT_HERE)


def summary_of(output):
    last = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(last[-1]) if last else None


def verdict(code, output, errors, once=False, vital=False, leaks=False):
    """What is wrong, or nothing. `errors`: those that were put in, by name."""
    texts = [os.strerror(getattr(errno, name)) for name in errors] + errors
    summary = summary_of(output)
    names_it = any(text in output for text in texts)
    if code is None:
        return "it does not end"
    if re.search(r"AddressSanitizer|runtime error:|LeakSanitizer", output):
        return "a sanitizer has found something"
    if code == 5:
        return "it did not get to its end in time"
    if summary and summary["wrong"]:
        return "bytes are wrong"
    if summary and summary["left"] > 0 and not leaks:
        return f"{summary['left']} descriptors are left"
    if code in (0, 3) or (code == 4 and leaks):
        for line in output.splitlines():
            if line.startswith("failed: ") and not any(text in line for text in texts + CONSEQUENCES):
                return f"a failure of another kind: {line}"
        if code == 3 and once:
            return "after a fault that came once, an exchange was given up"
        if code == 3 and not names_it:
            return "an exchange was given up, and the error is not said"
        return ""
    if code == -signal.SIGABRT and vital:
        return "" if "the kernel refused" in output and names_it else "it ended, and does not say by what"
    if code == 1:
        return "" if names_it else "it failed, and does not say by what"
    return f"it ended with {code}"


# --- by strace: an error at the first, the third, the tenth call, or at each but the first


def inject(call, exchange, refuse_calls):
    if shutil.which("strace") is None or run(["strace", "-o", "/dev/null", "true"], "epoll")[0] != 0:
        print("skipped: strace cannot trace here")
        sys.exit(NOT_HERE)
    if call in ("mmap", "pipe2"):
        skip_if_sanitized(exchange, "a sanitizer makes this call, too, and takes a failure for a bug")
    judge = Judge(exchange)

    def traced(backend, scenario, rule, *options):
        """(code, output, the trace)"""
        with tempfile.NamedTemporaryFile("r") as log:
            rules = ["-e", f"trace={call}"] + (["-e", f"inject={call}:{rule}"] if rule else [])
            code, output = run(["strace", "-f", "-qq", "-o", log.name, *rules, exchange, scenario, *options], backend)
            return code, output, log.read()

    # The first ones are those of who loads the program, and not its own.
    before = len(traced("epoll", "--help", "")[2].splitlines())
    for backend in BACKENDS:
        for scenario in SCENARIOS:
            if len(traced(backend, scenario, "")[2].splitlines()) <= before:
                judge.unreached += 1  # neither this call nor its errors
                continue
            if call in INTERRUPTED:
                code, output, _ = traced(backend, scenario, f"error=EINTR:when={before + 1}+2")
                wrong = verdict(code, output, ["EINTR"], once=True)
                if not wrong and (code != 0 or summary_of(output)["failures"]):
                    wrong = "an interruption is a failure"
                judge.done(f"{scenario} on {backend}: {call} interrupted each second time", wrong, output)
            for error in CALLS[call]:
                for nth in [1, 3, 10]:
                    code, output, trace = traced(backend, scenario, f"error={error}:when={before + nth}", "--patience", "4")
                    if "INJECTED" not in trace:
                        judge.unreached += 1
                        continue
                    wrong = verdict(code, output, [error], once=True, vital=call in VITAL, leaks=call == "close")
                    judge.done(f"{scenario} on {backend}: {call} number {nth} fails with {error}", wrong, output)
                often = f"{before + 3}..{before + 30}" if (call, error) in PASSING else f"{before + 2}+"
                code, output, trace = traced(backend, scenario, f"error={error}:when={often}", "--patience", "1", "--attempts",
                                             "2", "--rounds", "1")
                if "INJECTED" in trace:
                    wrong = verdict(code, output, [error], vital=call in VITAL, leaks=call == "close")
                    judge.done(f"{scenario} on {backend}: each {call} but the first fails with {error}", wrong, output)
    judge.end()


# --- by a filter: refused from the beginning


def seccomp(calls, exchange, refuse_calls):
    judge = Judge(exchange)
    for error in ["EPERM", "ENOSYS", "EACCES"]:
        for backend in BACKENDS + ["auto"]:
            for scenario in SCENARIOS:
                code, output = run([refuse_calls, str(getattr(errno, error)), calls, exchange, scenario, "--patience", "1",
                                    "--attempts", "2"], backend)
                if code == NOT_HERE:
                    print("skipped: no filter can be installed here")
                    sys.exit(NOT_HERE)
                judge.done(f"{scenario} on {backend}: {calls} refused with {error}",
                           verdict(code, output, [error], vital=True), output)
    judge.end()


# --- by limits of the process


def rlimit(what, exchange, refuse_calls):
    judge = Judge(exchange)
    if what == "descriptors":
        skip_if_sanitized(exchange, "a sanitizer needs a descriptor now and then, or takes good memory for bad")
        for backend in BACKENDS:
            for scenario in SCENARIOS:
                for most in range(3, 24):
                    def few():
                        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
                    code, output = run([exchange, scenario, "--patience", "1", "--rounds", "1", "--attempts", "2"], backend, few)
                    judge.done(f"{scenario} on {backend}: {most} descriptors",
                               "" if code == 127 else verdict(code, output, ["EMFILE", "ENOMEM"], vital=True), output)
    elif what == "file size":  # the log and the output go to files that may not grow
        for backend in BACKENDS:
            for most in [0, 1, 100]:
                with tempfile.TemporaryFile("w+") as into:
                    def small():
                        os.dup2(into.fileno(), 2)
                        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
                    code, output = run([exchange, "tcp"], backend, small)
                    judge.done(f"standard error of {most} bytes on {backend}", verdict(code, output, []), output)
    else:
        skip_if_sanitized(exchange, "a sanitizer needs more address space than any limit")
        for backend in BACKENDS:
            for scenario in SCENARIOS:
                for kib in range(6000, 16000, 500):
                    def little():
                        resource.setrlimit(resource.RLIMIT_AS, (kib * 1024, kib * 1024))
                    code, output = run([exchange, scenario, "--patience", "1", "--attempts", "2"], backend, little)
                    no_room = code == 127 or "shared object" in output or "std::bad_alloc" in output
                    wrong = "" if no_room and code is not None else verdict(code, output, ["ENOMEM", "ENOBUFS"], vital=True)
                    judge.done(f"{scenario} on {backend}: {kib} KiB", wrong, output)
    judge.end()


# --- by the network


RULES = {
    "loss": "meta l4proto { tcp, udp } numgen random mod 100 < 15 counter drop",
    "heavy loss": "meta l4proto { tcp, udp } numgen random mod 100 < 40 counter drop",
    "reset": "meta l4proto tcp tcp flags & syn == 0 numgen random mod 1000 < 4 counter reject with tcp reset",
    "refused": "numgen random mod 100 < 10 counter reject",
    "unreachable": "meta l4proto udp numgen random mod 100 < 10 counter reject with icmp type port-unreachable",
}


class Namespace:
    def __init__(self):
        self.name = f"rondo-faults-{os.getpid()}"
        for command in [["ip", "netns", "add", self.name], ["ip", "-n", self.name, "link", "set", "lo", "up"]]:
            made = subprocess.run(command, capture_output=True, text=True)
            if made.returncode != 0:
                self.close()
                print(f"skipped: {' '.join(command)}: {made.stderr.strip()}")
                sys.exit(NOT_HERE)

    def inside(self, *command):
        return ["ip", "netns", "exec", self.name, *command]

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def network(what, exchange, refuse_calls):
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nft") is None:
        print("skipped: this needs root, ip and nft")
        sys.exit(NOT_HERE)
    judge = Judge(exchange)
    net = Namespace()
    try:
        if what in RULES:
            table = f"table inet rondo {{\n chain in {{\n type filter hook input priority 0\n {RULES[what]}\n }}\n}}\n"
            made = subprocess.run(net.inside("nft", "-f", "-"), input=table, capture_output=True, text=True)
        elif what == "narrow":
            subprocess.run(net.inside("ip", "link", "set", "lo", "mtu", "1500"))  # else no packet fits into the burst
            made = subprocess.run(net.inside("tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "8mbit", "burst", "20kb",
                                             "latency", "30ms"), capture_output=True, text=True)
        else:
            made = subprocess.run(net.inside("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "20ms", "15ms",
                                             "loss", "5%", "duplicate", "5%", "reorder", "20%"), capture_output=True, text=True)
        if made.returncode != 0:
            print(f"skipped: the kernel refuses {what}: {made.stderr.strip()}")
            sys.exit(NOT_HERE)
        for backend in BACKENDS:
            for scenario in ["tcp", "relay", "udp"]:
                little = ["--size", "10000", "--rounds", "1"] if what == "heavy loss" else []
                code, output = run(net.inside(exchange, scenario, "--patience", "30", "--limit", "100", "--clients", "8", *little),
                                   backend, patience=130)
                wrong = verdict(code, output, ["ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EPERM"])
                said = summary_of(output)
                if not wrong and what in ("loss", "narrow", "netem") and (code != 0 or said["failures"]):
                    wrong = "something has failed, and the network is only bad"
                judge.done(f"{scenario} on {backend}: {what}", wrong, output)
        if what in RULES:
            listed = subprocess.run(net.inside("nft", "list", "ruleset"), capture_output=True, text=True).stdout
            hit = int(re.search(r"counter packets (\d+)", listed).group(1))
            judge.done(f"{what}: packets were hit", "" if hit > 10 else f"{hit} packets", listed)
    finally:
        net.close()
    judge.end()


# --- by the other process


class Server:
    def __init__(self, exchange, backend):
        self.process = subprocess.Popen([exchange, "serve"], stdout=subprocess.PIPE, text=True, env=environment(backend))
        atexit.register(self.process.kill)
        self.port = int(re.search(r":(\d+)$", self.process.stdout.readline().strip()).group(1))

    def ask(self, exchange, backend, *options):
        client = subprocess.Popen([exchange, "ask", "--port", str(self.port), *options], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, env=environment(backend))
        atexit.register(client.kill)
        return client

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            output = self.process.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "the server does not end"
        return verdict(self.process.returncode, output, [])


def peer(what, exchange, refuse_calls):
    judge = Judge(exchange)
    for backend in BACKENDS:
        server = Server(exchange, backend)
        long_one = ["--size", "3000000", "--rounds", "20", "--patience", "30"]
        client = server.ask(exchange, backend, *long_one)
        time.sleep(.2)
        if what == "stopped client":  # for good, while others are served; then it is killed
            client.send_signal(signal.SIGSTOP)
            other = server.ask(exchange, backend)
            output = other.communicate(timeout=PATIENCE)[0]
            wrong = verdict(other.returncode, output, [], once=True) or ("" if other.returncode == 0 else "others are not served")
            judge.done(f"a client that is stopped, on {backend}: others are served", wrong, output)
            time.sleep(3)  # the server's write_stall_limit has passed
            open_now = len(os.listdir(f"/proc/{server.process.pid}/fd"))
            client.send_signal(signal.SIGCONT)
            client.kill()
            client.communicate()
            judge.done(f"a client that is stopped, on {backend}: the server ends", server.end(), "")
            judge.done(f"a client that is stopped, on {backend}: it was reset", "" if open_now < 12 else f"{open_now} descriptors")
            continue
        if what == "paused client":
            for _ in range(3):
                client.send_signal(signal.SIGSTOP)
                time.sleep(.5)
                client.send_signal(signal.SIGCONT)
                time.sleep(.1)
        elif what == "paused server":
            for _ in range(3):
                server.process.send_signal(signal.SIGSTOP)
                time.sleep(1)
                server.process.send_signal(signal.SIGCONT)
                time.sleep(.1)
        elif what == "killed sockets":
            for _ in range(10):
                killed = subprocess.run(["ss", "-K", "sport", "=", f":{server.port}"], capture_output=True, text=True)
                if killed.returncode != 0:
                    print(f"skipped: {killed.stderr.strip()}")
                    client.kill()
                    server.end()
                    sys.exit(NOT_HERE)
                time.sleep(.05)
        else:  # killed client
            client.kill()
            client.communicate()
            other = server.ask(exchange, backend)
            output = other.communicate(timeout=PATIENCE)[0]
            judge.done(f"killed client on {backend}: others are served", "" if other.returncode == 0 else "they are not", output)
            judge.done(f"killed client on {backend}: the server ends", server.end(), "")
            continue
        try:
            output = client.communicate(timeout=PATIENCE)[0]
        except subprocess.TimeoutExpired:
            client.kill()
            output = client.communicate()[0]
        wrong = verdict(client.returncode, output, ["ECONNABORTED", "ECONNRESET"])
        if not wrong and what.startswith("paused") and (client.returncode != 0 or summary_of(output)["failures"]):
            wrong = "a pause is a failure"
        judge.done(f"{what} on {backend}", wrong, output)
        judge.done(f"{what} on {backend}: the server ends", server.end(), "")
    judge.end()


def main():
    kinds = {"inject": inject, "seccomp": seccomp, "rlimit": rlimit, "network": network, "peer": peer}
    if len(sys.argv) != 5 or sys.argv[1] not in kinds:
        sys.exit(__doc__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # out of time: what is under way is ended, the network goes
    kinds[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
