#!/usr/bin/env node
'use strict';
// Records what real Node 20 prints for the scenarios of this folder, as their "expect".
//   node record.js [--check] [--runs N] [FILE.jsonl...]      all files of the folder by default
// Each scenario runs in processes of its own: those of the real clock N times (20), those of the virtual
// clock twice. One that does not print the same each time is refused: nothing is written then.
// --check writes nothing and says what would change; exit code 1 if anything would, or was refused.
const fs = require('fs');
const os = require('os');
const path = require('path');
const { execFileSync, execFile } = require('child_process');

const here = __dirname;
const runner = path.join(here, 'node', 'scenario-node.js');

function buildClock(dir) {
  const library = path.join(dir, 'vclock.so');
  execFileSync(process.env.CC || 'cc',
    ['-O2', '-shared', '-fPIC', '-o', library, path.join(here, 'node', 'vclock.c'), '-ldl'], { stdio: 'inherit' });
  return library;
}

// One run in a process of its own: the labels as JSON text.
function run(scenario, file, clock) {
  const env = { ...process.env };
  if (scenario.clock === 'virtual') env.LD_PRELOAD = clock;
  return new Promise((resolve, reject) => {
    execFile(process.execPath, ['--no-deprecation', '--no-warnings', runner, file, '--json'],
      { env, timeout: 60000, maxBuffer: 1 << 26 }, (error, out, err) => {
        if (error) reject(new Error(err || error.message));
        else resolve(JSON.stringify(JSON.parse(out).labels));
      });
  });
}

async function record(scenario, runs, dir, clock) {
  const file = path.join(dir, 'scenario.json');
  fs.writeFileSync(file, JSON.stringify(scenario));
  const seen = new Map();
  for (let left = scenario.clock === 'virtual' ? 2 : runs; left > 0; left -= 2) {
    const pair = await Promise.all([run(scenario, file, clock), run(scenario, file, clock)]);
    for (const labels of pair) seen.set(labels, (seen.get(labels) || 0) + 1);
  }
  if (seen.size === 1) return JSON.parse([...seen.keys()][0]);
  const all = [...seen].map(([labels, times]) => `    ${times} times ${labels}`).join('\n');
  throw new Error(`not the same each time:\n${all}`);
}

async function main() {
  const args = process.argv.slice(2);
  const check = args.includes('--check');
  const runs = args.includes('--runs') ? Number(args[args.indexOf('--runs') + 1]) : 20;
  const named = args.filter((a, i) => !a.startsWith('--') && args[i - 1] !== '--runs');
  const files = named.length ? named :
    fs.readdirSync(here).filter((f) => f.endsWith('.jsonl')).sort().map((f) => path.join(here, f));
  if (!process.version.startsWith('v20.')) throw new Error(`this is Node ${process.version}; expectations are Node 20's`);

  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'record-'));
  let changed = 0, refused = 0, total = 0;
  try {
    const clock = buildClock(dir);
    for (const file of files) {
      const lines = [];
      for (const line of fs.readFileSync(file, 'utf8').split('\n').filter((l) => l.trim())) {
        const scenario = JSON.parse(line);
        const was = JSON.stringify(scenario.expect);
        total++;
        try {
          scenario.expect = await record(scenario, runs, dir, clock);
        } catch (e) {
          refused++;
          console.error(`${path.basename(file)}: ${scenario.id}: ${e.message}`);
        }
        if (JSON.stringify(scenario.expect) !== was) {
          changed++;
          console.log(`${path.basename(file)}: ${scenario.id}: ${was || 'nothing'} -> ${JSON.stringify(scenario.expect)}`);
        }
        lines.push(JSON.stringify(scenario) + '\n');
      }
      if (!check && !refused) fs.writeFileSync(file, lines.join(''));
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
  console.log(`${total} scenarios, ${changed} changed, ${refused} refused, with Node ${process.version}`);
  process.exitCode = refused || (check && changed) ? 1 : 0;
}

main().catch((e) => { console.error(e.message); process.exitCode = 2; });
