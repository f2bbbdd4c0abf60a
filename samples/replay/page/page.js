// The page shows one recorded run. Events are folded into the state at a step each time anew, so any
// step can be shown by itself: there is nothing to undo when one goes back.

const runs = JSON.parse(document.getElementById('data').textContent);
const PHASES = ['none', 'timers', 'pending', 'idle', 'prepare', 'poll', 'check', 'close'];
// The order of enum queue_name in recording.hpp.
const QUEUES = ['main', 'ticks', 'micro', 'check', 'timers', 'poll', 'close'];
const LANES = ['main', 'timers', 'pending', 'idle', 'prepare', 'poll', 'check', 'close', 'ticks', 'micro'];
const LANE_NAMES = { ticks: 'nextTick', micro: 'microtasks' };
const THIN = new Set(['pending', 'idle', 'prepare']);
const color = (lane) => `var(--${THIN.has(lane) ? 'pending' : lane})`;
const CARDS = [
  ['ticks', 'nextTick queue', 'after this callback'],
  ['micro', 'microtask queue', 'when no tick is left'],
  ['timers', 'timers', 'by due time'],
  ['poll', 'readable', 'next poll'],
  ['check', 'immediates', 'next check'],
  ['close', 'closing', 'newest first'],
];
// Kinds of events, as timeline.cpp writes them.
const PHASE = 0, QUEUED = 1, REMOVED = 2, REFERENCED = 3, BEGUN = 4, STATEMENT = 5, LOGGED = 6, PASSED = 7, ENDED = 8;

const PROGRAM = 1;  // the item that stands for it

let run, steps, at = 0, playing = null;
let em = 16, narrow = false;  // a rem in pixels; one column
const ms = (t) => `${+t.toFixed(t < 10 ? 2 : 1)} ms`;

// ---------------------------------------------------------------- steps

// A step ends where the eye should rest: a callback begins, a statement has done its work, or the loop
// has passed phases in which nothing ran.
function makeSteps(events) {
  const made = [];
  events.forEach((e, i) => {
    const last = made[made.length - 1];
    const follows = last && ((e[0] === PHASE && last.kind === PHASE) || e[0] === ENDED ||
      [QUEUED, REMOVED, REFERENCED, LOGGED, PASSED].includes(e[0]));
    if (follows) last.end = i + 1;
    else if (i > 0 || e[0] !== QUEUED) made.push({ kind: e[0], begin: last ? i : 0, end: i + 1 });
  });
  return made;
}

function newState() {
  return { phase: 'main', turn: 0, time: 0, item: null, lane: 'main', running: null, stack: null, statement: null,
    queues: Object.fromEntries(QUEUES.map((q) => [q, []])), out: [], over: false };
}

function apply(s, e, items) {
  switch (e[0]) {
    case PHASE:
      s.phase = PHASES[e[1]];
      if (s.phase === 'pending') s.turn++;
      if (s.phase === 'none') s.over = true;
      s.time = Math.max(s.time, e[2]);
      s.lane = s.phase; s.running = null; s.statement = null;
      break;
    case QUEUED: {
      const item = { id: e[1], lane: QUEUES[e[2]], text: e[3], from: e[4], to: e[5], due: e[6], refed: items[e[1]]?.refed ?? true };
      items[e[1]] = item;
      const q = s.queues[item.lane];
      q.push(item);
      if (item.lane === 'timers') q.sort((a, b) => a.due - b.due);
      break;
    }
    case REMOVED: drop(s, items[e[1]]); break;
    case REFERENCED: items[e[1]].refed = !!e[2]; break;
    case BEGUN:
      s.running = items[e[1]];
      s.time = Math.max(s.time, e[2]);
      s.lane = s.running.lane;
      s.statement = null;
      drop(s, s.running);
      break;
    case STATEMENT: s.statement = [e[1], e[2]]; break;
    case LOGGED: s.out.push({ text: e[1], lane: s.lane }); break;
    case PASSED: s.time = e[1]; break;
    case ENDED: break;
  }
}

function drop(s, item) {
  const q = s.queues[item.lane];
  const i = q.findIndex((x) => x.id === item.id);
  if (i >= 0) q.splice(i, 1);
}

function stateAt(step) {
  const s = newState(), items = {};
  const end = steps.length ? steps[step].end : 0;
  for (let i = 0; i < end; i++) apply(s, run.events[i], items);
  return s;
}

// ---------------------------------------------------------------- the story of a step

