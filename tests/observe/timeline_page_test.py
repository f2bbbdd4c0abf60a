#!/usr/bin/env python3
"""timeline_page_test.py OBSERVED OBSERVED_LOOP REPLICATED_LOG [--pictures FOLDER]: timelines in a browser.

A world, a loop, and the run of a world that fails, shrunk.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from browser import browser  # noqa: E402
from page import data_of  # noqa: E402

SIZES = (1280, 720), (1366, 768), (1024, 768), (600, 800)
counts = {"passed": 0, "failed": 0}


def check(name, fine, detail=""):
    counts["passed" if fine else "failed"] += 1
    print(f"{'ok     ' if fine else 'FAILED '} {name}" + ("" if fine else f": {detail}"), flush=True)


# Goes through the page as a reader does, and says what it has seen.
PROBE = """(() => {
  const press = (key) => dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const seen = { steps: steps.n, axis };
  seen.inside = [...document.querySelectorAll('header > *')].every((e) => {
    const b = e.getBoundingClientRect();
    return e.hidden || (b.left >= 0 && b.right <= innerWidth);
  }) && document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight;
  const pixel = (x, y) => [...g.getImageData(x * devicePixelRatio, y * devicePixelRatio, 1, 1).data].join();
  press('o'); seen.other = axis; seen.said = $('axis').textContent; press('o');
  const before = span; press('w'); press('w'); paint(); seen.zoomed = span < before;
  press('f'); paint();
  $('search').value = texts[lives.runs[0]]; $('search').oninput(); seen.found = matches.length > 1; press('n');
  seen.chosen = chosen?.kind; seen.details = $('details').textContent.includes(texts[lives.runs[0]]);
  press('['); press(']'); press('p'); press('Escape'); seen.cleared = chosen === null && matches.length === 0;
  axis = 'time';
  const lane = lanes.find((l) => l.steps?.length > 2), i = lane.steps[1];
  span = Math.max(steps.time[1][i] - steps.time[0][i], 1) * 100; from = steps.time[0][i] - span / 2; scroll = 0; paint();
  const x = px((steps.time[0][i] + steps.time[1][i]) / 2), y = lane.y + TOP + lane.h / 2 - scroll;
  seen.hit = hit(x, y)?.i === i; seen.painted = pixel(x, y) !== pixel(x, y + lane.h / 2 + 0.6);
  for (const set of ['step', 'life', 'wait', 'packet', 'phase', 'moment'])
    for (let k = 0; k < setOf(set).n; k++) select({ kind: set, i: k }, true);
  paint();
  return seen;
})()"""


def as_a_reader(tab, name, page, first):
    data = data_of(page.read_text(encoding="utf-8"))
    for width, height in SIZES:
        tab.open(page, width=width, height=height, dark=width == 1366)
        got = tab.run(PROBE)
        other = "time" if first == "order" else "order"
        want = {"steps": len(data["steps"]) // 8, "axis": first, "inside": True, "other": other, "said": f"by {other}",
                "zoomed": True, "found": True, "chosen": "step", "details": True, "cleared": True, "hit": True,
                "painted": True}
        check(f"{name} at {width}x{height}: axes, zoom, search, selection, what is under the mouse", got == want, got)


def details(tab, kind, i):
    tab.run(f"select({{ kind: '{kind}', i: {i} }}, true)")
    return tab.run("$('details').textContent")


def waits(tab, page):
    tab.open(page)
    first = lambda how: tab.run(f"waits.how.findIndex((how, i) => how === {how} && texts[waits.text[i]].startsWith('read'))")
    check("a wait that has a value says so, and how many bytes", "with a value: " in details(tab, "wait", first(0)) and
          " byte" in details(tab, "wait", first(0)))
    error = first(1)
    check("one that has an error, which", "with an error: Connection reset by peer (errno 104)" in details(tab, "wait", error))
    check("one that was cancelled, that", "cancelled" in details(tab, "wait", first(2)))
    step = tab.run(f"steps.life.findIndex((life, i) => life === waits.life[{error}] && waitBefore(i) === {error})")
    check("a step says how the wait before it has ended", "its wait ended" in details(tab, "step", step) and
          "Connection reset" in details(tab, "step", step))
    check("labels have functions", tab.run("taskName(0)").startswith("task 1 ") and
          "client" in tab.run("Array.from({ length: lives.n }, (_, i) => taskName(i)).join()"))
    check("no task has failed, nothing was decided: there is no summary", tab.run("$('summary').hidden && $('details').textContent !== ''"))
    tab.run("switchAxis(), fit(), note()")
    place = tab.run("location.hash.slice(1)")
    tab.open(page, place)
    check("an address brings back the axis", "axis=time" in place and tab.run("axis") == "time", place)


def failing(tab, page, message, pictures):
    tab.open(page)
    shrunk = int(message.split("shrunk to ")[1].split(" of ")[0])
    said = tab.run("$('details').textContent")
    check("the decisions that shrinking kept are listed at once",
          tab.run("decisions.length") == shrunk and f"{shrunk} decision" in tab.run("$('summary').textContent"), said)
    named = [line.strip() for line in message.splitlines() if line.strip().startswith("choice ")]
    check("they are those of the message", all(line.split(": ")[1] in said for line in named), said)
    check("and so is what failed", message.splitlines()[0].split(": ")[-1][:40] in said, said)
    if pictures:
        tab.picture(pictures / "failing.png")
    tab.run("$('details').querySelector('button').click()")
    check("a click leads to one", tab.run("chosen !== null"))
    tab.keys("Escape", "e")
    check("E shows the list again", tab.run("$('details').textContent") == said)


def main():
    world, loop, log = (Path(p).resolve() for p in sys.argv[1:4])
    pictures = Path(sys.argv[5]) if len(sys.argv) > 5 else None
    with tempfile.TemporaryDirectory() as folder, browser() as tab:
        if tab is None:
            print("skipped: there is no chromium here")
            return 77
        scratch = Path(folder)
        for program in world, loop:
            subprocess.run([program], cwd=scratch, check=True, capture_output=True, timeout=120)
        as_a_reader(tab, "a world", scratch / "observed.html", "order")
        as_a_reader(tab, "a loop", scratch / "observed_loop.html", "time")
        waits(tab, scratch / "observed.html")
        got = subprocess.run([log, "--bug", "no-dedup", "--mode", "spec"], cwd=scratch, capture_output=True, text=True,
                             timeout=300, env=os.environ | {"RONDO_SIM_TRACE_DIR": folder, "RONDO_SIM_SHRINK": "1"})
        pages = sorted(set(scratch.glob("*.html")) - {scratch / "observed.html", scratch / "observed_loop.html"})
        check("a world that fails writes its page", len(pages) == 1, got.stdout + got.stderr)
        if pages:
            message = got.stdout[got.stdout.index(" fails\n") + 7:]
            failing(tab, pages[0], message, pictures)
        errors = [e for e in tab.errors if "getImageData" not in e]  # what the probe does
        check("no error, and no other file asked for", not errors, errors[:5])
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
