// The data are rows of numbers, as timeline.cpp writes them. They become columns once, sorted into lanes; a
// frame then looks only at what can be seen, at most once for each pixel of a lane.

const data = JSON.parse($('data').textContent);
const texts = data.texts;

const columns = (rows, names) => {
  const n = rows.length / names.length;
  const made = { n };
  names.forEach((name, k) => {
    const c = new Float64Array(n);
    for (let i = 0, j = k; i < n; i++, j += names.length) c[i] = rows[j];
    made[name] = c;
  });
  return made;
};
const phases = columns(data.phases, ['host', 'which', 'polling', 'completions', 'begin', 'end']);
const steps = columns(data.steps, ['host', 'what', 'life', 'place', 'wokenBy', 'ready', 'begin', 'end']);
const lives = columns(data.lives, ['host', 'task', 'spawned', 'name', 'how', 'parent', 'error', 'failedAt', 'runs', 'begin', 'end']);
const waits = columns(data.waits, ['host', 'life', 'place', 'text', 'how', 'result', 'error', 'begin', 'end']);
const packets = columns(data.packets, ['from', 'to', 'what', 'size', 'sourcePort', 'port', 'arrived', 'copy', 'begin', 'end']);
const moments = columns(data.moments, ['host', 'text', 'choice', 'begin']);
moments.end = moments.begin;
const PHASES = ['none', 'timers', 'pending', 'idle', 'prepare', 'poll', 'check', 'close'];
const ERROR = 1, CANCELLED = 2;  // two of FATES
const FATES = ['with a value', 'with an error', 'cancelled', 'not yet', 'its host crashed'];

// ---------------------------------------------------------------- two axes

// By time, or by order: the n-th different moment is at n. Both ways an event has an x.
const stamps = (() => {
  const all = [];
  for (const set of [phases, steps, lives, waits, packets, moments]) all.push(set.begin, set.end);
  all.push(steps.ready);
  const joined = new Float64Array(all.reduce((n, a) => n + a.length, 1));
  let at = 1;
  for (const a of all) { joined.set(a, at); at += a.length; }
  joined.sort();
  let n = 0;
  for (let i = 0; i < joined.length; i++) if (i === 0 || joined[i] !== joined[n - 1]) joined[n++] = joined[i];
  return joined.slice(0, n);
})();
const firstAbove = (a, x, low = 0, high = a.length) => {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (a[middle] <= x) low = middle + 1; else high = middle;
  }
  return low;
};
const rank = (t) => firstAbove(stamps, t) - 1;
for (const set of [phases, steps, lives, waits, packets, moments]) {
  set.time = [set.begin, set.end];
  set.order = [set.begin.map(rank), set.end.map(rank)];
}
steps.readyBy = { time: steps.ready, order: steps.ready.map(rank) };
// In a world many steps share a moment, and between two moments nothing happens: by time there is little to see.
let axis = data.world ? 'order' : 'time';
const begins = (set) => set[axis][0], ends = (set) => set[axis][1];
const last = () => axis === 'time' ? stamps[stamps.length - 1] : stamps.length - 1;
const timeAt = (x) => axis === 'time' ? x : stamps[Math.max(0, Math.min(stamps.length - 1, Math.round(x)))];

// ---------------------------------------------------------------- lanes