const escape = (t) => String(t).replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c]);
const code = (t) => `<code>${escape(t)}</code>`;

function tellStart(item, before) {
  const name = item.text ? code(item.text) : '';
  if (item.id === PROGRAM)
    return {  main: 'The program runs from top to bottom, before the loop starts.',
      check: '<b>check</b> phase: the program runs, as an immediate.',
      poll: '<b>poll</b> phase: the program runs, as an I/O callback.',
      timer: '<b>timers</b> phase: the program runs, as a timer.' }[run.start];
  switch (item.lane) {
    case 'ticks':
      return `${before === 'ticks' ? 'The next tick' : 'The callback is over. First the <b>nextTick queue</b>'}: ${name}`;
    case 'micro':
      return `${before === 'micro' ? 'The next microtask' : 'No tick is left: now the <b>microtasks</b>'}: ${name}`;
    case 'timers': return `<b>timers</b> phase: ${name} has been due since ${ms(item.due)}.`;
    case 'check': return `<b>check</b> phase: the next immediate, ${name}`;
    case 'poll': return `<b>poll</b> phase: a descriptor is readable, ${name} is called.`;
    case 'close': return `<b>close</b> phase: ${name}, the newest of those that wait.`;
  }
}

const WAITS = {
  ticks: (i) => `${code(i.text)} goes on the <b>nextTick queue</b>: it runs right after this callback.`,
  micro: (i) => `${code(i.text)} goes on the <b>microtask queue</b>: it runs when this callback and all ticks are over.`,
  timers: (i) => `${code(i.text)} is due at ${ms(i.due)}: not before the first <b>timers</b> phase after that.`,
  check: (i, lane) => `${code(i.text)} waits for the next <b>check</b> phase` +
    (lane === 'check' ? ': this one has taken its list already, so it is the one of the next turn.' : '.'),
  poll: (i, lane) => `A descriptor is readable now: ${code(i.text)} waits for the next <b>poll</b> phase` +
    (lane === 'poll' ? ', that of the next turn.' : '.'),
  close: (i) => `${code(i.text)} waits for the next <b>close</b> phase, in front of older ones.`,
};

function tell(step) {
  const { kind, begin, end } = steps[step];
  const before = step > 0 ? stateAt(step - 1) : newState();
  const s = stateAt(step);
  const parts = [];
  const items = {};
  for (let i = 0; i < end; i++) if (run.events[i][0] === QUEUED) {
    const e = run.events[i];
    items[e[1]] = { text: e[3], lane: QUEUES[e[2]], due: e[6] };
  }
  if (kind === PHASE)
    return tellPhases(run.events.slice(begin, end).filter((e) => e[0] === PHASE), before, s);
  if (kind === BEGUN) parts.push(tellStart(s.running, before.lane));
  for (let i = begin; i < end; i++) {
    const e = run.events[i];
    if (e[0] === LOGGED) parts.push(`It prints ${code(e[1])}.`);
    if (e[0] === QUEUED && e[1] !== PROGRAM) parts.push(WAITS[QUEUES[e[2]]](items[e[1]], s.phase));
    if (e[0] === REMOVED) parts.push(`${code(items[e[1]].text)} is cancelled: it will not run.`);
    if (e[0] === REFERENCED) parts.push(`${code(items[e[1]].text)} ${e[2] ? 'keeps the loop alive again.' : 'no longer keeps the loop alive.'}`);
    if (e[0] === PASSED) parts.push(`It computes, and nothing else can run meanwhile: it is ${ms(e[1])} now.`);
    if (e[0] === STATEMENT) {
      const text = run.source.slice(e[1], e[2]);
      if (text.startsWith('await')) parts.push('The function is suspended here; its caller goes on.');
      else if (text.startsWith('return')) parts.push('The async function returns: its promise is resolved.');
      else if (text.startsWith('throw')) parts.push('It throws.');
    }
  }
  if (!parts.length) parts.push(s.statement ? code(run.source.slice(...s.statement).split('\n')[0]) : '');
  // Two ways to say the same about one statement would be one too many.
  return parts.slice(0, 3).join(' ');
}

