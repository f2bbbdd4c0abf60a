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
  ['poll', 'readable descriptors', 'next poll'],
  ['check', 'immediates', 'next check'],
  ['close', 'closing', 'newest first'],
];
// Kinds of events, as timeline.cpp writes them.
const PHASE = 0, QUEUED = 1, REMOVED = 2, REFERENCED = 3, BEGUN = 4, STATEMENT = 5, LOGGED = 6, PASSED = 7, ENDED = 8;

const PROGRAM = 1;  // the item that stands for it

let run, steps, at = 0, playing = null;
const narrow = matchMedia('(max-width: 1000px)');
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

const HEAD = 26, GAP = 4, LINE = 16, PAD = 20, DOT = 13;
const SVG = 'http://www.w3.org/2000/svg';
let rows, blocks, paths, letters = 14;
function laneHeights() {
  const thin = 18, bar = 16;
  const room = $('score').clientHeight - HEAD - bar - THIN.size * thin;
  const full = Math.max(narrow.matches ? 44 : 30, Math.min(76, Math.floor(room / (LANES.length - THIN.size))));
  let top = HEAD;
  rows = { lines: Math.max(1, Math.min(3, Math.floor((full - 2 * GAP - 3) / LINE))) };
  for (const lane of LANES) {
    const h = THIN.has(lane) ? thin : full;
    rows[lane] = { top, h };
    top += h;
  }
  rows.height = top;
}

// The least width at which `text` takes so many lines; no word is broken that need not be.
function widthIn(text, lines) {
  const words = text.split(' ').map(textWidth), space = textWidth(' ');
  const whole = textWidth(text);
  let w = Math.max(whole / lines, ...words.map((each) => Math.min(each, 260)));
  for (; w < whole && w < 1200; w += 4) {
    let count = 0, used = Infinity;
    for (const each of words) {
      if (used + space + each <= w) { used += space + each; continue; }
      count += Math.max(1, Math.ceil(each / w));
      used = each > w ? each % w : each;
    }
    if (count <= lines) break;
  }
  return Math.ceil(Math.min(w, whole)) + PAD;
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
  const room = $('scroll').clientWidth, most = Math.max(160, room - 60);
  const others = run.events.filter((e) => e[0] === PHASE && PHASES[e[1]] !== 'none').length * DOT + texts.length * 8 + 76;
  const tries = [[1, 14, 64], [1, 14, 34], [2, 14, 34], [3, 14, 34], [3, 13, 34], [3, 12, 34]];
  const attempt = ([lines, size, least]) => {
    $('staff').style.setProperty('--size', size + 'px');
    letters = size;
    return texts.map((both) => Math.max(least, Math.min(most, Math.max(...both.map((t) => widthIn(t, lines))))));
  };
  for (const how of tries.filter(([lines]) => lines <= rows.lines)) {
    const widths = attempt(how);
    if (widths.reduce((sum, w) => sum + w, others) <= room) return widths;
  }
  return attempt([Math.min(2, rows.lines), 14, 34]);
}

