'use strict';
// Runs one ordering scenario (format: README.md) on real Node and prints its labels.
//   node --no-deprecation scenario-node.js FILE.json            one scenario object
//   node --no-deprecation scenario-node.js CASES.jsonl ID       one line of a JSON-lines file
//   node --no-deprecation scenario-node.js - < FILE.json        from stdin
//   add --print to see the JavaScript program the scenario stands for
//   add --batch to run every line of CASES.jsonl in this one process: one JSON line each,
//     {"id":..., "labels":[...], "tags":[...]}; the next starts when the loop has emptied
//   add --json to print one such line, {"id":..., "labels":[...]}, for a single scenario too
//   add --vclock to run real-clock scenarios on the virtual clock
// A scenario with "clock":"virtual" (and --vclock) needs LD_PRELOAD=vclock.so (see README.md).
const fs = require('fs');

// ---------------------------------------------------------------- compiler
function fail(m) { throw new Error('bad scenario: ' + m); }
const js = JSON.stringify;
const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;
function nm(s) { if (typeof s !== 'string' || !NAME.test(s)) fail('name ' + js(s)); return s; }
function num(n) { if (!Number.isFinite(n)) fail('number ' + js(n)); return String(n); }
function pad(d) { return '  '.repeat(d); }

function block(b, asy, d) {
  if (!Array.isArray(b)) fail('block ' + js(b));
  return b.map((s) => pad(d) + stmt(s, asy, d) + '\n').join('');
}
function fn(b, d) { return `() => {\n${block(b, false, d + 1)}${pad(d)}}`; }
function afn(b, d) { return `(async () => {\n${block(b, true, d + 1)}${pad(d)}})()`; }

function stmt(s, asy, d) {
  const [op, a, b, c, e] = s;
  switch (op) {
    case 'log': return `L(${js(a)});`;
    case 'tick': return `process.nextTick(${fn(a, d)});`;
    case 'micro': return `queueMicrotask(${fn(a, d)});`;
    case 'imm': return `${b ? `H.${nm(b)} = ` : ''}setImmediate(${fn(a, d)});`;
    case 'timer': return `${c ? `H.${nm(c)} = ` : ''}setTimeout(${fn(b, d)}, ${num(a)});`;
    case 'every': // ms, times, block, handle
      return `{ let n = 0; H.${nm(e)} = setInterval(() => {\n${block(c, false, d + 1)}` +
             `${pad(d + 1)}if (++n >= ${num(b)}) clear(H.${nm(e)});\n${pad(d)}}, ${num(a)}); }`;
    case 'clear': return `clear(H.${nm(a)});`;
    case 'unref': return `if (H.${nm(a)}) H.${nm(a)}.unref();`;
    case 'ref': return `if (H.${nm(a)}) H.${nm(a)}.ref();`;
    case 'io': return `io(${fn(a, d)});`;
    case 'close': return `closeHandle(${fn(a, d)});`;
    case 'spin': return `spin(${num(a)});`;
    case 'do': return `${expr(a, d)};`;
    case 'let': return `P.${nm(a)} = ${expr(b, d)};`;
    case 'new': return `defer(${js(nm(a))});`;
    case 'resolve': return `D.${nm(a)}.resolve(${b ? expr(b, d) : ''});`;
    case 'reject': return `D.${nm(a)}.reject(new Error(${js(b)}));`;
  }
  if (!asy) fail(`statement ${js(op)} here`);
  switch (op) {
    case 'await': return `await ${expr(a, d)};`;
    case 'ret': return `return ${a ? expr(a, d) : ''};`;
    case 'throw': return `throw new Error(${js(a)});`;
    case 'try': // block, catch block or null, finally block or null
      return `try {\n${block(a, true, d + 1)}${pad(d)}}` +
             (b ? ` catch {\n${block(b, true, d + 1)}${pad(d)}}` : '') +
             (c ? ` finally {\n${block(c, true, d + 1)}${pad(d)}}` : '');
  }
  fail(`statement ${js(op)}`);
}