function tellPhases(events, before, s) {
  const names = events.map((e) => PHASES[e[1]]).filter((n) => n !== 'none');
  const parts = [];
  if (s.turn > before.turn) parts.push(`<b>Turn ${s.turn}</b> of the loop.`);
  const jump = s.time > before.time;
  const told = names.filter((n) => !THIN.has(n));
  if (jump) parts.push(`Nothing is ready: <b>poll</b> waits until ${ms(s.time)}.`);
  const idle = told.filter((n) => !(jump && n === 'poll') && n !== s.phase);
  if (idle.length) parts.push(`Nothing to do in ${idle.map((n) => `<b>${n}</b>`).join(', ')}.`);
  if (s.over) parts.push('Nothing keeps the loop alive any more: <b>it ends</b>.');
  else if (!THIN.has(s.phase) && !(jump && s.phase === 'poll')) parts.push(`Now the <b>${s.phase}</b> phase.`);
  return parts.join(' ');
}

// ---------------------------------------------------------------- the program's text

const TOKENS = /(\/\/[^\n]*|\/\*.*?\*\/)|('(?:\\.|[^'\\])*')|\b(const|await|async|try|catch|finally|throw|return|new)\b|([A-Za-z_$][\w$]*)(?=\()/g;
function colorize(text) {
  const classes = new Array(text.length).fill('');
  for (const m of text.matchAll(TOKENS)) {
    const cls = m[1] ? 'c' : m[2] ? 's' : m[3] ? 'k' : 'f';
    classes.fill(cls, m.index, m.index + m[0].length);
  }
  return classes;
}

function showSource(s) {
  const pre = $('source');
  const kept = [pre.scrollTop, pre.scrollLeft];
  pre.textContent = '';
  const span = s.running && (s.running.id === PROGRAM ? [0, run.source.length] : [s.running.from, s.running.to]);
  const mark = s.statement;
  let pos = 0, target = null;
  run.source.split('\n').forEach((text, n) => {
    const line = make('span', 'line'), body = make('span');
    line.dataset.n = n + 1;
    line.style.setProperty('--hang', text.match(/^ */)[0].length + 2 + 'ch');
    const end = pos + text.length;
    if (span && span[1] > span[0] && span[0] <= end && span[1] > pos) {
      line.classList.add('within');
      line.style.setProperty('--lane', color(s.lane));
      target ??= line;
    }
    let i = pos;
    while (i < end) {
      const marked = mark && i >= mark[0] && i < mark[1];
      let j = i + 1;
      while (j < end && run.classes[j] === run.classes[i] && (mark && j >= mark[0] && j < mark[1]) === marked) j++;
      const piece = make(marked ? 'mark' : 'span', run.classes[i], run.source.slice(i, j));
      if (marked && (!target || target.marked !== true)) { target = line; target.marked = true; }
      body.append(piece);
      i = j;
    }
    if (!text) body.append('\u200b');
    line.append(body);
    pre.append(line);
    pos = end + 1;
  });
  [pre.scrollTop, pre.scrollLeft] = kept;
  if (target) {
    const top = target.offsetTop, room = pre.clientHeight;
    if (top < pre.scrollTop + 20 || top + 40 > pre.scrollTop + room) pre.scrollTop = Math.max(0, top - room / 3);
  }
}

// ---------------------------------------------------------------- the score: what ran where, in order

const SVG = 'http://www.w3.org/2000/svg';
const LINE = 1.15;  // of a block: line-height
let rows, blocks, paths, letters = 14;

// Lanes in which nothing runs need room for their name only. What the lanes need at least is what the score has at
// least; of what is left, the lanes in which something runs get room for three lines, then all get more.
function laneHeights() {
  const head = Math.ceil(1.6 * em), bar = 16, gap = Math.round(0.2 * em), line = 0.9 * em * LINE;
  const used = new Set();
  const s = newState(), items = {};
  for (const e of run.events) {
    apply(s, e, items);
    if (e[0] === BEGUN) used.add(s.running.lane);
  }
  const least = (lane) => THIN.has(lane) ? 0.9 * em : used.has(lane) ? line + 2 * gap + 5 : 1.2 * em;
  const most = (lane) => THIN.has(lane) ? 1.1 * em : used.has(lane) ? 3 * line + 2 * gap + 5 : 1.9 * em;
  const lanes = LANES.map((lane) => ({ lane, h: Math.ceil(least(lane)), most: Math.ceil(most(lane)) }));
  const needed = lanes.reduce((sum, { h }) => sum + h, head + bar + 3);
  $('score').style.minHeight = needed + 'px';
  let left = narrow ? 0 : $('score').clientHeight - needed;
  for (const some of [lanes.filter(({ lane }) => used.has(lane)), lanes])
    for (let growing = some; left > 0 && (growing = some.filter((l) => l.h < l.most)).length;)
      for (const l of growing) if (left > 0) { l.h++; left--; }
  let top = head;
  rows = { head, gap };
  for (const { lane, h } of lanes) {
    rows[lane] = { top, h, lines: Math.max(1, Math.min(3, Math.floor((h - 2 * gap - 4) / line))) };
    top += h;
  }
  rows.lines = Math.min(...[...used].map((lane) => rows[lane].lines));
  rows.height = top;
}