// The tasks of a host share lanes: a task goes into the first one that is free when it begins.
const LANE = 19, HEAD = 30, CALLS = 15, LEFT = 190, TOP = 26;
const lanes = [];
const hostLane = [], callbackLane = [];
const lifeLane = new Int32Array(lives.n);
const byBegin = (set) => (a, b) => set.begin[a] - set.begin[b] || a - b;
const indices = (set, host) => {
  const found = [];
  for (let i = 0; i < set.n; i++) if (set.host[i] === host) found.push(i);
  return found.sort(byBegin(set));
};
let height = 0;
const addLane = (lane) => {
  lane.y = height;
  height += lane.h;
  lanes.push(lane);
  return lane;
};
data.hosts.forEach((name, host) => {
  if (host > 0) height += 8;
  hostLane[host] = addLane({ kind: 'host', host, h: HEAD, name, phases: indices(phases, host), moments: indices(moments, host) });
  const callbacks = indices(steps, host).filter((i) => steps.life[i] < 0);
  if (callbacks.length) callbackLane[host] = addLane({ kind: 'callbacks', host, h: CALLS, name: 'callbacks', steps: callbacks });
  // A heap of the lanes that are taken, by when they get free, and one of the free ones, the topmost first.
  const mine = [], taken = heap((a, b) => a.free - b.free), free = heap((a, b) => a.n - b.n);
  for (const i of indices(lives, host)) {
    while (taken.size() && taken.top().free < lives.begin[i]) free.push(taken.pop());
    let lane;
    if (free.size()) lane = free.pop();
    else mine.push(lane = { kind: 'tasks', host, h: LANE, n: mine.length, name: '', lives: [], steps: [], waits: [] });
    lane.free = lives.end[i];
    lane.lives.push(i);
    taken.push(lane);
    lifeLane[i] = lanes.length + lane.n;
  }
  for (const lane of mine) addLane(lane);
});
function heap(less) {
  const a = [];
  return {
    size: () => a.length,
    top: () => a[0],
    push(v) {
      let i = a.push(v) - 1;
      for (let up; i > 0 && less(a[i], a[up = (i - 1) >> 1]) < 0; i = up) [a[i], a[up]] = [a[up], a[i]];
    },
    pop() {
      const top = a[0], v = a.pop();
      if (!a.length) return top;
      a[0] = v;
      for (let i = 0, k; (k = 2 * i + 1) < a.length; i = k) {
        if (k + 1 < a.length && less(a[k + 1], a[k]) < 0) k++;
        if (less(a[k], a[i]) >= 0) break;
        [a[i], a[k]] = [a[k], a[i]];
      }
      return top;
    },
  };
}
for (let i = 0; i < steps.n; i++) if (steps.life[i] >= 0) lanes[lifeLane[steps.life[i]]].steps.push(i);
for (let i = 0; i < waits.n; i++) if (waits.life[i] >= 0) lanes[lifeLane[waits.life[i]]].waits.push(i);
for (const lane of lanes) {
  lane.steps?.sort(byBegin(steps));
  lane.waits?.sort(byBegin(waits));
}
const laneOfStep = (i) => steps.life[i] >= 0 ? lanes[lifeLane[steps.life[i]]] : callbackLane[steps.host[i]];
const stepsOfLife = Array.from({ length: lives.n }, () => []);
for (let i = 0; i < steps.n; i++) if (steps.life[i] >= 0) stepsOfLife[steps.life[i]].push(i);
const waitsOfLife = Array.from({ length: lives.n }, () => []);
for (let i = 0; i < waits.n; i++) if (waits.life[i] >= 0) waitsOfLife[waits.life[i]].push(i);
// The wait from which a step goes on.
const waitBefore = (i) => {
  const list = steps.life[i] >= 0 ? waitsOfLife[steps.life[i]] : [];
  return list[firstAbove(list.map((k) => waits.begin[k]), steps.begin[i]) - 1];
};
const wakes = new Map();  // of a step: those it woke
for (let i = 0; i < steps.n; i++) {
  if (steps.wokenBy[i] < 0) continue;
  if (!wakes.has(steps.wokenBy[i])) wakes.set(steps.wokenBy[i], []);
  wakes.get(steps.wokenBy[i]).push(i);
}
// The whole rows in order of their begin, for packets, which belong to no lane.
const packetOrder = Array.from({ length: packets.n }, (_, i) => i).sort(byBegin(packets));
const longestPacket = { time: 0, order: 0 };
for (const way of ['time', 'order'])
  for (let i = 0; i < packets.n; i++)
    longestPacket[way] = Math.max(longestPacket[way], packets[way][1][i] - packets[way][0][i]);

// ---------------------------------------------------------------- words

const shortPlace = (text) => {
  const at = text.indexOf(' ');
  const place = at < 0 ? text : text.slice(0, at), name = at < 0 ? '' : text.slice(at + 1);
  return place.slice(place.lastIndexOf('/') + 1) + (name ? '  ' + name : '');
};
// "task 7 'reader' app::session": the name it was given, and the function that it runs.
const taskName = (life, short = false) => {
  const name = texts[lives.name[life]];
  let runs = texts[lives.runs[life]];
  if (short) runs = runs.split('::').pop();
  return `task ${lives.task[life]}${name ? ` '${name}'` : ''}${runs ? ` ${runs}` : ''}`;
};
const UNITS = [[1e9, 's'], [1e6, 'ms'], [1e3, 'us'], [1, 'ns']];
const lasts = (ns) => {
  for (const [size, unit] of UNITS) if (ns >= size || size === 1) return `${+(ns / size).toPrecision(4)} ${unit}`;
};
const clock = (ns) => {  // since the beginning, to the nanosecond
  const whole = Math.floor(ns / 1e9);
  return `${whole}.${String(Math.round(ns - whole * 1e9)).padStart(9, '0').replace(/(\d{3})(?=\d)/g, '$1\u2009')} s`;
};
// How a wait has ended: "with a value: 4 bytes", "with an error: ...", "cancelled".
const outcome = (i) => {
  const error = texts[waits.error[i]];
  if (waits.how[i] === 0 && /^(read|write) fd /.test(texts[waits.text[i]])) return `${FATES[0]}: ${count(waits.result[i], 'byte')}`;
  return FATES[waits.how[i]] + (error ? `: ${error}` : '');
};
const ended = (life) => FATES[lives.how[life]] + (texts[lives.error[life]] ? `: ${texts[lives.error[life]]}` : '');
const stepTitle = (i) => steps.life[i] >= 0 ? taskName(steps.life[i]) : ['callback', 'tick', 'microtask'][steps.what[i]];
const packetTitle = (i) => `${texts[packets.what[i]]}${packets.size[i] ? ` ${packets.size[i]} bytes` : ''}${packets.copy[i] ? ' (copy)' : ''}`;

// ---------------------------------------------------------------- search