function expr(p, d) {
  const [k, a, b] = p;
  const list = () => '[' + a.map((x) => expr(x, d)).join(', ') + ']';
  switch (k) {
    case 'val': return '0';
    case 'res': return 'Promise.resolve()';
    case 'rej': return `Promise.reject(new Error(${js(a)}))`;
    case 'p': return `P.${nm(a)}`;
    case 'call': return afn(a, d);
    case 'thenable': return '({ then(r) { r(); } })';
    case 'via':
      switch (a) {
        case 'tick': return 'new Promise((r) => process.nextTick(r))';
        case 'micro': return 'new Promise((r) => queueMicrotask(r))';
        case 'imm': return 'new Promise((r) => setImmediate(r))';
        case 'timer': return `new Promise((r) => setTimeout(r, ${num(b)}))`;
        case 'io': return 'new Promise((r) => io(() => r()))';
        case 'close': return 'new Promise((r) => closeHandle(() => r()))';
      }
      return fail(`via ${js(a)}`);
    case 'then': return `${expr(a, d)}.then(${fn(b, d)})`;
    case 'thenret': return `${expr(a, d)}.then(() => ${expr(b, d)})`;
    case 'catch': return `${expr(a, d)}.catch(${fn(b, d)})`;
    case 'finally': return `${expr(a, d)}.finally(${fn(b, d)})`;
    case 'all': return `Promise.all(${list()})`;
    case 'race': return `Promise.race(${list()})`;
    case 'any': return `Promise.any(${list()})`;
    case 'settled': return `Promise.allSettled(${list()})`;
  }
  fail(`expression ${js(k)}`);
}

function count(x, what) {  // how many times an op word appears in op position
  if (!Array.isArray(x)) return 0;
  let n = x[0] === what || (x[0] === 'via' && x[1] === what) ? 1 : 0;
  for (const y of x) n += count(y, what);
  return n;
}
function ioNeeded(x) {     // upper bound on io arms, counting an interval's body times its runs
  if (!Array.isArray(x)) return 0;
  let n = x[0] === 'io' || (x[0] === 'via' && x[1] === 'io') ? 1 : 0;
  for (const y of x) n += ioNeeded(y);
  return x[0] === 'every' ? n * x[2] : n;
}

// ---------------------------------------------------------------- runtime
let virtual = false;
let TCP, TCPSOCKET;
function closeFn(cb) {
  const h = new TCP(TCPSOCKET);
  h.close(cb);
}
const pool = [];                       // connected pairs of unix sockets
function makePairs(n, done) {
  if (n === 0) return done();
  const net = require('net');
  const addr = '\0scenario-' + process.pid;
  let cli;
  const server = net.createServer((srv) => {
    const pr = { srv, cb: null, cliFd: cli._handle.fd, cli };
    srv.on('data', () => pr.cb());
    cli.unref(); srv.unref();
    pool.push(pr);
    if (pool.length < n) return next();
    server.close(); server.unref();
    setTimeout(done, 5);               // let everything settle first
  });
  const next = () => { cli = net.connect(addr); };
  server.listen(addr, next);
}

// Everything one run of one scenario owns.
function instance(sc) {
  const out = [], tags = new Set();
  const H = Object.create(null), P = Object.create(null), D = Object.create(null);
  const made = [];
  let arming = 0, closing = 0;
  const env = {
    H, P, D,
    L: (s) => { out.push(s); },
    setTimeout: (f, ms) => { const t = setTimeout(f, ms); made.push(t); return t; },
    setInterval: (f, ms) => { const t = setInterval(f, ms); made.push(t); return t; },
    setImmediate: (f) => { const t = setImmediate(f); made.push(t); return t; },
    defer: (n) => { P[n] = new Promise((resolve, reject) => { D[n] = { resolve, reject }; }); },
    clear: (h) => {
      if (!h) return;
      if (h.constructor.name === 'Immediate') clearImmediate(h); else clearTimeout(h);
    },
    spin: (ms) => {
      if (virtual) { fs.accessSync('/.vclock/adv/' + ms); return; }
      const t = process.hrtime.bigint() + BigInt(ms) * 1000000n;
      while (process.hrtime.bigint() < t);
    },
    closeHandle: (cb) => {
      if (++closing > 1) tags.add('close-multi');
      closeFn(() => { closing--; cb(); });
    },
    io: (cb) => {
      const pr = pool.shift();
      if (!pr) fail('more io than prepared');
      if (++arming > 1) tags.add('io-multi');
      pr.srv.ref();
      pr.cb = () => { arming--; pr.srv.unref(); pool.push(pr); cb(); };
      fs.writeSync(pr.cliFd, 'x');     // a unix socket: readable at once
    },
  };
  const keys = Object.keys(env);
  const prog = new Function(...keys, block(sc.prog, false, 0)).bind(null, ...keys.map((k) => env[k]));
  return {
    out, tags,
    prepare() { if (virtual) fs.accessSync('/.vclock/on'); },
    start() {
      const start = sc.start || 'main';
      if (start === 'main') prog();
      else if (start === 'check') env.setImmediate(prog);
      else if (start === 'timer') env.setTimeout(prog, 1);
      else if (start === 'poll') env.io(prog);
      else fail('start ' + js(start));
    },
    alive() {
      return arming > 0 || closing > 0 ||
        process.getActiveResourcesInfo().some((r) => r === 'Timeout' || r === 'Immediate');
    },
    end() { for (const h of made) { if (h.hasRef() === false) h.ref(); env.clear(h); } },
  };
}

