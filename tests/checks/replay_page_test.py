#!/usr/bin/env python3
"""replay_page_test.py REPLAY SOURCE_ROOT [--keys] [--pictures FOLDER]: the page of samples/replay in a browser.

Each step of every bundled scenario, at three sizes of the window: nothing is cut, which takes minutes. Then what the
keys and the mouse do; with --keys only that. --pictures writes what some of it looks like.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
from browser import browser  # noqa: E402

SIZES = (1280, 720), (1366, 768), (1024, 768)
counts = {"passed": 0, "failed": 0}


def check(name, fine, detail=""):
    counts["passed" if fine else "failed"] += 1
    print(f"{'ok     ' if fine else 'FAILED '} {name}" + ("" if fine else f": {detail}"), flush=True)


# Names what is cut, in any step of the n-th scenario.
MEASURE = """(() => {
  history.replaceState = () => {};
  const found = new Set();
  const see = (what, whole) => { if (!whole) found.add(what); };
  const inside = (e, box) => {
    const a = e.getBoundingClientRect(), b = box.getBoundingClientRect();
    return a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
  };
  const whole = (e) => e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight;
  const seen = (e) => getComputedStyle(e).display !== 'none';
  const common = () => {
    see('the page', whole(document.documentElement));
    see('the middle', whole(main));
    for (const e of document.querySelectorAll('header > *, footer > *, footer button'))
      see('a bar: ' + (e.id || e.className), !seen(e) || inside(e, document.body));
    see('the program, in width', $('source').scrollWidth <= $('source').clientWidth);
  };
  choose(%d);
  for (let n = 0; n < steps.length; n++) {
    go(n);
    common();
    for (const lane of $('lanes').children) see('lane ' + lane.dataset.lane, whole(lane) && inside(lane, $('score')));
    see('the lanes', $('scroll').scrollHeight <= $('scroll').clientHeight);
    see('output', whole($('console')));
    for (const line of $('lines').children) see('output: ' + line.textContent, inside(line, $('console')));
    see('the story', whole($('story')) && inside($('tell'), $('story')));
    for (const card of $('queues').children) {
      see('queue ' + card.dataset.lane, whole(card));
      for (const e of card.querySelectorAll('.chips:not(.room) .chip, h3, h3 *')) see('in a queue', !seen(e) || inside(e, card));
    }
    for (const { e } of blocks) if (e.matches('.block')) see('block ' + e.textContent, whole(e));
  }
  const font = em;
  guess(true);
  for (const shown of [false, true]) {
    if (shown) { for (const line of guessOf().lines.slice()) put(line, 99); showRight(); }
    common();
    for (const e of document.querySelectorAll('#board li, #board button, #hint')) see('guessing: ' + e.textContent, !seen(e) || (whole(e) && inside(e, main)));
  }
  guess(false);
  go(steps.length - 1);
  see('output, guessed', whole($('console')) && whole(main));
  return { id: run.id, font, cut: [...found] };
})()"""


def nothing_is_cut(tab, page, pictures):
    for width, height in SIZES:
        tab.open(page, width=width, height=height)
        runs = [tab.run(MEASURE % n) for n in range(tab.run("runs.length"))]
        cut = [f"{r['id']}: {', '.join(r['cut'][:4])}" for r in runs if r["cut"]]
        check(f"{len(runs)} scenarios at {width}x{height}: nothing is cut", len(runs) > 100 and not cut,
              f"in {len(cut)}\n  " + "\n  ".join(cut[:10]))
        smallest = min(r["font"] for r in runs)
        check(f"letters at {width}x{height} can be read from row ten: {smallest:.1f} pixels at least",
              smallest >= height / 52, smallest)
        for dark in False, True:
            for place in "event-loop-order/12", "await-ticks/40", "event-loop-order/guess":
                tab.open(page, place, width, height, dark)
                paper = tab.run("getComputedStyle(document.body).backgroundColor")
                check(f"{place} at {width}x{height} is {'dark' if dark else 'light'}",
                      (sum(map(int, paper[4:-1].split(","))) < 200) == dark, paper)
                if pictures:
                    name = f"{place.replace('/', '-')}-{width}x{height}-{'dark' if dark else 'light'}.png"
                    tab.picture(pictures / name)


def larger_and_smaller(tab, page):
    tab.open(page, "event-loop-order/5")
    usual = tab.run("em")
    tab.keys("+", "+")
    check("+ enlarges", tab.run("em") > 1.2 * usual)
    tab.keys(*"++++")
    check("what does not fit scrolls", tab.run("main.scrollHeight > main.clientHeight && "
                                               "document.documentElement.scrollWidth <= innerWidth"))
    tab.keys("PageDown")
    check("Page Down scrolls it", tab.run("main.scrollTop > 0"))
    tab.keys("0")
    check("0 resets", tab.run("em") == usual)
    tab.keys("-")
    check("- shrinks", tab.run("em") < usual)
    tab.keys("0")
    tab.size(1920, 1080)
    tab.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    check("letters follow the window", tab.run("em") > 1.4 * usual, tab.run("em"))
    tab.open(page, "event-loop-order/5", 500, 800)
    check("a narrow window has one column, and no less",
          tab.run("narrow && document.documentElement.scrollWidth <= innerWidth && rows.height <= $('score').clientHeight"))


def keys(tab, page):
    tab.open(page, "event-loop-order/1")
    at = lambda: tab.run("at")
    tab.keys("ArrowRight", "ArrowRight", "ArrowLeft")
    check("arrows: one step on, back", at() == 1)
    tab.keys("ArrowRight", shift=True)
    check("Shift and an arrow: one callback on", tab.run("steps[at].kind === BEGUN"))
    tab.keys("End")
    check("End, and the verdict", at() == tab.run("steps.length - 1") and "Node 20" in tab.run("$('verdict').textContent"))
    tab.keys("Home", "a")
    check("A looks ahead", tab.run("$('lines').textContent.includes('setTimeout')"))
    tab.keys("]")
    other = tab.run("run.id")
    tab.keys("[")
    check("[ and ] choose a scenario", other != "event-loop-order" and tab.run("run.id") == "event-loop-order")
    tab.keys("?")
    opened = tab.run("$('keys').open")
    tab.keys("Escape")
    check("? shows the keys, Esc closes them", opened and not tab.run("$('keys').open"))
    before = tab.run("getComputedStyle(document.body).backgroundColor")
    tab.keys("d")
    check("D: light or dark", tab.run("getComputedStyle(document.body).backgroundColor") != before)
    reached = []
    for _ in range(40):
        tab.keys("Tab")
        reached.append(tab.run("document.activeElement.id"))
    want = {"pick", "guess", "smaller", "larger", "help", "theme", "first", "play", "next", "last", "scrub", "speed",
            "ahead"}
    check("Tab reaches everything", want <= set(reached), want - set(reached))
    tab.run("go(3), $('next').focus()")
    tab.keys(" ")
    check("Space presses the button that has the focus", at() == 4)


def place_of(tab, element):
    return tab.run(f"(() => {{ const b = {element}.getBoundingClientRect(); "
                   "return [b.left + b.width / 2, b.top + b.height / 2]; })()")


def guessing(tab, page):
    tab.open(page, "event-loop-order/7")
    tab.keys("g")
    check("G: to guess; neither the run nor its note can be seen",
          tab.run("guessing && ['right', 'console'].every((id) => $(id).offsetParent === null) && "
                  "getComputedStyle($('note')).visibility === 'hidden' && document.querySelector('footer').inert"))
    check("the lines come in another order", tab.run("guessOf().lines.join() !== run.labels.map((_, i) => i).join()"))
    letter = lambda n: tab.run(f"letterOf({n})").lower()
    placed = lambda: tab.run("guessOf().placed")

    tab.keys(letter(0), letter(2), letter(1))
    check("a letter places its line", placed() == [0, 2, 1], placed())
    tab.keys(letter(2))
    check("and takes it back", placed() == [0, 1], placed())
    tab.keys("Backspace")
    check("Backspace takes back the last one", placed() == [0], placed())
    tab.keys("Enter")
    check("Enter places the line that has the focus", len(placed()) == 2, placed())
    tab.keys("ArrowRight", "ArrowDown", "ArrowUp", "ArrowDown")
    second = placed()[1]
    tab.keys("ArrowUp", shift=True)
    check("Shift and an arrow move a placed line", placed() == [second, 0], placed())
    tab.keys("Enter")
    check("Enter on it takes it back", placed() == [0], placed())

    tab.mouse(place_of(tab, "$('pool').querySelector('button[data-line=\"3\"]')"))
    check("a click places a line", placed() == [0, 3], placed())
    x, y = place_of(tab, "$('pool').querySelector('button[data-line=\"5\"]')")
    to = place_of(tab, "$('order').querySelector('button[data-line=\"3\"]')")
    tab.mouse((x, y), (x + 10, y + 10), (to[0], to[1] - 12))
    check("a line is dragged between two", placed() == [0, 5, 3], placed())
    x, y = place_of(tab, "$('order').querySelector('button[data-line=\"3\"]')")
    to = place_of(tab, "$('order').querySelector('button[data-line=\"0\"]')")
    tab.mouse((x, y), (x - 10, y - 10), (to[0], to[1] - 12))
    check("a placed line is dragged to another place", placed() == [3, 0, 5], placed())
    x, y = place_of(tab, "$('order').querySelector('button[data-line=\"0\"]')")
    tab.mouse((x, y), (x - 10, y), place_of(tab, "$('pool')"))
    check("and back", placed() == [3, 5] and tab.run("$('drag')") is None, placed())

    tab.keys("Backspace", "Backspace", *(letter(n) for n in (0, 1, 3, 2, 4, 5)))
    check("all are placed: the focus is on the check", tab.run("document.activeElement.id") == "check")
    tab.keys("Enter")
    marks = tab.run("[...document.querySelectorAll('#order li')].map((li) => li.className)")
    check("the right ones and the wrong ones are told apart", marks == ["hit", "hit", "miss", "miss", "hit", "hit"], marks)
    check("what is printed is shown", tab.run("[...document.querySelectorAll('#pool .text')].map((e) => e.textContent)")
          == tab.run("run.labels"))
    check("and how many are right", "4 of 6 right" in tab.run("$('hint').textContent"))
    tab.keys("Enter")
    check("Enter: it runs, from the beginning", tab.run("!guessing && playing !== null && at < 3"))
    tab.keys("End")
    marks = tab.run("[...$('lines').children].map((li) => li.className.split(' ').find((c) => c === 'hit' || c === 'miss'))")
    check("the output says what was guessed", marks == ["hit", "hit", "miss", "miss", "hit", "hit"], marks)
    tab.keys("g")
    tab.run("$('again').click()")
    check("start again forgets it", placed() == [] and tab.run("!guessOf().shown"))
    tab.keys("]")
    check("the next scenario can be guessed at once", tab.run("guessing && $('pool').children.length === run.labels.length"))
    check("an address leads there", tab.run("location.hash").endswith("/guess"))
    tab.keys("Escape")
    check("Esc: back to the run", tab.run("!guessing && $('right').offsetParent !== null"))
    trivial = tab.run("runs.findIndex((r) => r.labels.length === 1)")
    tab.run(f"choose({trivial}), guess(true)")
    check("one line is nothing to guess", "nothing to guess" in tab.run("$('hint').textContent"))


def main():
    replay, root = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    pictures = Path(sys.argv[sys.argv.index("--pictures") + 1]) if "--pictures" in sys.argv else None
    with tempfile.TemporaryDirectory() as folder, browser() as tab:
        if tab is None:
            print("skipped: there is no chromium here")
            return 77
        page = Path(folder) / "page.html"
        subprocess.run([replay, "--timeline", page, *sorted((root / "samples" / "scenarios").glob("*.jsonl"))],
                       check=True, capture_output=True)
        if "--keys" not in sys.argv:
            nothing_is_cut(tab, page, pictures)
        larger_and_smaller(tab, page)
        keys(tab, page)
        guessing(tab, page)
        check("no error, and no other file asked for", not tab.errors, tab.errors[:5])
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