let words = '', matches = [], match = -1;
let lifeHit = null, stepHit = null;
function search(text) {
  words = text.trim().toLowerCase();
  matches = [];
  match = -1;
  lifeHit = stepHit = null;
  if (words) {
    const textHit = texts.map((t) => t.toLowerCase().includes(words));
    const number = /^(?:task )?(\d+)$/.exec(words)?.[1];
    lifeHit = new Uint8Array(lives.n);
    for (let i = 0; i < lives.n; i++)
      lifeHit[i] = textHit[lives.spawned[i]] || textHit[lives.name[i]] || textHit[lives.runs[i]] ||
        textHit[lives.error[i]] || textHit[lives.failedAt[i]] || (number !== undefined && lives.task[i] === +number);
    for (let i = 0; i < waits.n; i++)
      if (waits.life[i] >= 0 && (textHit[waits.text[i]] || textHit[waits.place[i]] || textHit[waits.error[i]])) lifeHit[waits.life[i]] = 1;
    stepHit = new Uint8Array(steps.n);
    for (let i = 0; i < steps.n; i++) {
      stepHit[i] = textHit[steps.place[i]] || (steps.life[i] >= 0 && lifeHit[steps.life[i]]);
      if (stepHit[i]) matches.push({ kind: 'step', i, x: steps.begin[i] });
    }
    for (let i = 0; i < packets.n; i++)
      if (textHit[packets.what[i]] || String(packets.port[i]) === words || String(packets.sourcePort[i]) === words)
        matches.push({ kind: 'packet', i, x: packets.begin[i] });
    for (let i = 0; i < moments.n; i++) if (textHit[moments.text[i]]) matches.push({ kind: 'moment', i, x: moments.begin[i] });
    matches.sort((a, b) => a.x - b.x);
  }
  $('found').textContent = words ? (matches.length ? `${matches.length} found` : 'nothing') : '';
  draw();
}
function nextMatch(by) {
  if (!matches.length) return;
  match = (match + by + matches.length + (match < 0 && by < 0 ? 1 : 0)) % matches.length;
  $('found').textContent = `${match + 1} of ${matches.length}`;
  select(matches[match], true);
}

// ---------------------------------------------------------------- the view

const canvas = $('view'), g = canvas.getContext('2d');
let noting, from = 0, span = 1, scroll = 0, width = 1, tall = 1, colors = {}, chosen = null, waiting = false;
const px = (x) => LEFT + (x - from) / span * (width - LEFT);
const atPx = (p) => from + (p - LEFT) / (width - LEFT) * span;

function limits() {
  const all = Math.max(last(), 1);
  span = Math.max(axis === 'time' ? 20 : 5, Math.min(span, all * 1.04));
  from = Math.max(-all * 0.02, Math.min(from, all * 1.02 - span));
  scroll = Math.max(0, Math.min(scroll, height - tall + TOP + 40));
}
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; paint(); });
}
function zoom(factor, x) {
  const fixed = atPx(x ?? (LEFT + width) / 2);
  span *= factor;
  const before = span;
  limits();
  from = fixed - (fixed - from) * factor * (span / before);
  draw();
}
function fit() { from = -last() * 0.02; span = last() * 1.04; draw(); }

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ['paper', 'panel', 'ink', 'faint', 'rule', 'within', 'bad', 'good', 'mark-edge', 'poll', 'timers', 'pending', 'check', 'close', 'main', 'micro'])
    colors[name] = style.getPropertyValue('--' + name).trim();
  colors.none = colors.main;
  colors.idle = colors.prepare = colors.pending;
  colors.dark = document.documentElement.classList.contains('dark') ||
    (!document.documentElement.classList.contains('light') && matchMedia('(prefers-color-scheme: dark)').matches);
}
// Tasks that were spawned on one line have one colour.
const hues = new Map();
const hueOf = (life) => {
  const key = lives.spawned[life];
  if (!hues.has(key)) hues.set(key, (210 + hues.size * 137.5) % 360);
  return hues.get(key);
};
const taskColor = (life, pale) => colors.dark
  ? `hsl(${hueOf(life)} ${pale ? '22% 26%' : '62% 62%'})` : `hsl(${hueOf(life)} ${pale ? '45% 90%' : '58% 44%'})`;

// Calls visit(index, x, width) for the items of a lane that can be seen: of those that share a pixel, the first.
function visible(set, list, visit) {
  const b = begins(set), e = ends(set);
  const to = from + span, perPixel = span / (width - LEFT);
  let i = 0, high = list.length;
  for (let low = 0; low < high;) {  // the first that ends in the view: in a lane they do not overlap
    const middle = (low + high) >> 1;
    if (e[list[middle]] < from) low = i = middle + 1; else high = middle;
  }
  while (i < list.length && b[list[i]] <= to) {
    const k = list[i], x = px(b[k]), w = px(e[k]) - x;
    visit(k, x, w);
    i++;
    if (w >= 1) continue;
    const next = (Math.floor((x - LEFT)) + 1) * perPixel + from;  // where the next pixel begins
    let low = i, up = Math.min(list.length, i + 1);
    for (let size = 1; up < list.length && b[list[up - 1]] < next; size *= 2) { low = up; up = Math.min(list.length, up + size); }
    while (low < up) {
      const middle = (low + up) >> 1;
      if (b[list[middle]] < next) low = middle + 1; else up = middle;
    }
    i = low;
  }
}

function clipped(text, x, w, y, color) {
  const left = Math.max(x, LEFT) + 4, room = Math.min(x + w, width) - left - 3;
  if (room < 18 || !text) return;
  const most = Math.floor(room / 6.1);
  g.fillStyle = color;
  g.fillText(text.length > most ? text.slice(0, Math.max(1, most - 1)) + '\u2026' : text, left, y);
}