// The least width at which `text` takes so many lines; no word is broken that need not be.
function widthIn(text, lines) {
  const words = text.split(' ').map(textWidth), space = textWidth(' ');
  const whole = textWidth(text);
  let w = Math.max(whole / lines, ...words.map((each) => Math.min(each, 16 * em)));
  for (; w < whole && w < 75 * em; w += 4) {
    let count = 0, used = Infinity;
    for (const each of words) {
      if (used + space + each <= w) { used += space + each; continue; }
      count += Math.max(1, Math.ceil(each / w));
      used = each > w ? each % w : each;
    }
    if (count <= lines) break;
  }
  return Math.ceil(Math.min(w, whole) + 0.9 * em) + 4;
}

// Everything is to be seen at once: by more lines, and at last by smaller letters. If nothing helps,
// two lines are read best, and one scrolls.
function blockWidths() {
  const texts = [];
  const s = newState(), items = {};
  run.events.forEach((e, i) => {
    apply(s, e, items);
    if (e[0] === BEGUN) texts.push([printed(i) || s.running.text || s.running.lane, s.running.text || '']);
  });
  const room = $('scroll').clientWidth, most = Math.max(10 * em, room - 4 * em);
  const others = run.events.filter((e) => e[0] === PHASE && PHASES[e[1]] !== 'none').length * rows.dot +
    texts.length * 8 + 5 * em;
  const tries = [[1, 0.9, 4], [1, 0.9, 2.1], [2, 0.9, 2.1], [3, 0.9, 2.1], [3, 0.82, 2.1], [3, 0.75, 2.1]];
  const attempt = ([lines, size, least]) => {
    letters = size * em;
    $('staff').style.setProperty('--size', letters + 'px');
    return texts.map((both) => Math.max(least * em, Math.min(most, Math.max(...both.map((t) => widthIn(t, lines))))));
  };
  for (const how of tries.filter(([lines]) => lines <= rows.lines)) {
    const widths = attempt(how);
    if (widths.reduce((sum, w) => sum + w, others) <= room) return widths;
  }
  return attempt([Math.min(2, rows.lines), 0.9, 2.1]);
}

