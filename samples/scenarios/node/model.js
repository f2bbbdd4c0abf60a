'use strict';
// The rules of the README as a program: a loop on a virtual clock, without Node's own. Only promises
// are V8's. It tells whether Node and rondo differ for a known reason or because one is wrong.
//   node --expose-internals --no-deprecation --no-warnings model.js rules|node CASES.jsonl
//     rules   timers by expiry, then by age; due ones are collected before the first one runs
//     node    timers as Node 20 keeps them: one list per duration, one libuv timer for all lists
// Prints what scenario-node.js --batch prints.
const fs = require('fs');
const { internalBinding } = require('internal/test/binding');
const { runMicrotasks } = internalBinding('task_queue');
const { block } = require('./scenario-node.js');

// What JavaScript sees of a loop, and everything but timers.
class Loop {
  constructor() {
    this.clock = 0;
    this.ticks = [];
    this.immediates = [];
    this.ready = [];                       // descriptors, first readied first
    this.closing = [];
    this.timers = this.makeTimers();
  }

  // After each callback: all ticks, all microtasks, and again.
  drain() {
    do {
      while (this.ticks.length) this.ticks.shift()();
      runMicrotasks();
    } while (this.ticks.length);
  }
  call(f) { f(); this.drain(); }

  alive() {
    return this.timers.keepAlive() || this.immediates.some((i) => i.refed) ||
      this.ready.length > 0 || this.closing.length > 0;
  }
  run(main) {
    this.call(main);
    if (!this.alive()) return;
    this.timers.run();
    do {
      this.poll();
      this.check();
      this.close();
      this.timers.run();
    } while (this.alive());
  }
  poll() {
    const found = this.ready;
    this.ready = [];
    const mayWait = !found.length && !this.closing.length && this.alive() &&
      !this.immediates.some((i) => i.refed);
    if (mayWait) this.clock += this.timers.timeout();
    this.timers.polled();
    for (const f of found) this.call(f);
  }
  check() {
    const round = this.immediates;
    this.immediates = [];
    for (const i of round) if (i.active) { i.active = false; this.call(i.f); }
  }
  close() {
    const round = this.closing;
    this.closing = [];
    for (const f of round.reverse()) this.call(f);
  }
}

// What setTimeout and its like return.
class Handle {
  constructor(f) { this.f = f; this.active = true; this.refed = true; }
  unref() { this.refed = false; }
  ref() { this.refed = true; }
}
const delay = (ms) => (ms >= 1 && ms <= 2147483647 ? Math.trunc(ms) : 1);

class TimersByRule {
  constructor(loop) { this.loop = loop; this.armed = []; this.made = 0; }
  start(h) {
    h.expiry = h.start + h.ms;
    h.number = this.made++;
    this.armed.push(h);
  }
  add(f, ms, repeats) {
    const h = new Handle(f);
    Object.assign(h, { ms: delay(ms), repeats, start: this.loop.clock });
    this.start(h);
    return h;
  }
  remove(h) { h.active = false; this.armed = this.armed.filter((x) => x !== h); }
  keepAlive() { return this.armed.some((h) => h.refed); }
  timeout() {
    return this.armed.length ? Math.max(0, Math.min(...this.armed.map((h) => h.expiry)) - this.loop.clock) : 0;
  }
  polled() {}
  run() {
    const due = this.armed.filter((h) => h.expiry <= this.loop.clock);
    due.sort((a, b) => a.expiry - b.expiry || a.number - b.number);
    this.armed = this.armed.filter((h) => h.expiry > this.loop.clock);
    for (const h of due) {
      if (!h.active) continue;
      h.start = this.loop.clock;
      if (!h.repeats) h.active = false;
      h.f();
      if (h.repeats && h.active) this.start(h);
      this.loop.drain();
    }
  }
}