function paint() {
  const ratio = window.devicePixelRatio || 1;
  const box = canvas.getBoundingClientRect();
  width = box.width; tall = box.height;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(tall * ratio)) canvas.height = Math.round(tall * ratio);
  limits();
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.fillStyle = colors.paper;
  g.fillRect(0, 0, width, tall);
  g.font = '11px ui-monospace, "DejaVu Sans Mono", monospace';
  g.textBaseline = 'middle';
  paintAxis();
  g.save();
  g.beginPath();
  g.rect(0, TOP, width, tall - TOP);
  g.clip();
  let shown = 0;
  for (const lane of lanes) {
    const y = lane.y - scroll + TOP;
    if (y + lane.h < TOP || y > tall) continue;
    paintLane(lane, y);
    shown += lane.h;
  }
  g.save();
  g.beginPath();
  g.rect(LEFT, TOP, width - LEFT, tall);
  g.clip();
  paintPackets();
  paintNetwork();
  paintWakes();
  paintChosen();
  g.restore();
  paintNames();
  g.restore();
  clearTimeout(noting);
  noting = setTimeout(note, 300);
  $('range').textContent = `${clock(Math.max(0, timeAt(from)))}  +  ${axis === 'time' ? lasts(span) : `${Math.round(span)} events`}`;
}

function paintAxis() {
  const rough = span / Math.max(2, (width - LEFT) / 130);
  const power = 10 ** Math.floor(Math.log10(rough));
  const by = [1, 2, 5, 10].map((f) => f * power).find((f) => f >= rough);
  g.strokeStyle = colors.rule;
  g.fillStyle = colors.faint;
  g.beginPath();
  for (let x = Math.ceil(Math.max(0, from) / by) * by; x <= from + span; x += by) {
    const p = Math.round(px(x)) + 0.5;
    if (p < LEFT) continue;
    g.moveTo(p, 16); g.lineTo(p, tall);
    const t = timeAt(x);
    g.fillText(axis === 'time' ? (by < 1e3 && t >= 1e6 ? clock(t) : x === 0 ? '0' : lasts(x)) : lasts(t), p + 3, 9);
  }
  g.stroke();
}

function paintLane(lane, y) {
  if (lane.kind === 'host') {
    g.fillStyle = colors.within;
    g.fillRect(0, y, width, lane.h - 1);
    // A moment is told as far as the next one leaves room, and a phase where no moment is.
    const told = [];
    visible(moments, lane.moments, (i, x) => told.push({ i, x }));
    told.forEach((each, k) => {
      each.room = Math.min(260, (told[k + 1]?.x ?? Infinity) - each.x);
      each.to = each.x + Math.min(each.room, 6.1 * texts[moments.text[each.i]].length + 8);
    });
    visible(phases, lane.phases, (i, x, w) => {
      g.fillStyle = colors[PHASES[phases.which[i]]];
      g.globalAlpha = phases.polling[i] ? 0.25 : 0.8;
      g.fillRect(x, y + 19, Math.max(w, 1), 8);
      g.globalAlpha = 1;
      if (w > 60 && !told.some((each) => each.x < x + 30 && each.to > x)) clipped(phases.polling[i] ? 'poll' : PHASES[phases.which[i]], x, w, y + 11, colors.faint);
    });
    for (const { i, x, room } of told) {
      const good = ['started', 'stopped'].includes(texts[moments.text[i]]);
      const color = moments.choice[i] ? colors['mark-edge'] : good ? colors.good : colors.bad;
      g.fillStyle = color;
      g.fillRect(x - 1, y, 2.5, lane.h);
      clipped(texts[moments.text[i]], x, room, y + 11, moments.choice[i] ? colors.ink : color);
    }
    return;
  }
  const pad = 2;
  if (lane.lives) {
    visible(lives, lane.lives, (i, x, w) => {
      g.globalAlpha = lifeHit && !lifeHit[i] ? 0.3 : 1;
      g.fillStyle = taskColor(i, true);
      g.fillRect(x, y + pad, Math.max(w, 1), lane.h - 2 * pad);
      if (lives.how[i] === 1 && w > 2) { g.fillStyle = colors.bad; g.fillRect(x + w - 2, y + pad, 2, lane.h - 2 * pad); }
    });
    visible(waits, lane.waits, (i, x, w) => {
      const how = waits.how[i], mark = how === ERROR ? colors.bad : how === CANCELLED ? colors.timers : null;
      g.globalAlpha = lifeHit && !lifeHit[waits.life[i]] ? 0.3 : 1;
      if (mark && w > 6) { g.fillStyle = mark; g.fillRect(x + w - 3, y + pad, 2, lane.h - 2 * pad); }
      if (w < 40) return;
      const text = texts[waits.text[i]] || shortPlace(texts[waits.place[i]]);
      clipped(mark ? `${text}: ${texts[waits.error[i]] || 'cancelled'}` : text, x, w, y + lane.h / 2, mark ?? colors.faint);
    });
  }
  visible(steps, lane.steps, (i, x, w) => {
    const life = steps.life[i];
    g.globalAlpha = stepHit && !stepHit[i] ? 0.25 : 1;
    g.fillStyle = life >= 0 ? taskColor(life, false) : colors.micro;
    g.fillRect(x, y + pad, Math.max(w, 1.2), lane.h - 2 * pad);
    if (w > 40) clipped(`${life >= 0 ? taskName(life) + '  ' : ''}${shortPlace(texts[steps.place[i]])}`, x, w, y + lane.h / 2, colors.panel);
  });
  g.globalAlpha = 1;
}