function drawScore() {
  laneHeights();
  const lanes = $('lanes'), staff = $('staff');
  lanes.textContent = ''; staff.textContent = '';
  const head = make('div', 'head');
  head.id = 'clock';
  head.style.setProperty('--h', HEAD + 'px');
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
    starting = x + textWidth(text) + 14;
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
        x += DOT;
      } else if (e[0] === BEGUN) {
        const lane = s.running.lane;
        if (turn < 0) { newTurn('before the loop'); turn = 0; }
        const text = printed(i) || s.running.text || lane;
        const title = s.running.text;
        const w = widths.shift();
        const b = make('div', 'block', text);
        b.title = text;
        b.style.left = x + 'px'; b.style.width = w + 'px';
        b.style.top = rows[lane].top + GAP + 'px'; b.style.height = rows[lane].h - 2 * GAP + 'px';
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
  x += 44;
  staff.style.width = x + 'px';
  staff.style.height = rows.height + 'px';
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

// Room for the fullest moment of this run, so that nothing jumps; three lines at most, then they scroll.
function sizeQueues() {
  letters = 14;
  const width = $('queues').firstChild.clientWidth - 20;
  const s = newState(), items = {};
  let lines = 1;
  for (const { begin, end } of steps) {
    for (let i = begin; i < end; i++) apply(s, run.events[i], items);
    for (const list of Object.values(s.queues)) {
      let count = 1, left = width;
      for (const item of list) {
        const more = (item.lane === 'timers' ? 50 : 0) + (item.refed ? 0 : 40);
        const w = Math.min(width, textWidth(item.text || '?') * 1.08 + 25 + more);
        if (w > left) { count++; left = width; }
        left -= w;
      }
      lines = Math.max(lines, Math.min(3, count));
    }
  }
  $('queues').style.setProperty('--lines', lines);
}

function showQueues(s, before) {
  const old = new Set(Object.values(before.queues).flat().map((i) => i.id + '/' + i.due));
  const next = s.queues.ticks.length ? 'ticks' : s.queues.micro.length ? 'micro' : null;
  const box = $('queues');
  box.textContent = '';
  for (const [lane, name, hint] of CARDS) {
    const card = make('div', 'queue' + (lane === next ? ' next' : ''));
    card.style.setProperty('--lane', color(lane));
    const h = make('h3', '', name);
    h.append(make('small', '', hint));
    card.append(h);
    const list = lane === 'close' ? s.queues[lane].slice().reverse() : s.queues[lane];
    if (!list.length) card.append(make('div', 'empty', '\u2013'));
    const chips = make('div', 'chips');
    for (const item of list) {
      const chip = make('span', 'chip', item.text || '?');
      if (!old.has(item.id + '/' + item.due)) chip.classList.add('new');
      if (!item.refed) { chip.classList.add('weak'); chip.title = 'does not keep the loop alive'; }
      if (lane === 'timers') chip.append(make('small', '', ms(item.due)));
      if (!item.refed) chip.append(make('small', '', 'unref'));
      chips.append(chip);
    }
    card.append(chips);
    box.append(card);
  }
}

function showOutput(s, before) {
  const list = $('console');
  list.textContent = '';
  const want = run.expect;
  s.out.forEach((o, i) => {
    const li = make('li', i >= before.out.length ? 'new' : '', o.text);
    li.style.setProperty('--lane', color(o.lane));
    if (want && want[i] !== o.text) { li.classList.add('wrong'); li.title = `expected: ${want[i]}`; }
    list.append(li);
  });
  for (const label of run.labels.slice(s.out.length)) list.append(make('li', 'ghost', $('ahead').checked ? label : '?'));
  const fresh = list.querySelector('.new');
  if (fresh) list.scrollTop = fresh.offsetTop - list.offsetTop - 20;
  const verdict = $('verdict');
  const done = at === steps.length - 1 || s.out.length === run.labels.length;
  verdict.className = ''; verdict.textContent = '';
  if (run.error) { verdict.className = 'bad'; verdict.textContent = run.error; }
  else if (want && done) {
    const same = want.length === run.labels.length && want.every((l, i) => l === run.labels[i]);
    verdict.className = same ? 'good' : 'bad';
    verdict.textContent = same ? '✓ the order Node 20 prints' : '✗ not the order Node 20 prints';
  }
}

// ---------------------------------------------------------------- controls

function show(gently = false) {
  const s = stateAt(at);
  const before = at > 0 ? stateAt(at - 1) : newState();
  showSource(s);
  showScore(s, gently);
  showQueues(s, before);
  showOutput(s, before);
  const story = $('story');
  story.style.setProperty('--lane', s.over ? 'var(--faint)' : color(s.lane));
  story.innerHTML = `<span>${tell(at)}</span>`;
  $('scrub').value = at;
  $('count').textContent = `step ${at + 1} of ${steps.length} · ${ms(s.time)}`;
  history.replaceState(null, '', '#' + encodeURIComponent(run.id) + '/' + (at + 1));
}

function go(n) {
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
  if (playing) return pause();
  if (at === steps.length - 1) at = -1;
  showPlaying(true);
  playing = setInterval(() => go(at + 1), Number($('speed').value));
  go(at + 1);
}
function lookAhead(on) {
  $('ahead').checked = on;
  $('score').classList.toggle('peek', on);
  show();
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

// The lanes get the height that the cards leave.
function layOut() {
  showQueues(stateAt(at), newState());
  sizeQueues();
  drawScore();
  show();
}

const keys = {
  ' ': play, ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1),
  Home: () => go(0), End: () => go(steps.length - 1),
  '[': () => choose($('pick').selectedIndex - 1), ']': () => choose($('pick').selectedIndex + 1),
  a: () => lookAhead(!$('ahead').checked), d: theme, '?': () => $('keys').showModal(),
};
addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.altKey || e.metaKey || e.target.tagName === 'SELECT' || $('keys').open) return;
  if (e.shiftKey && e.key.startsWith('Arrow')) {
    if (e.key === 'ArrowRight') nextCallback(1);
    if (e.key === 'ArrowLeft') nextCallback(-1);
  } else if (keys[e.key]) {
    keys[e.key]();
  } else {
    return;
  }
  e.preventDefault();
});
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
choose(Math.max(0, named >= 0 ? named : known), named >= 0 ? Number(step || 1) - 1 : 0);