function drawScore() {
  const lanes = $('lanes'), staff = $('staff');
  lanes.textContent = ''; staff.textContent = '';
  rows.dot = Math.round(0.8 * em);
  const head = make('div', 'head');
  head.id = 'clock';
  head.style.setProperty('--h', rows.head + 'px');
  lanes.append(head);
  for (const lane of LANES) {
    const d = make('div', THIN.has(lane) ? 'thin' : '', LANE_NAMES[lane] || lane);
    d.style.setProperty('--h', rows[lane].h + 'px');
    d.style.setProperty('--lane', color(lane));
    d.dataset.lane = lane;
    lanes.append(d);
    const row = make('div', 'row' + (lane === 'ticks' || lane === 'timers' ? ' strong' : ''));
    row.style.top = rows[lane].top + 'px';
    staff.append(row);
  }
  staff.style.height = rows.height + 'px';
  const cursor = make('div'); cursor.id = 'cursor';
  staff.append(cursor);

  blocks = [];
  let x = 10, turn = -1, starting = 0;
  const points = [], s = newState(), items = {}, widths = blockWidths();
  const mark = (text, left) => {
    const t = make('div', 'turn', text);
    t.style.left = left + 'px';
    staff.append(t);
  };
  const add = (e, lane, n, w) => {
    e.style.setProperty('--lane', color(lane));
    e.onclick = () => go(n);
    staff.append(e);
    blocks.push({ e, step: n, x, w, lane, y: rows[lane].top + rows[lane].h / 2 });
  };
  const newTurn = (text) => {
    // Not closer to the last mark than its text needs.
    if (turn >= 0) x = Math.max(x + 8, starting);
    mark(text, x - 6);
    starting = x + textWidth(text) + em;
    x += 4;
  };
  steps.forEach((step, n) => {
    for (let i = step.begin; i < step.end; i++) {
      const e = run.events[i];
      apply(s, e, items);
      if (e[0] === PHASE) {
        const lane = PHASES[e[1]];
        if (lane === 'none') continue;
        if (s.turn !== turn) {
          newTurn(s.turn ? `turn ${s.turn} · ${ms(s.time)}` : 'before');
          turn = s.turn;
        }
        const dot = make('div', 'dot');
        dot.style.left = x + 6 + 'px';
        dot.style.top = rows[lane].top + rows[lane].h / 2 + 'px';
        dot.title = `${lane}, ${ms(s.time)}`;
        add(dot, lane, n, 12);
        points.push([x + 6, rows[lane].top + rows[lane].h / 2, n]);
        x += rows.dot;
      } else if (e[0] === BEGUN) {
        const lane = s.running.lane;
        if (turn < 0) { newTurn('before the loop'); turn = 0; }
        const text = printed(i) || s.running.text || lane;
        const title = s.running.text;
        const w = widths.shift();
        const b = make('div', 'block', text);
        b.title = text;
        b.style.left = x + 'px'; b.style.width = w + 'px';
        b.style.top = rows[lane].top + rows.gap + 'px'; b.style.height = rows[lane].h - 2 * rows.gap + 'px';
        add(b, lane, n, w);
        Object.assign(blocks[blocks.length - 1], { event: i, text, title });
        const y = rows[lane].top + rows[lane].h / 2;
        points.push([x, y, n], [x + w, y, n]);
        x += w + 8;
      }
    }
  });
  const end = make('div', 'end', s.over ? 'end' : '');
  end.style.left = x + 4 + 'px'; end.style.top = '4px';
  staff.append(end);
  x += 2.8 * em;
  staff.style.width = x + 'px';
  paths = ['', 'ahead'].map((cls) => {
    const line = document.createElementNS(SVG, 'polyline');
    line.setAttribute('class', cls);
    return line;
  });
  paths.points = points;
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('class', 'path'); svg.setAttribute('width', x); svg.setAttribute('height', rows.height);
  svg.append(...paths);
  staff.prepend(svg);
}

const ruler = document.createElement('canvas').getContext('2d');
function textWidth(t) {
  ruler.font = letters + 'px ui-monospace, "DejaVu Sans Mono", monospace';
  return ruler.measureText(t).width;
}

// What the callback that begins at event i prints, until event `end`.
function printed(i, end = run.events.length) {
  const out = [];
  for (let j = i + 1, depth = 1; j < end && depth > 0; j++) {
    if (run.events[j][0] === BEGUN) depth++;
    if (run.events[j][0] === ENDED) depth--;
    if (run.events[j][0] === LOGGED) out.push(run.events[j][1]);
  }
  return out.join(' ');
}

function showScore(s, gently) {
  for (const d of $('lanes').children) d.classList.toggle('now', d.dataset.lane === s.lane && !s.over);
  $('clock').textContent = ms(s.time);
  const been = paths.points.filter((p) => p[2] <= at), ahead = paths.points.slice(Math.max(0, been.length - 1));
  [been, ahead].forEach((points, i) => paths[i].setAttribute('points', points.map(([x, y]) => `${x},${y}`).join(' ')));
  let current = null;
  for (const b of blocks) if (b.step <= at) current = b;
  for (const b of blocks) {
    b.e.classList.toggle('ahead', b.step > at);
    // Of the one that runs, only what it has printed so far: who watches may still guess.
    if (b.text) b.e.textContent = b === current ? printed(b.event, steps[at].end) || b.title : b.text;
    b.e.classList.toggle('now', b === current);
  }
  $('cursor').hidden = !current;
  if (!current) return;
  $('cursor').style.left = current.x - 3 + 'px';
  $('cursor').style.width = current.w + 6 + 'px';
  const scroll = $('scroll');
  if (at === steps.length - 1) return scroll.scrollTo({ left: scroll.scrollWidth, behavior: 'instant' });
  const near = gently && Math.abs(current.x - scroll.scrollLeft) < 1.5 * scroll.clientWidth;
  if (current.x < scroll.scrollLeft + 40 || current.x + current.w > scroll.scrollLeft + scroll.clientWidth - 60)
    scroll.scrollTo({ left: current.x - scroll.clientWidth * 0.4, behavior: near ? 'smooth' : 'instant' });
}

// ---------------------------------------------------------------- queues and output