const middleOf = (host) => hostLane[host].y - scroll + TOP + HEAD - 3;
function packetList() {
  const b = begins(packets), reach = longestPacket[axis];
  let low = 0, high = packetOrder.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (b[packetOrder[middle]] < from - reach) low = middle + 1; else high = middle;
  }
  const list = [];
  for (; low < packetOrder.length && b[packetOrder[low]] <= from + span; low++)
    if (ends(packets)[packetOrder[low]] >= from) list.push(packetOrder[low]);
  return list;
}
function packetLine(i) {
  const x = px(begins(packets)[i]), x2 = px(ends(packets)[i]);
  const y = middleOf(packets.from[i]), y2 = middleOf(packets.to[i]);
  if (packets.arrived[i]) return [x, y, x2, y2];
  const part = Math.min(1, 16 / Math.max(1, Math.abs(y2 - y)));
  return [x, y, Math.max(x + (x2 - x) * part, x + 3), y + (y2 - y) * part];
}
function paintPackets() {
  const list = packetList(), stride = Math.max(1, Math.ceil(list.length / 4000));  // more cannot be told apart
  for (const arrived of [1, 0]) {
    g.strokeStyle = arrived ? colors.poll : colors.bad;
    g.fillStyle = g.strokeStyle;
    g.globalAlpha = list.length > 600 ? 0.25 : list.length > 60 ? 0.4 : 0.7;
    g.lineWidth = arrived ? 1.2 : 1.6;
    g.beginPath();
    for (let k = 0; k < list.length; k += stride) {
      if (packets.arrived[list[k]] !== arrived) continue;
      const [x, y, x2, y2] = packetLine(list[k]);
      g.moveTo(x, y); g.lineTo(x2, y2);
      if (arrived) {
        if (list.length <= 300) head(x, y, x2, y2);
      } else {
        g.moveTo(x2 - 3, y2 - 3); g.lineTo(x2 + 3, y2 + 3); g.moveTo(x2 - 3, y2 + 3); g.lineTo(x2 + 3, y2 - 3);
      }
    }
    g.stroke();
  }
  g.globalAlpha = 1;
  g.lineWidth = 1;
}
function head(x, y, x2, y2) {
  const a = Math.atan2(y2 - y, x2 - x), r = 6;
  g.moveTo(x2 - r * Math.cos(a - 0.45), y2 - r * Math.sin(a - 0.45));
  g.lineTo(x2, y2);
  g.lineTo(x2 - r * Math.cos(a + 0.45), y2 - r * Math.sin(a + 0.45));
}
function paintNetwork() {
  for (let i = 0; i < moments.n; i++) {
    if (moments.host[i] >= 0) continue;
    const x = px(begins(moments)[i]);
    if (x < LEFT || x > width) continue;
    g.strokeStyle = texts[moments.text[i]].includes('cut') ? colors.bad : colors.good;
    g.setLineDash([5, 4]);
    g.beginPath(); g.moveTo(x, TOP); g.lineTo(x, tall); g.stroke();
    g.setLineDash([]);
    clipped(texts[moments.text[i]], x, 200, tall - 10, g.strokeStyle);
  }
}
function wakeLine(i) {
  const by = steps.wokenBy[i];
  const a = laneOfStep(by), b = laneOfStep(i);
  return [px(steps.readyBy[axis][i]), a.y + a.h / 2 - scroll + TOP, px(begins(steps)[i]), b.y + b.h / 2 - scroll + TOP];
}
function arrows(list, color, alpha) {
  g.strokeStyle = color;
  g.globalAlpha = alpha;
  g.beginPath();
  for (const i of list) {
    const [x, y, x2, y2] = wakeLine(i);
    g.moveTo(x, y);
    g.bezierCurveTo(x + 12, y, x2 - 12, y2, x2, y2);
    head(x2 - 12, y2, x2, y2);
  }
  g.stroke();
  g.globalAlpha = 1;
}
function paintWakes() {
  const seen = [];
  for (const lane of lanes) {
    if (!lane.steps || lane.y - scroll > tall || lane.y + lane.h < scroll) continue;
    visible(steps, lane.steps, (i) => { if (steps.wokenBy[i] >= 0) seen.push(i); });
    if (seen.length > 400) break;  // a tangle shows nothing
  }
  if (seen.length <= 400) arrows(seen, colors.faint, seen.length > 80 ? 0.35 : 0.6);
  if (chosen?.kind !== 'step') return;
  g.lineWidth = 2;
  if (steps.wokenBy[chosen.i] >= 0) arrows([chosen.i], colors['mark-edge'], 1);
  arrows(wakes.get(chosen.i) ?? [], colors.timers, 1);
  g.lineWidth = 1;
}
function paintChosen() {
  if (!chosen) return;
  g.strokeStyle = colors.ink;
  g.lineWidth = 2;
  if (chosen.kind === 'packet') {
    const [x, y, x2, y2] = packetLine(chosen.i);
    g.beginPath(); g.moveTo(x, y); g.lineTo(x2, y2); g.stroke();
  } else if (chosen.kind !== 'moment') {
    const set = setOf(chosen.kind), lane = chosen.kind === 'step' ? laneOfStep(chosen.i) : lanes[lifeLane[chosen.kind === 'life' ? chosen.i : waits.life[chosen.i]]];
    const x = px(begins(set)[chosen.i]), w = px(ends(set)[chosen.i]) - x;
    g.strokeRect(x - 1, lane.y - scroll + TOP + 1, Math.max(w, 2) + 2, lane.h - 2);
  }
  g.lineWidth = 1;
}
const setOf = (kind) => ({ step: steps, life: lives, wait: waits, packet: packets, moment: moments, phase: phases })[kind];