function main() {
  const args = process.argv.slice(2).filter((a) => !a.startsWith('--'));
  const flags = new Set(process.argv.slice(2).filter((a) => a.startsWith('--')));
  const text = fs.readFileSync(args[0] === '-' || !args[0] ? 0 : args[0], 'utf8');
  const batch = flags.has('--batch');
  let scs;
  if (batch) scs = text.split('\n').filter(Boolean).map((l) => JSON.parse(l));
  else if (args[1]) {
    scs = text.split('\n').filter(Boolean).map((l) => JSON.parse(l)).filter((s) => s.id === args[1]);
    if (!scs.length) fail('no such id');
  } else scs = [JSON.parse(text)];
  if (flags.has('--print')) { for (const s of scs) process.stdout.write(block(s.prog, false, 0)); return; }
  const single = (c) => (flags.has('--json') ? JSON.stringify({ id: scs[0].id, labels: c.out }) : c.out.join(' ')) + '\n';
  virtual = flags.has('--vclock') || scs.some((s) => s.clock === 'virtual');
  if (virtual && !/vclock/.test(process.env.LD_PRELOAD || '')) fail('needs vclock.so preloaded');
  process.on('unhandledRejection', () => {});
  if (scs.some((s) => count(s.prog, 'close') > 0)) {
    const t = process.binding('tcp_wrap');
    TCP = t.TCP; TCPSOCKET = t.constants.SOCKET;
    new TCP(TCPSOCKET).close();        // warm up
  }
  let pairs = 0;
  for (const s of scs) {
    const n = ioNeeded(s.prog) + (s.start === 'poll' ? 1 : 0);
    if (n && s.start === 'main' && !batch) fail('io needs a start other than main');
    pairs = Math.max(pairs, n);
  }
  let cur = null;
  if (!batch && (scs[0].start || 'main') === 'main') {
    cur = instance(scs[0]);            // really from the main program
    process.on('exit', () => process.stdout.write(single(cur)));
    cur.prepare();
    cur.start();
    return;
  }
  makePairs(pairs, () => {
    let i = 0;
    const report = () => {
      cur.end();
      if (batch) process.stdout.write(JSON.stringify({ id: scs[i - 1].id, labels: cur.out, tags: [...cur.tags] }) + '\n');
      else process.stdout.write(single(cur));
      cur = null;
    };
    // The loop has emptied: report, then start the next one. This event is
    // emitted outside the loop, so a "main" start is as from a main program.
    process.on('beforeExit', () => {
      if (cur) report();
      while (i < scs.length) {
        cur = instance(scs[i++]);
        const me = cur;
        if (i === 1) me.prepare();
        if ((scs[i - 1].start || 'main') !== 'main') {
          setImmediate(() => me.start());
          return;
        }
        me.start();
        process._tickCallback();       // what Node does when this handler returns
        if (me.alive()) return;
        report();                      // nothing left for the loop to do
      }
    });
  });
}
if (require.main === module) main();
module.exports = { block };