function chipsOf(lane, list, old) {
  const chips = make('div', 'chips');
  if (!list.length) chips.append(make('span', 'chip empty', '\u2013'));
  for (const item of lane === 'close' ? list.slice().reverse() : list) {
    const chip = make('span', 'chip', item.text || '?');
    if (old && !old.has(item.id + '/' + item.due)) chip.classList.add('new');
    if (!item.refed) { chip.classList.add('weak'); chip.title = 'does not keep the loop alive'; }
    if (lane === 'timers') chip.append(make('small', '', ms(item.due)));
    if (!item.refed) chip.append(make('small', '', 'unref'));
    chips.append(chip);
  }
  return chips;
}

// The cards, each with room for its fullest moments: a queue that grows on is not at one.
function makeQueues() {
  const moments = Object.fromEntries(CARDS.map(([lane]) => [lane, new Map()]));
  const s = newState(), items = {};
  const keep = (lane) => {
    const list = s.queues[lane];
    const key = list.map((i) => `${i.text}/${i.due}/${i.refed}`).join('\n');
    if (list.length && moments[lane]) moments[lane].set(key, list.map((item) => ({ ...item })));
  };
  run.events.forEach((e) => {
    if ([REMOVED, BEGUN, REFERENCED].includes(e[0]) && items[e[1]]) keep(items[e[1]].lane);
    apply(s, e, items);
  });
  for (const [lane] of CARDS) keep(lane);
  const box = $('queues');
  box.textContent = '';
  for (const [lane, name, hint] of CARDS) {
    const card = make('div', 'queue');
    card.dataset.lane = lane;
    card.style.setProperty('--lane', color(lane));
    const h = make('h3', '', name);
    h.append(make('small', '', hint));
    const stack = make('div', 'stack');
    const fullest = [...moments[lane].values()].sort((a, b) => b.length - a.length).slice(0, 100);
    for (const list of fullest) {
      const room = chipsOf(lane, list);
      room.classList.add('room');
      room.ariaHidden = true;
      stack.append(room);
    }
    stack.append(chipsOf(lane, []));
    card.append(h, stack);
    box.append(card);
  }
}

function showQueues(s, before) {
  const old = new Set(Object.values(before.queues).flat().map((i) => i.id + '/' + i.due));
  const next = s.queues.ticks.length ? 'ticks' : s.queues.micro.length ? 'micro' : null;
  for (const card of $('queues').children) {
    const lane = card.dataset.lane;
    card.classList.toggle('next', lane === next);
    card.querySelector('.chips:not(.room)').replaceWith(chipsOf(lane, s.queues[lane], old));
  }
}

function outputLine(text, i) {
  const li = make('li', '', text);
  const guessed = guesses.get(run)?.shown && wasGuessed(i);
  if (guessed) {
    li.classList.add(guessed.right ? 'hit' : 'miss');
    li.append(make('span', 'mark', guessed.right ? '\u2713' : '\u2717'));
    li.title = guessed.right ? 'guessed' : `guessed: ${guessed.text ?? 'nothing'}`;
  }
  return li;
}
// The room that the whole output takes in the end.
function makeOutput() {
  const room = document.querySelector('#console .room');
  room.replaceChildren(...run.labels.map(outputLine));
}

function showOutput(s, before) {
  const list = $('lines');
  list.textContent = '';
  const want = run.expect;
  s.out.forEach((o, i) => {
    const li = outputLine(o.text, i);
    li.classList.toggle('new', i >= before.out.length);
    li.style.setProperty('--lane', color(o.lane));
    if (want && want[i] !== o.text) { li.classList.add('wrong'); li.title = `expected: ${want[i]}`; }
    list.append(li);
  });
  for (const label of run.labels.slice(s.out.length)) list.append(make('li', 'ghost', $('ahead').checked ? label : '?'));
  // The latest line, if they do not all fit.
  const latest = list.children[Math.max(0, s.out.length - 1)], box = $('console');
  if (latest) box.scrollTop = latest.offsetTop + latest.offsetHeight + 8 - box.offsetTop - box.clientHeight;
  const verdict = $('verdict');
  const done = at === steps.length - 1 || s.out.length === run.labels.length;
  verdict.className = ''; verdict.textContent = '';
  if (run.error) { verdict.className = 'bad'; verdict.textContent = run.error; }
  else if (want && done) {
    const same = want.length === run.labels.length && want.every((l, i) => l === run.labels[i]);
    verdict.className = same ? 'good' : 'bad';
    verdict.textContent = same ? '✓ the order Node 20 prints' : '✗ not the order Node 20 prints';
    if (guesses.get(run)?.shown) verdict.textContent += ` \u00b7 ${score()}`;
  }
}