// The name of a lane: its host, or the task that has it in the middle of the view.
function paintNames() {
  g.fillStyle = colors.panel;
  g.fillRect(0, TOP, LEFT - 1, tall);
  g.strokeStyle = colors.rule;
  g.beginPath(); g.moveTo(LEFT - 0.5, TOP); g.lineTo(LEFT - 0.5, tall); g.stroke();
  const middle = from + span / 2;
  for (const lane of lanes) {
    const y = lane.y - scroll + TOP;
    if (y + lane.h < TOP || y > tall) continue;
    if (lane.kind === 'host') {
      g.fillStyle = colors.within;
      g.fillRect(0, y, LEFT - 1, lane.h - 1);
      g.font = 'bold 13px system-ui, sans-serif';
      g.fillStyle = colors.ink;
      g.fillText(lane.name, 10, y + lane.h / 2);
      g.font = '11px ui-monospace, "DejaVu Sans Mono", monospace';
      continue;
    }
    let text = lane.name;
    if (lane.lives) {
      let low = 0;
      for (let high = lane.lives.length; low < high;) {
        const half = (low + high) >> 1;
        if (begins(lives)[lane.lives[half]] <= middle) low = half + 1; else high = half;
      }
      const latest = lane.lives[low - 1];
      const at = latest !== undefined && ends(lives)[latest] >= middle ? latest : lane.lives.length === 1 ? lane.lives[0] : undefined;
      text = at === undefined ? `${lane.lives.length} tasks` : taskName(at, true);
    }
    g.fillStyle = colors.faint;
    const most = Math.floor((LEFT - 26) / 6.7);
    g.fillText(text.length > most ? text.slice(0, most - 1) + '\u2026' : text, 18, y + lane.h / 2);
  }
}

// ---------------------------------------------------------------- what is there

function hit(x, y) {
  if (x < LEFT) return null;
  const at = atPx(x), near = 3 * span / (width - LEFT);
  const row = y - TOP + scroll;
  const lane = lanes.find((l) => row >= l.y && row < l.y + l.h);
  const nearest = (set, list, reach = near) => {
    let best = null, least = Infinity;
    visible(set, list, (i) => {
      const away = Math.max(begins(set)[i] - at, at - ends(set)[i], 0);
      if (away <= reach && away < least) { least = away; best = i; }
    });
    return best;
  };
  const found = (kind, i) => i === null ? null : { kind, i };
  if (lane?.steps) {
    const step = found('step', nearest(steps, lane.steps));
    if (step) return step;
    if (lane.waits) return found('wait', nearest(waits, lane.waits, 0)) ?? found('life', nearest(lives, lane.lives, near));
  }
  let best = null, least = 5;
  for (const i of packetList()) {
    const [x1, y1, x2, y2] = packetLine(i);
    const dx = x2 - x1, dy = y2 - y1, square = dx * dx + dy * dy || 1;
    const t = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / square));
    const away = Math.hypot(x - x1 - t * dx, y - y1 - t * dy);
    if (away < least) { least = away; best = { kind: 'packet', i }; }
  }
  if (best || lane?.kind !== 'host') return best;
  return found('moment', nearest(moments, lane.moments)) ?? found('phase', nearest(phases, lane.phases));
}
function describe(what) {
  const { kind, i } = what, rows = [];
  const say = (name, value, go) => { if (value) rows.push([name, value, go]); };
  const lifeRows = (life) => {
    say('spawned', texts[lives.spawned[life]], lives.parent[life] >= 0 ? { kind: 'step', i: lives.parent[life] } : null);
    say('lives', `${clock(lives.begin[life])} + ${lasts(lives.end[life] - lives.begin[life])}`);
    say('runs', texts[lives.runs[life]]);
    say('ends', ended(life));
    say('failed at', texts[lives.failedAt[life]]);
    say('steps', String(stepsOfLife[life].length), { kind: 'step', i: stepsOfLife[life][0] });
  };
  const set = setOf(kind);
  const span = () => say('time', `${clock(set.begin[i])} + ${lasts(set.end[i] - set.begin[i])}`);
  switch (kind) {
    case 'step': {
      say('host', data.hosts[steps.host[i]]);
      span();
      say(steps.life[i] >= 0 ? 'goes on at' : 'made at', texts[steps.place[i]]);
      const wait = waitBefore(i);
      if (wait !== undefined) say('its wait ended', `${texts[waits.text[wait]] ? texts[waits.text[wait]] + ': ' : ''}${outcome(wait)}`, { kind: 'wait', i: wait });
      const by = steps.wokenBy[i];
      say('woken by', by >= 0 ? stepTitle(by) : steps.life[i] >= 0 ? 'a phase: I/O or a timer' : '', by >= 0 ? { kind: 'step', i: by } : null);
      if (steps.life[i] >= 0) say('was ready for', lasts(steps.begin[i] - steps.ready[i]));
      for (const k of (wakes.get(i) ?? []).slice(0, 20)) say('wakes', stepTitle(k), { kind: 'step', i: k });
      if (steps.life[i] >= 0) lifeRows(steps.life[i]);
      return [stepTitle(i), rows];
    }
    case 'wait':
      say('host', data.hosts[waits.host[i]]);
      say('waits for', texts[waits.text[i]]);
      say('at', texts[waits.place[i]]);
      span();
      say('it ends', outcome(i));
      lifeRows(waits.life[i]);
      return [taskName(waits.life[i]), rows];
    case 'life': say('host', data.hosts[lives.host[i]]); lifeRows(i); return [taskName(i), rows];
    case 'packet':
      say('from', `${data.hosts[packets.from[i]]}:${packets.sourcePort[i]}`);
      say('to', `${data.hosts[packets.to[i]]}:${packets.port[i]}`);
      span();
      say('fate', packets.arrived[i] ? 'arrived' : 'lost');
      return [packetTitle(i), rows];
    case 'phase':
      say('host', data.hosts[phases.host[i]]);
      span();
      if (phases.polling[i]) say('completions', String(phases.completions[i]));
      return [phases.polling[i] ? 'wait in poll' : PHASES[phases.which[i]], rows];
    case 'moment':
      say('host', moments.host[i] >= 0 ? data.hosts[moments.host[i]] : 'the network');
      say('time', clock(moments.begin[i]));
      if (moments.choice[i]) say('decision', 'the world could have taken 0, which is benign, and did not');
      return [texts[moments.text[i]], rows];
  }
}
function panelOf(title, rows, cls) {
  const list = make('dl', cls);
  for (const [name, value, target, place] of rows) {
    const dd = make('dd');
    if (target) {
      const link = make('button', '', value);
      link.onclick = () => select(target, true);
      dd.append(link);
    } else {
      dd.textContent = value;
    }
    if (place) dd.append(make('small', '', shortPlace(place)));
    list.append(make('dt', '', name), dd);
  }
  $('details').append(make('h2', '', title), list);
}
function select(what, go = false) {
  chosen = what && what.i !== undefined ? what : null;
  $('details').hidden = !chosen;
  $('details').textContent = '';
  if (chosen) {
    panelOf(...describe(chosen));
    if (go) reveal();
  }
  draw();
}