// Node's lib/internal/timers.js and Environment::RunTimers, over libuv 1.46's uv__run_timers.
class TimersAsInNode {
  constructor(loop) {
    this.loop = loop;
    this.time = 0;                         // loop->time: what libuv believes the clock says
    this.lists = new Map();                // by duration
    this.listId = 0;
    this.nextExpiry = Infinity;
    this.refs = 0;
    this.uv = { at: null, refed: false };  // the one libuv timer
  }
  now() { return (this.time = this.loop.clock); }
  schedule(ms) { this.uv.at = this.time + ms; }
  first() {
    let best = null;
    for (const l of this.lists.values())
      if (!best || l.expiry < best.expiry || (l.expiry === best.expiry && l.id < best.id)) best = l;
    return best;
  }
  count(by) {
    this.refs += by;
    if (by > 0 && this.refs === 1) this.uv.refed = true;
    if (by < 0 && this.refs === 0) this.uv.refed = false;
  }
  insert(h, start = this.now()) {
    h.start = start;
    let list = this.lists.get(h.ms);
    if (!list) {
      list = { ms: h.ms, expiry: start + h.ms, id: this.listId++, timers: [] };
      this.lists.set(h.ms, list);
      if (this.nextExpiry > list.expiry) { this.schedule(h.ms); this.nextExpiry = list.expiry; }
    }
    list.timers.push(h);
  }
  add(f, ms, repeats) {
    const timers = this;
    const h = new Handle(f);
    Object.assign(h, { ms: delay(ms), repeats });
    h.unref = () => { if (h.refed) { h.refed = false; if (h.active) timers.count(-1); } };
    h.ref = () => { if (!h.refed) { h.refed = true; if (h.active) timers.count(1); } };
    this.count(1);
    this.insert(h);
    return h;
  }
  remove(h) {
    if (!h.active) return;
    h.active = false;
    const list = this.lists.get(h.ms);
    const at = list ? list.timers.indexOf(h) : -1;
    if (at >= 0) list.timers.splice(at, 1);
    if (h.refed) {
      if (list && !list.timers.length) this.lists.delete(h.ms);
      this.count(-1);
    }
  }
  keepAlive() { return this.uv.at !== null && this.uv.refed; }
  timeout() {
    return this.uv.at === null ? 0 : Math.max(0, this.uv.at - this.loop.clock);
  }
  polled() { this.now(); }
  run() {
    this.now();
    while (this.uv.at !== null && this.uv.at <= this.time) {
      this.uv.at = null;
      const expiry = this.process(this.now());
      if (expiry !== 0) this.schedule(Math.max(1, Math.abs(expiry) - this.time));
      this.uv.refed = expiry > 0;
      this.loop.drain();                   // of the last timer: it may make libuv look again
    }
  }
  process(now) {
    this.nextExpiry = Infinity;
    let ran = false, list;
    while ((list = this.first())) {
      if (list.expiry > now) {
        this.nextExpiry = list.expiry;
        return this.refs > 0 ? list.expiry : -list.expiry;
      }
      if (ran) this.loop.drain();
      ran = true;
      this.runList(list, now);
    }
    return 0;
  }
  runList(list, now) {
    let ran = false, h;
    while ((h = list.timers[0])) {
      if (now - h.start < list.ms) {
        list.expiry = Math.max(h.start + list.ms, now + 1);
        list.id = this.listId++;
        return;
      }
      if (ran) this.loop.drain();
      ran = true;
      // Node looked at the timer before that drain, which may have cleared it.
      if (!h.active) continue;
      list.timers.shift();
      const start = h.repeats ? this.now() : 0;
      h.f();
      if (h.repeats && h.active) {
        this.insert(h, start);
      } else if (h.active) {
        h.active = false;
        if (h.refed) this.refs--;
      }
    }
    if (this.lists.get(list.ms) === list) this.lists.delete(list.ms);
  }
}

function play(sc, Timers) {
  const loop = new (class extends Loop { makeTimers() { return new Timers(this); } })();
  const out = [];
  const H = Object.create(null), P = Object.create(null), D = Object.create(null);
  const env = {
    H, P, D,
    L: (s) => { out.push(s); },
    process: { nextTick: (f) => { loop.ticks.push(f); } },
    setTimeout: (f, ms) => loop.timers.add(f, ms, false),
    setInterval: (f, ms) => loop.timers.add(f, ms, true),
    setImmediate: (f) => { const h = new Handle(f); h.immediate = true; loop.immediates.push(h); return h; },
    defer: (n) => { P[n] = new Promise((resolve, reject) => { D[n] = { resolve, reject }; }); },
    clear: (h) => {
      if (!h) return;
      if (!h.immediate) loop.timers.remove(h);
      h.active = false;
      if (h.immediate) loop.immediates = loop.immediates.filter((x) => x !== h);
    },
    spin: (ms) => { loop.clock += ms; },
    closeHandle: (f) => { loop.closing.push(f); },
    io: (f) => { loop.ready.push(f); },
  };
  const prog = new Function(...Object.keys(env), block(sc.prog, false, 0)).bind(null, ...Object.values(env));
  const start = { main: prog,
    check: () => env.setImmediate(prog),
    timer: () => env.setImmediate(() => env.setTimeout(prog, 1)),
    poll: () => env.setImmediate(() => env.io(prog)) }[sc.start || 'main'];
  loop.run(start);
  return out;
}

process.on('unhandledRejection', () => {});
const Timers = { rules: TimersByRule, node: TimersAsInNode }[process.argv[2]];
for (const line of fs.readFileSync(process.argv[3] === '-' ? 0 : process.argv[3], 'utf8').split('\n').filter(Boolean)) {
  const sc = JSON.parse(line);
  process.stdout.write(JSON.stringify({ id: sc.id, labels: play(sc, Timers) }) + '\n');
}