// ---------------------------------------------------------------- controls

// Without a word on how the score should move, it is not there yet.
function show(gently) {
  const s = stateAt(at);
  const before = at > 0 ? stateAt(at - 1) : newState();
  showSource(guessing ? newState() : s);
  if (gently !== undefined) showScore(s, gently);
  showQueues(s, before);
  showOutput(s, before);
  const story = $('story');
  story.style.setProperty('--lane', s.over ? 'var(--faint)' : color(s.lane));
  $('tell').innerHTML = tell(at);
  $('scrub').value = at;
  $('count').textContent = `step ${at + 1} of ${steps.length} · ${ms(s.time)}`;
  history.replaceState(null, '', '#' + encodeURIComponent(run.id) + '/' + (guessing ? 'guess' : at + 1));
}

function go(n) {
  if (guessing) return;
  at = Math.max(0, Math.min(steps.length - 1, n));
  show(true);
  if (at === steps.length - 1) pause();
}
function nextCallback(by) {
  let n = at + by;
  while (n > 0 && n < steps.length - 1 && steps[n].kind !== BEGUN) n += by;
  go(n);
}
function showPlaying(on) {
  $('play-word').textContent = on ? 'pause' : 'play';
  $('play-icon').setAttribute('d', on ? 'M5 4h5v16H5zM14 4h5v16h-5z' : 'M6 4v16l12-8z');
}
function pause() {
  clearInterval(playing);
  playing = null;
  showPlaying(false);
}
function play() {
  if (guessing) return;
  if (playing) return pause();
  if (at === steps.length - 1) at = -1;
  showPlaying(true);
  playing = setInterval(() => go(at + 1), Number($('speed').value));
  go(at + 1);
}
function lookAhead(on) {
  if (guessing) on = false;
  $('ahead').checked = on;
  $('score').classList.toggle('peek', on);
  show(false);
}
function choose(n, step = 0) {
  pause();
  const i = (n + runs.length) % runs.length;
  $('pick').selectedIndex = i;
  run = runs[i];
  run.classes ??= colorize(run.source);
  steps = makeSteps(run.events);
  at = Math.max(0, Math.min(steps.length - 1, step));
  document.title = `${run.id} · rondo replay`;
  $('note').textContent = run.note;
  $('where').textContent = run.backend === 'sim' ? 'on virtual time' : `on ${run.backend}, real time`;
  $('scrub').max = Math.max(0, steps.length - 1);
  layOut();
}

// ---------------------------------------------------------------- how large it all is

// Letters are as large as the window allows: by its size, then smaller until nothing is cut. `zoom` is what + and -
// ask for on top of that; then the page may have to scroll.
let zoom = 1;
const main = $('main');
function resizeBy(factor) {
  zoom = factor ? Math.max(0.5, Math.min(3, zoom * factor)) : 1;
  if (Math.abs(zoom - 1) < 0.01) zoom = 1;
  layOut();
}
function setSize(size) {
  em = size;
  const root = document.documentElement;
  root.style.fontSize = em + 'px';
  narrow = innerWidth < 1000 || innerWidth / em < 46;
  root.classList.toggle('narrow', narrow);
  root.classList.toggle('phone', innerWidth < 700 || innerWidth / em < 40);
}
function place() {
  showBoard();
  $('queues').classList.remove('terse');
  const cut = (e) => e.scrollWidth > e.clientWidth;
  $('queues').classList.toggle('terse', [...document.querySelectorAll('.queue h3')].some(cut));
  laneHeights();
}
const whole = (e) => e.scrollHeight <= e.clientHeight && e.scrollWidth <= e.clientWidth;
const fits = () => whole(main) && (guessing || (whole($('console')) && [...$('queues').children].every(whole)));