// What went wrong: the tasks that ended with an error, and the decisions of the world that are not benign; of a run that
// was shrunk, those that it needs to fail.
const failures = indicesWhere(lives, (i) => lives.how[i] === ERROR);
const decisions = indicesWhere(moments, (i) => moments.choice[i] > 0);
function indicesWhere(set, is) {
  const found = [];
  for (let i = 0; i < set.n; i++) if (is(i)) found.push(i);
  return found;
}
function summary() {
  if (!failures.length && !decisions.length) return;
  select(null);
  $('details').hidden = false;
  $('details').append(make('p', '', data.title));
  const most = 200;  // more are not read
  if (failures.length)
    panelOf(count(failures.length, 'error'), failures.slice(0, most).map((i) => [taskName(i), texts[lives.error[i]] || FATES[ERROR], { kind: 'life', i },
      texts[lives.failedAt[i]]]), 'wide');
  if (decisions.length)
    panelOf(`${count(decisions.length, 'decision')}, not benign`, decisions.slice(0, most).map((i) => {
      const [name, what] = texts[moments.text[i]].split(/: (.*)/);
      return [name, what, { kind: 'moment', i }];
    }));
}
function reveal() {
  const set = setOf(chosen.kind), b = begins(set)[chosen.i], e = ends(set)[chosen.i];
  if (e - b < span / 2000) span = Math.max((e - b) * 40, axis === 'time' ? 400 : 40);
  if (b < from + span * 0.1 || e > from + span * 0.9) from = (b + e) / 2 - span / 2;
  const lane = chosen.kind === 'step' ? laneOfStep(chosen.i) : chosen.kind === 'wait' ? lanes[lifeLane[waits.life[chosen.i]]]
    : chosen.kind === 'life' ? lanes[lifeLane[chosen.i]] : chosen.kind === 'packet' ? hostLane[packets.from[chosen.i]] : null;
  if (lane && (lane.y < scroll + 20 || lane.y > scroll + tall - TOP - 60)) scroll = lane.y - tall / 2;
}
function sibling(by) {
  const life = chosen?.kind === 'step' ? steps.life[chosen.i] : chosen?.kind === 'wait' ? waits.life[chosen.i] : chosen?.kind === 'life' ? chosen.i : -1;
  if (life < 0 || !stepsOfLife[life].length) return;
  const list = stepsOfLife[life], set = setOf(chosen.kind), here = set.begin[chosen.i];
  const after = firstAbove(list.map((i) => steps.begin[i]), here);
  const n = by > 0 ? after : list.findLastIndex((i) => steps.begin[i] < here);
  if (list[n] !== undefined) select({ kind: 'step', i: list[n] }, true);
}

// ---------------------------------------------------------------- controls