// Room for the longest of what will be told; not each, where there are thousands.
function makeStory() {
  const every = Math.ceil(steps.length / 400), told = new Set();
  for (let n = 0; n < steps.length; n += every) told.add(tell(n));
  const longest = [...told].sort((a, b) => b.length - a.length).slice(0, 60);
  const times = run.events.map((e) => ms({ [PHASE]: e[2], [BEGUN]: e[2], [PASSED]: e[1] }[e[0]] ?? 0));
  const longestTime = times.reduce((a, b) => b.length > a.length ? b : a, '');
  $('count-room').textContent = `step ${steps.length} of ${steps.length} \u00b7 ${longestTime}`;
  for (const old of document.querySelectorAll('#story .room')) old.remove();
  for (const text of longest) {
    const room = make('p', 'room');
    room.innerHTML = text;
    room.ariaHidden = true;
    $('story').append(room);
  }
}

function layOut() {
  main.classList.toggle('guessing', guessing);
  document.body.classList.toggle('guessing', guessing && !guesses.get(run)?.shown);
  document.querySelector('footer').inert = guessing;
  makeQueues();
  makeOutput();
  makeStory();
  show();
  const wanted = Math.max(16, Math.min(innerWidth / 56, innerHeight / 34));
  let size = wanted;
  for (setSize(size), place(); !narrow && !fits() && size > 0.62 * wanted && size > 9; place()) setSize(size -= 0.5);
  if (zoom !== 1) { setSize(size * zoom); place(); }
  drawScore();
  // The program is read best as a whole; where it is too long, letters of the usual size scroll.
  const source = $('source');
  for (const part of [0.95, 0.89, 0.83, 0.77, 0.71, 0.66, 0.62, 0.77]) {
    source.style.setProperty('--size', part * wanted * zoom + 'px');
    if (whole(source)) break;
  }
  show(false);
}

const keys = {
  ' ': play, ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1),
  Home: () => go(0), End: () => go(steps.length - 1),
  '[': () => choose($('pick').selectedIndex - 1), ']': () => choose($('pick').selectedIndex + 1),
  a: () => lookAhead(!$('ahead').checked), d: theme, '?': () => $('keys').showModal(), g: () => guess(!guessing),
  '+': () => resizeBy(1.12), '=': () => resizeBy(1.12), '-': () => resizeBy(1 / 1.12), '_': () => resizeBy(1 / 1.12),
  0: () => resizeBy(0),
  PageDown: () => main.scrollBy(0, main.clientHeight * 0.8), PageUp: () => main.scrollBy(0, -main.clientHeight * 0.8),
};
addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.altKey || e.metaKey || e.target.tagName === 'SELECT' || $('keys').open) return;
  // Space and Enter press the button that has the focus, and tick the box.
  if ((e.key === ' ' || e.key === 'Enter') && (e.target.tagName === 'BUTTON' || e.target.type === 'checkbox')) return;
  if (guessing && guessKey(e)) {
    // done
  } else if (e.shiftKey && e.key.startsWith('Arrow')) {
    if (e.key === 'ArrowRight') nextCallback(1);
    if (e.key === 'ArrowLeft') nextCallback(-1);
  } else if (keys[e.key]) {
    keys[e.key]();
  } else {
    return;
  }
  e.preventDefault();
});
// After a click, keys are for the page again.
addEventListener('click', (e) => { if (e.detail > 0) e.target.closest('header button, footer button, .look')?.blur(); });
$('smaller').onclick = () => resizeBy(1 / 1.12);
$('larger').onclick = () => resizeBy(1.12);
$('guess').onclick = () => guess(!guessing);
$('first').onclick = () => go(0);
$('last').onclick = () => go(steps.length - 1);
$('back').onclick = () => go(at - 1);
$('next').onclick = () => go(at + 1);
$('back-callback').onclick = () => nextCallback(-1);
$('next-callback').onclick = () => nextCallback(1);
$('play').onclick = play;
$('theme').onclick = theme;
$('help').onclick = () => $('keys').showModal();
$('scrub').oninput = () => go(Number($('scrub').value));
$('speed').onchange = () => { if (playing) { pause(); play(); } };
$('ahead').onchange = () => lookAhead($('ahead').checked);
$('pick').onchange = () => choose($('pick').selectedIndex);
addEventListener('resize', layOut);

for (const r of runs) $('pick').append(make('option', '', r.id));
if (runs.length < 2) document.querySelector('header').classList.add('single');
const [id, step] = location.hash.slice(1).split('/');
const named = runs.findIndex((r) => encodeURIComponent(r.id) === id);
// Without a wish: the one that everybody knows, or the first of the first file.
const known = runs.findIndex((r) => r.id === 'event-loop-order');
guessing = step === 'guess';
choose(Math.max(0, named >= 0 ? named : known), named >= 0 ? (Number(step) || 1) - 1 : 0);