let drag = null;
canvas.addEventListener('pointerdown', (e) => {
  drag = { x: e.clientX, y: e.clientY, from, scroll, moved: false };
  canvas.setPointerCapture(e.pointerId);
  canvas.focus({ preventScroll: true });
});
canvas.addEventListener('pointermove', (e) => {
  if (drag) {
    const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag.moved = true;
    canvas.classList.add('drag');
    from = drag.from - dx / (width - LEFT) * span;
    scroll = drag.scroll - dy;
    return draw();
  }
  const what = hit(e.offsetX, e.offsetY);
  if (!what) { $('hover').textContent = e.offsetX > LEFT ? clock(Math.max(0, timeAt(atPx(e.offsetX)))) : ''; return; }
  const [title, rows] = describe(what);
  $('hover').textContent = `${title} \u00b7 ${rows.filter(([n]) => n !== 'host').slice(0, 3).map(([n, v]) => `${n} ${n.includes('at') || n === 'spawned' ? shortPlace(v) : v}`).join(' \u00b7 ')}`;
});
canvas.addEventListener('pointerup', (e) => {
  if (drag && !drag.moved) select(hit(e.offsetX, e.offsetY));
  drag = null;
  canvas.classList.remove('drag');
});
canvas.addEventListener('wheel', (e) => {
  e.preventDefault();
  const by = e.deltaMode === 1 ? 30 : 1;
  if (e.shiftKey) { scroll += (e.deltaY || e.deltaX) * by; return draw(); }
  if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) { from += e.deltaX * by / (width - LEFT) * span; return draw(); }
  zoom(Math.exp(e.deltaY * by * 0.002), e.offsetX);
}, { passive: false });

function switchAxis() {
  const left = timeAt(from), right = timeAt(from + span);
  const whole = span >= last() * 0.98;
  axis = axis === 'time' ? 'order' : 'time';
  $('axis').textContent = axis === 'time' ? 'by time' : 'by order';
  if (whole) return fit();
  const x = (t) => axis === 'time' ? t : rank(t);
  from = x(left);
  span = x(right) - from;
  draw();
}
// The address says what is shown, so that it can be shown again.
function note() {
  const say = { axis, from: Math.round(from), span: Math.round(span), scroll: Math.round(scroll) };
  if (words) say.search = words;
  if (chosen) say[chosen.kind] = chosen.i;
  history.replaceState(null, '', '#' + new URLSearchParams(say));
}
function recall() {
  const say = new URLSearchParams(location.hash.slice(1));
  if (['time', 'order'].includes(say.get('axis')) && say.get('axis') !== axis) switchAxis();
  if (say.has('search')) search($('search').value = say.get('search'));
  for (const kind of ['step', 'life', 'wait', 'packet', 'moment', 'phase']) {
    const i = Number(say.get(kind));
    if (say.has(kind) && i >= 0 && i < setOf(kind).n) select({ kind, i }, !say.has('from'));
  }
  if (say.get('span') > 0) { from = Number(say.get('from')); span = Number(say.get('span')); }
  scroll = Number(say.get('scroll') ?? scroll);
}
const pan = (part) => () => { from += span * part; draw(); };
const rows = (by) => () => { scroll += by; draw(); };
const keys = {
  w: () => zoom(0.7), s: () => zoom(1 / 0.7), '+': () => zoom(0.7), '=': () => zoom(0.7), '-': () => zoom(1 / 0.7),
  a: pan(-0.15), d: pan(0.15), ArrowLeft: pan(-0.15), ArrowRight: pan(0.15), ArrowUp: rows(-60), ArrowDown: rows(60),
  PageUp: rows(-400), PageDown: rows(400), f: fit, 0: fit, o: switchAxis, '[': () => sibling(-1), ']': () => sibling(1),
  p: () => { if (chosen?.kind === 'step' && steps.wokenBy[chosen.i] >= 0) select({ kind: 'step', i: steps.wokenBy[chosen.i] }, true); },
  e: summary, n: () => nextMatch(1), N: () => nextMatch(-1), '/': () => $('search').focus(), '?': () => $('keys').showModal(),
  Escape: () => { $('search').value = ''; search(''); select(null); },
};
addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.altKey || e.metaKey || $('keys').open) return;
  if (e.target === $('search')) {
    if (e.key === 'Enter') nextMatch(e.shiftKey ? -1 : 1);
    else if (e.key === 'Escape') { keys.Escape(); canvas.focus(); }
    else return;
  } else if (keys[e.key]) {
    keys[e.key]();
  } else {
    return;
  }
  e.preventDefault();
});
$('search').oninput = () => search($('search').value);
$('axis').onclick = switchAxis;
$('summary').onclick = summary;
$('fit').onclick = fit;
$('help').onclick = () => $('keys').showModal();
$('theme').onclick = () => { theme(); readColors(); draw(); };
addEventListener('resize', draw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { readColors(); draw(); });

document.title = `${data.title} \u00b7 rondo timeline`;
$('title').title = data.title;
const count = (n, word) => `${n.toLocaleString('en')} ${word}${n === 1 ? '' : 's'}`;
$('title').textContent = [data.title, count(steps.n, 'step'), count(lives.n, 'task'),
  ...(packets.n ? [count(packets.n, 'packet')] : []),
  ...(data.dropped ? [`the ${count(data.dropped, 'event')} before are not kept`] : [])].join(' \u00b7 ');
$('axis').textContent = `by ${axis}`;
$('summary').textContent = [...(failures.length ? [count(failures.length, 'error')] : []),
  ...(decisions.length ? [count(decisions.length, 'decision')] : [])].join(', ');
$('summary').hidden = !$('summary').textContent;
readColors();
fit();
summary();
recall();
paint();
